"""Model folders by name and path: those that ship with the package, and those that lie deeper than one looks.

A model may lie a folder deeper than its name: `owner/name`, a doubled folder out of a zip file, or the
`snapshots` of a download cache. Reads `config.json`, never weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, JanusError
from ..one_file import CONFIG, TOKENIZER, has_model_text
from ..outputs import from_home
from .layout import find_files, read_json, recognise

BUNDLED = Path(__file__).parent.parent / "bundled"
_CACHE = "models--"  # how a download cache begins the name of a model's folder, `models--owner--name`


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """A model folder that was found inside another.

    Attributes:
        name: what to call it: the model's own name, without owner.
        folder: where its `config.json` lies.
    """

    name: str
    folder: Path


def bundled_models() -> dict[str, Path]:
    """Return the folder of each model that ships with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED.glob("*/config.json"))}


def resolve_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundled model's name or of a path; a model that lies deeper is found there.

    Raises:
        CheckpointError: several models lie in the folder; the message names them.
    """
    bundled = bundled_models().get(os.fspath(name_or_path))
    if bundled is not None:
        return bundled
    path = from_home(name_or_path)
    return path if _has_config(path) else _deeper(path)


def _deeper(folder: Path) -> Path:
    try:
        inside = list(models_in(folder))
    except (OSError, ValueError):  # no folder, or one that cannot be looked into: for whoever reads it to say
        return folder
    if len(inside) > 1:
        names = ", ".join(f'"{model.folder}"' for model in inside[:5])
        raise CheckpointError(f'"{folder}" holds {len(inside)} models. Choose one of them: {names}.')
    return inside[0].folder if inside else folder


def _has_config(folder: Path) -> bool:
    try:
        return (folder / "config.json").exists()
    except OSError:
        return False


def models_in(root: Path) -> Iterator[FoundModel]:
    """Find folders of Janus models in a folder: itself, its subfolders, and one level below those.

    Args:
        root: a folder of models, a model's folder, or one of a download cache.

    Raises:
        OSError: it cannot be looked into.
    """
    own = _own(root)
    yield from own
    if own and own[0].folder != root:  # a snapshot: what else is there belongs to it
        return
    for folder in _subfolders(root):
        yield from _own(folder) or [model for inner in _subfolders(folder) for model in _own(inner)]


def _own(folder: Path) -> list[FoundModel]:
    """Return the model whose folder, or whose place in a download cache, this is."""
    place = folder if _has_config(folder) else _snapshot(folder)
    return [] if place is None else [FoundModel(name=_name(folder), folder=place)]


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if _is_folder(entry)]
    except OSError:
        if not folder.is_dir():
            raise
        return []  # not ours to look into
    return sorted(found, key=lambda path: path.name.lower())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir() and not entry.name.startswith(".")
    except OSError:
        return False


def _snapshot(folder: Path) -> Path | None:
    """Return the snapshot that a download cache's folder refers to as main, else its newest one."""
    if not (folder / "snapshots").is_dir():
        return None
    snapshots = [path for path in _subfolders(folder / "snapshots") if _has_config(path)]
    try:
        main = folder / "snapshots" / (folder / "refs" / "main").read_text("utf-8").strip()
    except (OSError, ValueError):
        main = folder
    if main in snapshots:
        return main
    return max(snapshots, key=lambda path: path.stat().st_mtime_ns, default=None)


def _name(folder: Path) -> str:
    """Return a model's own name: the folder's, or the last part of `models--owner--name`."""
    name = folder.resolve().name if folder.name in ("", ".", "..") else folder.name
    return name.rpartition("--")[2] if name.startswith(_CACHE) else name


def is_janusflow_folder(folder: str | os.PathLike[str]) -> bool:
    """Tell from its `config.json` whether a folder, or one file, is a JanusFlow; an unreadable one is not."""
    try:
        return recognise(read_json(Path(folder) / CONFIG), Path(folder)) == "janusflow"
    except CheckpointError:
        return False


def is_janus_folder(folder: str | os.PathLike[str]) -> bool:
    """Tell from its `config.json` whether `read_checkpoint` may be able to read a folder, or one file."""
    try:
        recognise(read_json(Path(folder) / CONFIG), Path(folder))
    except CheckpointError:
        return False
    return True


def is_complete_folder(folder: str | os.PathLike[str]) -> bool:
    """Tell by names and lengths whether a folder, or one file, has configuration, tokenizer, weights."""
    try:
        find_files(Path(folder))
        return has_model_text(Path(folder) / TOKENIZER)
    except (JanusError, OSError):
        return False
