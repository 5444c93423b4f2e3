"""Damaged adapters: only a JanusError may come out, or an adapter that is none the worse."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from janus_core import read_adapter
from janus_core.errors import JanusError

from .conftest import Tiny, WriteAdapter, tensors_for

COPIES = 120  # of each of the two files
ODD = (
    None,
    True,
    -1,
    0,
    10**400,
    1e-300,
    float("nan"),
    "",
    "x",
    "(",
    "\ud800",
    [],
    [1],
    {},
    {"a": 1},
    {"q": []},
)


@pytest.fixture
def folder(tiny: Tiny, write_adapter: WriteAdapter) -> Path:
    tensors = {name: tensor[:4] if "lora_A" in name else tensor for name, tensor in tensors_for(tiny).items()}
    return write_adapter(tensors, use_rslora=False, alpha_pattern={"q_proj": 2}, rank_pattern={}, bias="none")


def outcome(folder: Path, tiny: Tiny) -> bool:
    """Tell whether an adapter was refused; anything but a JanusError passes through and fails the test."""
    said = ""
    try:
        read_adapter(folder, tiny.shapes, "janus-tiny")
    except JanusError as error:
        said = str(error)
    assert not said or len(said) > 40
    return bool(said)


def test_damaged_weight_files_are_refused(folder: Path, tiny: Tiny) -> None:
    file, dice = folder / "adapter_model.safetensors", random.Random(0)
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for _ in range(COPIES):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 3, 20))):
            data[dice.randrange(header)] = dice.randrange(256)
        kept = dice.choice((len(data), len(data), dice.randrange(len(data)), dice.randrange(header)))
        file.write_bytes(data[:kept])
        refused += outcome(folder, tiny)
    assert refused > 0.9 * COPIES


def test_odd_configurations_are_refused_or_harmless(folder: Path, tiny: Tiny) -> None:
    file, dice = folder / "adapter_config.json", random.Random(1)
    whole = json.loads(file.read_text("utf-8"))
    refused = 0
    for _ in range(COPIES):
        key = dice.choice(
            [*whole, "use_dora", "init_lora_weights", "base_model_name_or_path", "layer_replication"]
        )
        file.write_text(json.dumps({**whole, key: dice.choice(ODD)}), encoding="utf-8")
        refused += outcome(folder, tiny)
    assert 0.2 * COPIES < refused < COPIES
    for text in ("", "[]", "{", "null", "\0", '{"lora_alpha": ' + "[" * 5000):
        file.write_text(text, encoding="utf-8")
        assert outcome(folder, tiny)
