"""The table of parts covers every weight once, and says of each task what it multiplies by."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from janus_core import Janus, build_model
from janus_core.residency.parts import (
    PARTS,
    TABLE,
    TASKS,
    Part,
    Task,
    modules_for,
    part_of,
    parts_for,
    split_parts,
)

from ..conftest import TINY

PARTS_BY_TASK: dict[Task, tuple[Part, ...]] = {
    "see": ("seeing",),
    "answer": ("language", "words"),
    "draw": ("language",),
    "encode": ("vq_tokenizer",),
    "decode": ("vq_tokenizer",),
}


def test_every_parameter_stands_in_exactly_one_module_of_the_table() -> None:
    model = build_model(TINY)
    held = [id(p) for entry in TABLE for p in model.get_submodule(entry.module).parameters()]
    assert sorted(held) == sorted(map(id, model.parameters()))


def test_the_parts_of_a_model_hold_every_weight_once_and_are_its_own_modules() -> None:
    model = build_model(TINY)
    parts = split_parts(model)
    assert tuple(parts) == PARTS
    assert sorted(id(p) for part in parts.values() for p in part.parameters()) == sorted(
        map(id, model.parameters())
    )
    assert parts["language"]["layers"] is model.language.language_model.layers


@pytest.mark.parametrize("task", TASKS)
def test_a_task_needs_its_parts(task: Task) -> None:
    assert parts_for(task) == PARTS_BY_TASK[task]


def test_several_tasks_need_every_part_of_each_once() -> None:
    assert parts_for("draw", "decode") == ("language", "vq_tokenizer")
    assert parts_for("see", "answer") == ("seeing", "language", "words")
    assert parts_for(*TASKS) == PARTS
    assert set(modules_for("encode", "decode")) == set(modules_for("encode")) | set(modules_for("decode"))
    assert len(modules_for(*TASKS)) == len(TABLE)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("seeing.vision_tower.blocks.0.mlp.fc1.weight", "seeing"),
        ("language.language_model.layers", "language"),
        ("language.language_model.layers.1.mlp.up_proj.weight", "language"),
        ("language.language_model.lm_head.weight", "words"),
        ("vq_tokenizer.quant_conv.bias", "vq_tokenizer"),
    ],
)
def test_a_weight_belongs_to_the_part_of_its_module(name: str, part: Part) -> None:
    assert part_of(name) == part


def asked(janus: Janus, task: Task) -> None:
    """Do a task once."""
    side = janus.config.grid_side
    grid = torch.zeros(1, side, side, dtype=torch.int64)
    picture = torch.zeros(16, 16, 3)
    {
        "see": lambda: janus.see([picture]),
        "answer": lambda: janus.ask("Who?"),
        "draw": lambda: janus.draw("a cat"),
        "encode": lambda: janus.encode([picture]),
        "decode": lambda: janus.decode_pixels(grid),
    }[task]()


@pytest.mark.parametrize("task", TASKS)
def test_a_task_runs_the_modules_of_the_table_and_no_other(janus: Janus, task: Task) -> None:
    """Whatever is called is listed; a drawing's pictures are decoded in the same call."""
    called: set[str] = set()
    hooks = [
        leaf.register_forward_pre_hook(lambda *_, name=entry.module: called.add(name))
        for entry in TABLE
        for leaf in janus.model.get_submodule(entry.module).modules()
        if not isinstance(leaf, nn.ModuleList) and not list(leaf.children())
    ]
    try:
        asked(janus, task)
    finally:
        for hook in hooks:
            hook.remove()
    listed = modules_for("draw", "decode") if task == "draw" else modules_for(task)
    unlisted_calls = {
        "language.language_model.embed_tokens"
    }  # its rows are looked up, the layer is never asked
    assert called == set(listed) - unlisted_calls
