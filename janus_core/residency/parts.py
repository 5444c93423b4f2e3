"""The one table of a model's parts: which modules a part holds, and which tasks need them.

A *module* is the smallest unit that is moved to a device, a *part* what a host loads and evicts as a whole, a
*task* what the weights are needed for. The command line moves modules, a host loads parts, `inspect` counts
their weights: all read this table. It knows names, and nothing of tensors or devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from ..flow.flow_model import JanusFlowModel
from ..model.model import JanusModel

Part = Literal["seeing", "language", "words", "vq_tokenizer"]
Task = Literal["see", "answer", "draw", "encode", "decode"]

PARTS: tuple[Part, ...] = get_args(Part)
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One module of the table.

    Attributes:
        module: its path in a `JanusModel`.
        part: the part that it belongs to.
        tasks: those that need it on the device; looking up a few rows where the weights rest does not count.
    """

    module: str
    part: Part
    tasks: tuple[Task, ...]


def _entry(module: str, part: Part, *tasks: Task) -> Entry:
    return Entry(module=module, part=part, tasks=tasks)


# The word embedding and the text head are a part of their own since a drawing needs neither on the device: it
# looks up a few rows where the table rests, and has a head of its own. At 7B that saves 1.7 GB.
TABLE = (
    _entry("seeing.vision_tower", "seeing", "see"),
    _entry("seeing.understanding_aligner", "seeing", "see"),
    _entry("language.language_model.layers", "language", "answer", "draw"),
    _entry("language.language_model.norm", "language", "answer", "draw"),
    _entry("language.image_token_embedding", "language", "draw"),
    _entry("language.generation_aligner", "language", "draw"),
    _entry("language.generation_head", "language", "draw"),
    _entry("language.language_model.embed_tokens", "words", "answer"),
    _entry("language.language_model.lm_head", "words", "answer"),
    _entry("vq_tokenizer.codebook", "vq_tokenizer", "encode", "decode"),
    _entry("vq_tokenizer.encoder", "vq_tokenizer", "encode"),
    _entry("vq_tokenizer.quant_conv", "vq_tokenizer", "encode"),
    _entry("vq_tokenizer.decoder", "vq_tokenizer", "decode"),
    _entry("vq_tokenizer.post_quant_conv", "vq_tokenizer", "decode"),
)


# A JanusFlow model draws with its flow network instead of image tokens, and sees with a learned vector more.
FLOW_TABLE = (
    *(entry for entry in TABLE if "see" in entry.tasks or "answer" in entry.tasks),
    _entry("seeing.begin_embedding", "seeing", "see"),
    _entry("flow", "language", "draw"),
)


def table_of(model: JanusModel | JanusFlowModel) -> tuple[Entry, ...]:
    """Return the table that covers a model."""
    return FLOW_TABLE if isinstance(model, JanusFlowModel) else TABLE


def modules_for(*tasks: Task, table: tuple[Entry, ...] = TABLE) -> tuple[str, ...]:
    """Return the paths of the modules that tasks need on the device, in the table's order."""
    return tuple(entry.module for entry in table if set(entry.tasks) & set(tasks))


def parts_for(*tasks: Task) -> tuple[Part, ...]:
    """Return the parts that hold those modules, in the table's order."""
    return tuple(dict.fromkeys(entry.part for entry in TABLE if set(entry.tasks) & set(tasks)))


def part_of(name: str) -> Part:
    """Return the part that holds a module or tensor, given its path in the model."""
    # the dots keep "layers" from matching a longer name; exactly one part holds each tensor
    [part] = {entry.part for entry in TABLE + FLOW_TABLE if f"{name}.".startswith(f"{entry.module}.")}
    return part


def split_parts(model: JanusModel | JanusFlowModel) -> dict[Part, nn.ModuleDict]:
    """Return every part of a model as one module, for hosts; each weight is in exactly one of them."""
    # The modules are the model's own: what a host does to them shows in the model.
    table = table_of(model)
    return {
        part: nn.ModuleDict(
            {
                entry.module.rpartition(".")[2]: model.get_submodule(entry.module)
                for entry in table
                if entry.part == part
            }
        )
        for part in PARTS
        if any(entry.part == part for entry in table)
    }
