"""The tiny checkpoint in the folders that tests damage or rearrange."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import Tensor

from janus_core.checkpoints.load import read_checkpoint
from janus_core.checkpoints.weight_files import read_weight_file

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
INDEX = "pytorch_model.bin.index.json"


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """Return the tiny checkpoint's tensors under the authors' names."""
    tensors: dict[str, Tensor] = {}
    for shard in SHARDS:
        tensors |= read_weight_file(GOLDEN / "janus-tiny-bin" / shard)
    return {name: tensor.clone() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return read_checkpoint(GOLDEN / "janus-tiny-bin").state_dict


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a folder of the authors' layout without weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in (GOLDEN / "janus-tiny-bin").glob("*.json"):
        if path.name != INDEX:
            shutil.copy(path, folder)
    return folder


@pytest.fixture
def folder(bare: Path, published: dict[str, Tensor]) -> Path:
    """Return a folder of the authors' layout with one `model.safetensors`."""
    save_file(published, bare / "model.safetensors")
    return bare


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "janus-tiny-bin", tmp_path / "shards"))


@pytest.fixture
def native(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "janus-tiny-hf", tmp_path / "native"))
