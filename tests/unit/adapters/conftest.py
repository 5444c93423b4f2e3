"""Adapters with seeded random factors for the tiny checkpoint, as training tools save them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from janus_core import build_model, read_checkpoint, shapes_of
from janus_core.checkpoints.layout import Layout
from janus_core.checkpoints.names import published_names

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
MODEL = GOLDEN / "janus-tiny-bin"
RANK, ALPHA = 4, 6.0
# One layer of each kind: decoder, both heads, both aligners, the vision tower, by our names.
LAYERS = (
    "language.language_model.layers.0.self_attn.q_proj",
    "language.language_model.layers.1.mlp.down_proj",
    "language.language_model.lm_head",
    "language.generation_head.output",
    "language.generation_aligner.layers.2",
    "seeing.understanding_aligner.layers.0",
    "seeing.vision_tower.blocks.1.attention.proj",
)

WriteAdapter = Callable[..., Path]


@dataclass(frozen=True)
class Tiny:
    """The tiny checkpoint's tensors and their shapes."""

    weights: dict[str, Tensor]
    shapes: dict[str, torch.Size]


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    checkpoint = read_checkpoint(MODEL)
    weights = {name: tensor.float() for name, tensor in checkpoint.state_dict.items()}
    return Tiny(weights, shapes_of(build_model(checkpoint.config)))


def factors(shape: torch.Size, seed: int, rank: int = RANK) -> tuple[Tensor, Tensor]:
    """Return (r, in) and (out, r) that change a matrix by about a tenth."""
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, shape[1], generator=generator) / shape[1] ** 0.5
    return down, torch.randn(shape[0], rank, generator=generator) * 0.1 / rank


def tensors_for(
    tiny: Tiny, seed: int = 0, layout: Layout = "authors", prefix: str = "base_model.model."
) -> dict:
    """Return an adapter's tensors for `LAYERS`, by PEFT's names."""
    found = {}
    for index, layer in enumerate(LAYERS):
        [name] = published_names(f"{layer}.weight", layout)
        down, up = factors(tiny.shapes[f"{layer}.weight"], 100 * seed + index)
        module = prefix + name.removesuffix(".weight")
        found |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    return found


def hand_merged(tiny: Tiny, seed: int = 0, scale: float = ALPHA / RANK) -> dict[str, Tensor]:
    """Return the checkpoint's tensors with the product of each pair added in float64."""
    merged = dict(tiny.weights)
    for index, layer in enumerate(LAYERS):
        down, up = factors(tiny.shapes[f"{layer}.weight"], 100 * seed + index)
        name = f"{layer}.weight"
        merged[name] = (merged[name].double() + scale * (up.double() @ down.double())).float()
    return merged


@pytest.fixture
def write_adapter(tmp_path: Path) -> WriteAdapter:
    """Return a function that writes a PEFT folder of tensors, and returns it."""

    def write(tensors: Mapping[str, Tensor], name: str = "style", **config: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        save_file(
            {key: tensor.contiguous().clone() for key, tensor in tensors.items()},
            folder / "adapter_model.safetensors",
        )
        settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, **config}
        (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
        return folder

    return write
