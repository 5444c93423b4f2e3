"""Adapters (LoRA) inside ComfyUI: which files there are, and a model with one of them on top.

Core's patches do the arithmetic: they are merged where a part is loaded whole, applied at each use where it
is streamed, and undone when another model with the same weights is wanted. The model that an adapter is put
on is never changed. Two cases have no patches and get weights of their own, merged: a model that is whole on
a CPU, whose matrices the engine packs; and an adapter of the word table, which is looked up where it rests.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_patcher as mp
import folder_paths
import torch
from torch import Tensor, nn

from ...janus_core import (
    Adapter,
    CheckpointError,
    Janus,
    JanusFlow,
    Lora,
    LowRank,
    Part,
    Whole,
    adapter_files,
    build_flow_model,
    build_model,
    described,
    part_of,
    read_adapter,
    shapes_of,
)
from . import folders
from .hosting import HostedJanus, host

log = logging.getLogger("janus.adapters")

NOTHING_INSTALLED = "(no adapter installed)"
_KEYS = ("loras", folders.KEY)  # of core's own folder first
_SUFFIX = ".safetensors"
_CONFIG = "adapter_config.json"
_LOOKED_UP = "embed_tokens.weight"


def adapter_choices() -> list[str]:
    """List what the adapter combo offers: ComfyUI's LoRAs and adapters in models/janus; never empty."""
    loras = [name for name in folders.listed("loras") if name.endswith(_SUFFIX)]
    own = set(folders.listed(folders.KEY))
    adapters = [name for name in sorted(own) if name.endswith(_SUFFIX) and _is_adapter(name, own)]
    return list(dict.fromkeys([*loras, *adapters])) or [NOTHING_INSTALLED]


def _is_adapter(name: str, files: set[str]) -> bool:
    """Tell from the files beside it, or its own name, whether a weight file is no model's."""
    is_configured = str(Path(name).with_name(_CONFIG)) in files
    return is_configured or "lora" in Path(name).stem.lower()


def adapter_path(name: str) -> Path:
    """Return the file of an adapter's name.

    Raises:
        CheckpointError: there is none of that name.
    """
    for key in _KEYS:
        try:
            found = folder_paths.get_full_path(key, name)
        except (ValueError, OSError):  # a null character, or a name that is too long
            found = None
        if found is not None:
            return Path(found)
    raise CheckpointError(
        f'There is no adapter "{name}" in ComfyUI\'s folder loras or in models/janus. Put the .safetensors, '
        "or the folder that PEFT saved, into one of them, and choose it from the list."
    )


def adapter_state(name: str) -> str:
    """Return what changes with the files of an adapter; it does not tell where they lie."""
    try:
        files = [file for file in adapter_files(adapter_path(name)) if file is not None]
        state = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except (CheckpointError, OSError):
        return ""  # running the node says what is wrong
    return hashlib.sha256(repr(state).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def with_lora(hosted: HostedJanus, lora: Lora) -> HostedJanus:
    """Return a model with an adapter on top, beside those that it has; at strength 0 the model itself.

    Raises:
        CheckpointError: the adapter cannot be read, or does not belong to the model.
    """
    adapter = read_adapter(lora.path, _shapes(hosted.janus), hosted.janus.name)
    if lora.strength == 0:
        return hosted
    loras = (*hosted.loras, lora)
    if hosted.origin.is_packed or any(change.place.tensor.endswith(_LOOKED_UP) for change in adapter.changes):
        return host(hosted.origin.folder, hosted.origin.dtype, hosted.origin.residency, loras, hosted)
    log.info("Janus: %s on %s", described(adapter.name, lora.strength), hosted)
    parts = {**hosted.parts}
    for part, changes in _by_part(adapter).items():
        parts[part] = _patched(parts[part], hosted.janus.model, changes, lora.strength)
    return hosted.on_top(loras, parts, described(adapter.name, lora.strength))


def _shapes(janus: Janus | JanusFlow) -> dict[str, torch.Size]:
    """Return the shapes of a model's tensors from its configuration: packed or quantised ones have others."""
    if isinstance(janus, JanusFlow):
        return shapes_of(build_flow_model(janus.config))
    return shapes_of(build_model(janus.config))


def _by_part(adapter: Adapter) -> dict[Part, list[LowRank | Whole]]:
    found: dict[Part, list[LowRank | Whole]] = {}
    for change in adapter.changes:
        found.setdefault(part_of(change.place.tensor), []).append(change)
    return found


def _patched(
    patcher: mp.ModelPatcher, model: nn.Module, changes: Sequence[LowRank | Whole], strength: float
) -> mp.ModelPatcher:
    """Return a clone of a part's patcher with changes to that part on top of those it has."""
    clone = patcher.clone()
    paths = {id(module): path for path, module in patcher.model.named_modules()}
    rounds: list[dict[Any, Any]] = []  # a part of a tensor has one patch a call, and may need two
    for change in changes:
        owner, _, parameter = change.place.tensor.rpartition(".")
        key = f"{paths[id(model.get_submodule(owner))]}.{parameter}"
        where, patch = _patch(change, key, clone)
        free = next((patches for patches in rounds if where not in patches), None)
        if free is None:
            rounds.append({where: patch})
        else:
            free[where] = patch
    for patches in rounds:
        taken = clone.add_patches(patches, strength)
        assert len(taken) == len(patches), set(patches) - set(taken)  # core only leaves out what it lacks
    return clone


def _patch(change: LowRank | Whole, key: str, patcher: mp.ModelPatcher) -> tuple[Any, Any]:
    """Return which rows of core's tensor are changed, and core's form of the change."""
    place = change.place
    original: Tensor
    to_numbers: Any
    original, to_numbers = _original(patcher, key)
    rows = place.shape[0]
    is_part = rows < original.shape[0]
    where = (key, (0, place.first_row, rows)) if is_part else key
    if isinstance(change, LowRank):
        factors = {"lora_up.weight": change.up, "lora_down.weight": change.down}
        factors["alpha"] = torch.tensor(change.scale * len(change.down))  # which core divides by the rank
        tensors = {f"janus.{name}": tensor for name, tensor in factors.items()}
        return where, comfy.lora.load_lora(tensors, {"janus": where})[where]
    if change.is_added:
        return where, ("diff", (change.value,))
    base = to_numbers(original.detach().to("cpu", torch.float32, copy=True), inplace=True)
    return where, ("diff", (change.difference(0, base[place.first_row : place.first_row + rows]),))


def _original(patcher: mp.ModelPatcher, key: str) -> tuple[Tensor, Any]:
    """Return a weight without what another adapter made of it, and what makes numbers of a quantised one.

    Core's own `get_key_patches` takes the beginning of names, and stumbles over the scale beside a weight.
    """
    weight, _, to_numbers = mp.get_key_weight(patcher.model, key)
    kept = patcher.backup.get(key)
    return weight if kept is None else kept.weight, to_numbers or _as_it_is


def _as_it_is(weight: Tensor, **_: Any) -> Tensor:
    return weight
