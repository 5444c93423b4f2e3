"""How much memory a quantised 7B takes, by count, and how much of a source is read at once."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import pytest
import torch

from benchmarks.sizes import SIZES
from janus_core.checkpoints.names import published_names
from janus_core.converting.quantising import KINDS, is_quantisable, planned_parts
from janus_core.model.model import JanusModel, build_model
from janus_core.residency.memory import answer_bytes, draw_bytes
from janus_core.residency.parts import part_of

PAGE = Path(__file__).parents[3] / "docs" / "quantised.md"
CONFIG = SIZES["7b"].config
PROMPT, QUESTION, ANSWER = 128, 650, 512


@pytest.fixture(scope="module")
def model() -> JanusModel:
    return build_model(CONFIG)


def weights(model: JanusModel, kind: str | None) -> dict[str, int]:
    """Return the bytes of each part's weights, the VQ tokenizer's in float32."""
    found: dict[str, int] = {}
    for ours, tensor in model.state_dict().items():
        part, [name] = part_of(ours), published_names(ours, "authors")
        nbytes = tensor.numel() * (4 if part == "vq_tokenizer" else 2)
        if kind is not None and is_quantisable(KINDS[kind], name, tuple(tensor.shape)):
            parts = planned_parts(KINDS[kind], name, tuple(tensor.shape)).values()
            nbytes = sum(prod(shape) * dtype.itemsize for dtype, shape in parts)
        found[part] = found.get(part, 0) + nbytes
    return found


def draws(model: JanusModel, kind: str | None) -> int:
    parts = weights(model, kind)
    return parts["language"] + parts["vq_tokenizer"] + draw_bytes(CONFIG, 1, PROMPT, torch.bfloat16)


@pytest.mark.parametrize(
    ("kind", "gib"), [("int8", 8), ("int8_convrot", 8), ("fp8_scaled", 8), ("mxfp8", 8), ("nvfp4", 6)]
)
def test_a_7b_draws_on_a_card_of(model: JanusModel, kind: str, gib: int) -> None:
    assert draws(model, kind) < gib * 2**30
    assert draws(model, None) > gib * 2**30


@pytest.mark.parametrize("kind", [None, "int8", "mxfp8", "nvfp4"])
def test_the_page_says_what_was_counted(model: JanusModel, kind: str | None) -> None:
    row = {None: "bfloat16", "int8": "int8, fp8", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}[kind]
    [line] = re.findall(rf"^\| {row} \| ([\d.]+ GB.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    parts = weights(model, kind)
    asked = answer_bytes(CONFIG, 1, QUESTION, ANSWER, torch.bfloat16)
    counted = (
        parts["language"] + parts["vq_tokenizer"],
        draws(model, kind),
        parts["language"] + parts["seeing"] + parts["words"] + asked,
    )
    assert [float(number) for number in re.findall(r"([\d.]+) GB", line)] == [
        round(count / 1e9, 1) for count in counted
    ]
