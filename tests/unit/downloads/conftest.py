"""A hub on this computer with the tiny model under a published name, and a folder to download into."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from janus_core.downloads import download
from janus_core.options import OnStep

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
sys.path.insert(0, str(Path(__file__).parents[2] / "hub"))

from fake_hub import FakeHub, files_of

NAME = "Janus-Pro-1B"
PREFERRED, OTHER = "deepseek-community/Janus-Pro-1B", "deepseek-ai/Janus-Pro-1B"
# What a repository has besides and nobody wants: code, pictures, other formats of the same weights.
DECOYS = {
    "README.md": b"# Janus",
    ".gitattributes": b"*.bin filter=lfs",
    "modeling_janus.py": b"import os",
    "pytorch_model.bin": b"PK pickled",
    "onnx/model.onnx": b"another format",
    "flax_model.msgpack": b"another format",
    "model.safetensors.py": b"import os",
    "training_args.bin": b"pickled",
}
WANTED = {
    "config.json", "generation_config.json", "processor_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json",
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "_FIRST_WAIT_S", 0.01)
    with FakeHub() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        served.add(PREFERRED, files_of(GOLDEN / "janus-tiny-hf") | DECOYS)
        served.add(OTHER, files_of(GOLDEN / "janus-tiny-bin") | {"README.md": b"# Janus"})
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / NAME


Fetch = Callable[..., download.DownloadPlan]


def silent(done: int, total: int) -> None:
    pass


@pytest.fixture
def fetch(hub: FakeHub, folder: Path) -> Fetch:
    """Plan and run a download of the tiny model."""

    def run(
        on_progress: OnStep = silent, on_wait: Callable[[], None] = lambda: None
    ) -> download.DownloadPlan:
        plan = download.plan_download(NAME, folder, on_wait)
        download.run_download(plan, on_progress)
        return plan

    return run
