"""Weights of bitsandbytes: by hand, as bitsandbytes itself expands them if it is installed, and damaged."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from janus_core import CheckpointError, convert, read_checkpoint
from janus_core.checkpoints.weight_files import read_weight_file
from janus_core.quantised.bitsandbytes import expand

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
TABLE = torch.arange(16.0) / 10


def described(kind: str = "nf4", **said: Any) -> Tensor:
    content = {"quant_type": kind, "blocksize": 4, "dtype": "float16", "shape": [2, 3], **said}
    return torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)


def four_bits(**changes: Any) -> dict[str, Tensor]:
    """Return six numbers, 1 2 3 4 5 6 of the table, the first four scaled by 10, the others by 20."""
    return {
        "a.weight": torch.tensor([[0x12], [0x34], [0x56]], dtype=torch.uint8),
        "a.weight.absmax": torch.tensor([10.0, 20.0]),
        "a.weight.quant_map": TABLE,
        "a.weight.quant_state.bitsandbytes__nf4": described(),
        **changes,
    }


def test_four_bits_are_looked_up_and_scaled_in_blocks() -> None:
    tensors = four_bits()
    expand(tensors)
    assert tensors.keys() == {"a.weight"}
    assert tensors["a.weight"].dtype == torch.float16
    assert tensors["a.weight"].tolist() == [[1, 2, 3], [4, 10, 12]]


def test_scales_in_eight_bits_are_looked_up_and_scaled_themselves() -> None:
    nested = {
        "a.weight.absmax": torch.tensor([10, 20], dtype=torch.uint8),
        "a.weight.nested_absmax": torch.tensor([2.0]),
        "a.weight.nested_quant_map": torch.arange(256.0) / 10,
        "a.weight.quant_state.bitsandbytes__nf4": described(nested_blocksize=256, nested_offset=8.0),
    }
    tensors = four_bits(**nested)
    expand(tensors)
    # 1.0 · 2 + 8 = 10 and 2.0 · 2 + 8 = 12
    assert tensors["a.weight"].flatten().tolist() == pytest.approx([1, 2, 3, 4, 6, 7.2], abs=4e-3)


def test_eight_bits_have_a_scale_for_each_row() -> None:
    tensors = {
        "a.weight": torch.tensor([[127, -127], [1, 0]], dtype=torch.int8),
        "a.SCB": torch.tensor([2.0, 127.0]),
        "a.weight_format": torch.tensor(0, dtype=torch.uint8),
        "norm.weight": torch.ones(2, dtype=torch.bfloat16),
    }
    expand(tensors)
    assert tensors.keys() == {"a.weight", "norm.weight"}
    assert tensors["a.weight"].dtype == torch.bfloat16
    assert tensors["a.weight"].tolist() == [[2, -2], [1, 0]]


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_numbers_equal_those_of_bitsandbytes(kind: str, nested: bool, dtype: torch.dtype) -> None:
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    matrix = torch.randn(96, 200, generator=torch.Generator().manual_seed(0)).to(dtype)
    packed, state = functional.quantize_4bit(matrix, quant_type=kind, compress_statistics=nested)
    tensors = {"a.weight": packed, **{f"a.weight.{k}": v for k, v in state.as_dict(packed=True).items()}}
    expand(tensors)
    assert torch.equal(tensors["a.weight"], functional.dequantize_4bit(packed, state))


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no table": ({"a.weight.quant_map": None}, "absmax, quant_map or numbers are missing"),
    "a short table": ({"a.weight.quant_map": TABLE[:8]}, "of other shapes than it says"),
    "a scale too few": ({"a.weight.absmax": torch.ones(1)}, "of other shapes than it says"),
    "no scales of scales": (
        {"a.weight.absmax": torch.ones(2, dtype=torch.uint8)},
        "its scales' own scales are missing",
    ),
    "another kind": (
        {
            "a.weight.quant_state.bitsandbytes__nf4": None,
            "a.weight.quant_state.bitsandbytes__af4": described("af4"),
        },
        "'af4' is none of nf4, fp4",
    ),
    "no shape": ({"a.weight.quant_state.bitsandbytes__nf4": described(shape=[])}, "its sizes are impossible"),
    "a huge shape": (
        {"a.weight.quant_state.bitsandbytes__nf4": described(shape=[2**30, 2**30])},
        "its sizes are impossible",
    ),
    "no blocks": ({"a.weight.quant_state.bitsandbytes__nf4": described(blocksize=0)}, "sizes are impossible"),
    "endless blocks": (
        {"a.weight.quant_state.bitsandbytes__nf4": described(blocksize=float("inf"))},
        "what it says about itself cannot be read",
    ),
    "blocks of gigabytes": (
        {
            "a.weight.quant_state.bitsandbytes__nf4": described(blocksize=2**32),
            "a.weight.absmax": torch.ones(1),
        },
        "its sizes are impossible",
    ),
    "a long text": (
        {"a.weight.quant_state.bitsandbytes__nf4": torch.full((5000,), 32, dtype=torch.uint8)},
        "what it says about itself cannot be read",
    ),
    "no text": (
        {"a.weight.quant_state.bitsandbytes__nf4": torch.ones(4, dtype=torch.uint8)},
        "what it says about itself cannot be read",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_said(case: str) -> None:
    changes, message = CASES[case]
    tensors = {name: tensor for name, tensor in four_bits(**changes).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        expand(tensors)


def test_rows_in_an_order_for_one_card_are_refused() -> None:
    tensors = {
        "a.weight": torch.ones(2, 2, dtype=torch.int8),
        "a.SCB": torch.ones(2),
        "a.weight_format": torch.tensor(2, dtype=torch.uint8),
    }
    with pytest.raises(CheckpointError, match="its rows are in an order for one kind of card"):
        expand(tensors)


def test_a_folder_is_read_with_one_remark(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Vision tower and decoder alike, as its users' scripts leave only heads and norms alone."""
    convert(GOLDEN / "janus-tiny-bin", tmp_path / "folder")
    path = tmp_path / "folder" / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in read_weight_file(path).items()}
    layers = [n.removesuffix(".weight") for n in tensors if n.endswith(("_proj.weight", "qkv.weight"))]
    for layer in layers:
        matrix = tensors[f"{layer}.weight"].float()
        scales = matrix.abs().amax(dim=1)
        tensors[f"{layer}.weight"] = (matrix / scales[:, None] * 127).round().to(torch.int8)
        tensors[f"{layer}.SCB"] = scales
        tensors[f"{layer}.weight_format"] = torch.tensor(0, dtype=torch.uint8)
    path.unlink()
    save_file(tensors, path)
    with caplog.at_level(logging.WARNING, logger="janus"):
        found = read_checkpoint(tmp_path / "folder")
    [said] = [text for text in caplog.messages if "bitsandbytes" in text]
    assert said.startswith(f"Janus: {len(layers)} matrices were stored by bitsandbytes and are expanded")
    assert found.quantised == {}
    for name, tensor in read_checkpoint(GOLDEN / "janus-tiny-bin").state_dict.items():
        assert torch.allclose(found.state_dict[name].float(), tensor.float(), atol=0.02)
    with pytest.raises(CheckpointError, match="is quantised already"):
        convert(tmp_path / "folder", tmp_path / "again.safetensors")
