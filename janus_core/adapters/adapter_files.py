"""Read an adapter: a PEFT folder, or a single file with its configuration in its header or beside it.

Pickles are refused: every tool writes safetensors.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..checkpoints.layout import check_weight_file, read_json
from ..checkpoints.strangers import kind_by_ending
from ..checkpoints.weight_files import read_weight_file
from ..errors import CheckpointError
from ..options import Lora
from ..outputs import from_home
from .adapter_settings import AdapterSettings, parse_settings
from .changes import Change, Stack, stacked
from .fitting import fit

log = logging.getLogger("janus.adapters")

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
METADATA_KEY = "adapter_config"  # in the header of a single file
# One of them stands in a configuration; programs that manage files keep other notes under a file's name.
_CONFIG_KEYS = {"peft_type", "lora_alpha", "r"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """An adapter whose changes have their places in a model.

    Attributes:
        name: what to call it: of the file without its ending, or of the PEFT folder.
        changes: all that it does.
    """

    name: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapters:
    """Several adapters of one model.

    Attributes:
        stack: what they do together, by the tensor that it is done to.
        names: of those that do something, with their strengths, for people.
    """

    stack: Stack = field(default_factory=dict)
    names: tuple[str, ...] = ()


def read_adapters(loras: Sequence[Lora], shapes: Mapping[str, torch.Size], model_name: str) -> Adapters:
    """Read the adapters that a caller wants with a model; see `read_adapter`.

    One of strength 0 is read and checked like any other, and does nothing.
    """
    read = [(read_adapter(lora.path, shapes, model_name), lora.strength) for lora in loras]
    return Adapters(
        stack=stacked((adapter.changes, strength) for adapter, strength in read),
        names=tuple(described(adapter.name, strength) for adapter, strength in read if strength),
    )


def described(name: str, strength: float) -> str:
    """Return an adapter and its strength as people read it."""
    return f"{name} × {strength:g}"


def adapter_name(path: str | os.PathLike[str]) -> str:
    """Return what to call an adapter: its file without ending, or the folder that PEFT saved."""
    path = from_home(path)
    if path.is_dir() or path.name == WEIGHTS:
        return (path if path.is_dir() else path.parent).resolve().name
    return path.stem


def adapter_files(path: str | os.PathLike[str]) -> tuple[Path, Path | None]:
    """Return an adapter's weight file, and the file of its configuration where it has one beside it.

    Args:
        path: of the weight file, or of the PEFT folder.

    Raises:
        CheckpointError: there is none.
    """
    path = from_home(path)
    try:
        return _found(path)
    except CheckpointError:
        raise
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise CheckpointError(
            f'Cannot look for the adapter "{path!s:.300}": {error.strerror}. Check the path.'
        ) from error


def _found(path: Path) -> tuple[Path, Path | None]:
    if path.is_dir():
        return _in_folder(path), path / CONFIG if (path / CONFIG).exists() else None
    if not path.exists():
        raise CheckpointError(f'There is no adapter "{path}". Check the path.')
    own, shared = path.with_suffix(".json"), path.with_name(CONFIG)
    if own.is_file() and _CONFIG_KEYS & read_json(own).keys():
        return path, own
    is_alone = path.name == WEIGHTS or len(list(path.parent.glob("*.safetensors"))) == 1
    return path, shared if is_alone and shared.is_file() else None


def _in_folder(folder: Path) -> Path:
    inside = folder / WEIGHTS
    pickles = sorted(folder.glob("adapter_model*.bin"))
    if inside.exists() or not pickles:
        found = [inside] if inside.exists() else sorted(folder.glob("*.safetensors"))
        if len(found) == 1:
            return found[0]
        raise CheckpointError(
            f'"{folder}" holds no {WEIGHTS}. Choose the folder that save_pretrained wrote, or a single '
            ".safetensors file."
        )
    return pickles[0]


def read_adapter(path: str | os.PathLike[str], shapes: Mapping[str, torch.Size], model_name: str) -> Adapter:
    """Read an adapter for a model.

    Args:
        path: a PEFT folder, or a .safetensors file.
        shapes: of all tensors of the model, by our names.
        model_name: for messages.

    Raises:
        CheckpointError: it cannot be read, is of another kind, or does not belong to the model.
    """
    file, config = adapter_files(path)
    name = adapter_name(path)
    _refuse_others(file)
    check_weight_file(file)
    settings = _settings(file, config, name)
    changes = fit(read_weight_file(file), settings, shapes, name, model_name)
    log.info("Janus: adapter %s, %d changes", name, len(changes))
    return Adapter(name=name, changes=changes)


def _refuse_others(file: Path) -> None:
    if file.suffix == ".safetensors":
        return
    kind = kind_by_ending(file)
    if kind:
        raise CheckpointError(f'The adapter "{file}" is {kind}. Use its safetensors version.')
    raise CheckpointError(
        f'The adapter "{file}" was refused: a pickle (.bin, .pt) can run code on this computer when it is '
        "opened. Save the adapter as safetensors (save_pretrained does), or fetch that version."
    )


def _settings(file: Path, config: Path | None, name: str) -> AdapterSettings:
    """Return what the configuration of an adapter says: in the header of its file, else the one beside it."""
    inside = _metadata(file)
    if inside is not None:
        return parse_settings(inside, name)
    if config is not None:
        return parse_settings(read_json(config), name)
    return AdapterSettings()


def _metadata(file: Path) -> dict[str, Any] | None:
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY)
        content = None if text is None else json.loads(text)
    except Exception as error:  # whatever a damaged header makes of its readers
        raise CheckpointError(
            f'Cannot read the configuration in the header of "{file}": {str(error)[:200]}. The file is '
            "damaged: fetch it again."
        ) from error
    if content is not None and not isinstance(content, dict):
        raise CheckpointError(
            f'The header of "{file}" holds an {METADATA_KEY} that is no JSON object. Fetch the adapter again.'
        )
    return content
