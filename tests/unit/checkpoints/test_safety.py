"""Model folders that want to run code: refused or ignored, and the tests see that nothing ran."""

from __future__ import annotations

import json
import os
import pickle
import runpy
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from janus_core import CheckpointError, load_janus

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
INDEX = "pytorch_model.bin.index.json"


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | values))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        load_janus(folder, dtype="float32", device="cpu")
    return str(raised.value)


# --- files that want to run code ---


class Payload:
    """An object whose pickle runs a command when it is read without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f'echo ran > "{self.marker}"',)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


def test_the_payload_would_run_if_it_were_read_without_care(marker: Path) -> None:
    pickle.loads(pickle.dumps(Payload(marker)))  # noqa: S301 - our own bytes, to see that they would run
    assert marker.exists()


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "written before torch 1.6"])
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "among tensors"])
def test_a_malicious_bin_is_refused_and_does_not_run(
    bare: Path, published: dict[str, Tensor], marker: Path, nested: bool, is_zip: bool
) -> None:
    content: object = {**published, "lm_head": {"deep": [Payload(marker)]}} if nested else Payload(marker)
    torch.save(content, bare / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    message = refusal(bare)
    assert (
        f'"{bare / "pytorch_model.bin"}" was refused: it holds something other than plain tensors' in message
    )
    assert f"({os.system.__module__}.system)" in message
    assert "weights_only" not in message
    assert not marker.exists()


def test_a_plain_pickle_is_refused_and_does_not_run(bare: Path, marker: Path) -> None:
    (bare / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    assert "pytorch_model.bin" in refusal(bare)
    assert not marker.exists()


def test_a_compiled_program_is_refused_without_a_warning(bare: Path) -> None:
    with zipfile.ZipFile(bare / "pytorch_model.bin", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"model/{name}", b"3\n")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        message = refusal(bare)
    assert "was refused: it holds something other than plain tensors, which could run code" in message
    assert not warned


def test_code_in_a_model_folder_does_not_run(folder: Path, marker: Path) -> None:
    program = folder / "modeling_janus.py"
    program.write_text(f"from pathlib import Path\nPath({str(marker)!r}).write_text('ran')\n")
    runpy.run_path(str(program))
    assert marker.exists()
    marker.unlink()
    for name in ("configuration_janus.py", "tokenization_janus.py", "processing_janus.py", "__init__.py"):
        shutil.copy(program, folder / name)
    automatic = {"AutoConfig": "configuration_janus.C", "AutoModelForCausalLM": "modeling_janus.M"}
    change(folder / "config.json", auto_map=automatic, trust_remote_code=True)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_janus.T", None]})
    load_janus(folder, dtype="float32", device="cpu")
    assert not marker.exists()
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    assert not [file for file in files if file.startswith(str(folder))]
