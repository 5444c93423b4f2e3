"""Model folders by name: the models that ship with the package, and whether a folder holds a Janus at all."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CheckpointError
from .layout import read_json, recognise

BUNDLED = Path(__file__).parent.parent / "bundled"


def bundled_models() -> dict[str, Path]:
    """Return the folder of each model that ships with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED.glob("*/config.json"))}


def resolve_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundled model's name or of a path."""
    bundled = bundled_models().get(os.fspath(name_or_path))
    if bundled is not None:
        return bundled
    try:
        return Path(name_or_path).expanduser()
    except RuntimeError:  # "~name" of nobody on this computer
        return Path(name_or_path)


def is_janusflow_folder(folder: str | os.PathLike[str]) -> bool:
    """Tell from its `config.json` whether a folder holds a JanusFlow model; an unreadable one does not."""
    try:
        return recognise(read_json(Path(folder) / "config.json"), Path(folder)) == "janusflow"
    except CheckpointError:
        return False


def is_janus_folder(folder: str | os.PathLike[str]) -> bool:
    """Tell from its `config.json` whether `read_checkpoint` may be able to read a folder."""
    try:
        recognise(read_json(Path(folder) / "config.json"), Path(folder))
    except CheckpointError:
        return False
    return True
