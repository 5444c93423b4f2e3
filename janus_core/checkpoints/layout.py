"""Tell which of the published layouts a folder has, and list its files. Reads headers, never tensors.

authors        config.json with `gen_head_config`, weights in .safetensors or .bin
transformers   config.json with `model_type` "janus", weights in .safetensors
janusflow      config.json with `vision_gen_enc_config`: the authors' files of the sibling that draws by flow

A model in one file is a folder to this room: see `one_file`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..downloads.record import refuse_partial
from ..errors import CheckpointError, DownloadError, shown
from ..one_file import CONFIG, SUFFIX, has_model_text, is_one_file, read_model_text
from ..reading import parse_json
from .strangers import is_adapter_file, kind_by_ending, refuse_pretenders, refuse_unfinished, what_lies_there
from .weight_files import refuse_cut_off

log = logging.getLogger("janus.checkpoints")

Layout = Literal["authors", "transformers", "janusflow"]

# Looks for one kind of weight files: returns the paths, and for shards how they were found, for messages.
_Look = Callable[[Path], tuple[tuple[Path, ...], str]]

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_SHARD = re.compile(r"(?P<stem>.+-)(?P<number>\d{1,5})-of-(?P<total>\d{1,5})(?P<suffix>\.\w+)")
_LFS_MARK = "version https://git-lfs"
_FETCH_AGAIN = "Fetch it again from where it was published."


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """One model folder's files.

    Attributes:
        folder: the model folder, or the one file that holds a whole model.
        layout: decides the names of its tensors.
        config: parsed `config.json`.
        weights: all weight files, each present and checked.
    """

    folder: Path
    layout: Layout
    config: dict[str, Any]
    weights: tuple[Path, ...]


def find_files(folder: Path) -> CheckpointFiles:
    """Recognise a model folder and list its weight files.

    Raises:
        CheckpointError: not a folder, no or unreadable `config.json`, another kind of model, or weights that
            are missing or no weights.
        DownloadError: a download of ours that is not finished, or whose weights have changed since.
    """
    try:
        if folder.suffix == SUFFIX and folder.is_file():
            return _in_one_file(folder)
        _require_folder(folder)
        refuse_partial(folder)
        _require_config(folder)
        config = read_json(folder / "config.json")
        return CheckpointFiles(
            folder=folder, layout=recognise(config, folder), config=config, weights=find_weights(folder)
        )
    except (CheckpointError, DownloadError):
        raise
    except OSError as error:
        raise CheckpointError(f'Cannot look into "{folder}": {error}. Check the path.') from error


def _in_one_file(path: Path) -> CheckpointFiles:
    check_weight_file(path)
    if not is_one_file(path):
        raise CheckpointError(
            f'Cannot load "{path}": it has no {CONFIG} in its header, so it is no model in one file. Give '
            "the folder that it lies in, or make one file of that with janus convert."
        )
    config = read_json(path / CONFIG)
    return CheckpointFiles(folder=path, layout=recognise(config, path), config=config, weights=(path,))


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        kind = kind_by_ending(folder)
        what = "is a file, not a model folder" if folder.exists() else "does not exist"
        if folder.exists() and kind:
            what = f"is {kind}"
        raise CheckpointError(
            f'Cannot load "{folder}": it {what}. Give the folder that holds config.json and the weights.'
        )


def _require_config(folder: Path) -> None:
    """Say what a folder without a configuration is instead, where that can be told."""
    found = None if _is_there(folder / "config.json") else what_lies_there(folder)
    if found:
        raise CheckpointError(f'"{folder}" {found}')


def recognise(config: dict[str, Any], folder: Path) -> Layout:
    """Return the layout that a parsed `config.json` belongs to.

    Raises:
        CheckpointError: another kind of model; the message says which.
    """
    model_type = config.get("model_type")
    if "vision_gen_enc_config" in config:
        return "janusflow"
    if model_type == "janus":
        return "transformers"
    if "gen_head_config" in config:
        return "authors"
    if model_type == "multi_modality":
        raise CheckpointError(
            f'"{folder}" is a DeepSeek-VL model: it sees, but has no parts for drawing. Choose a Janus '
            "model, for example Janus-Pro-1B."
        )
    raise CheckpointError(
        f'"{folder}" is not a Janus model: its config.json says model_type {shown(model_type)}. Choose a '
        "folder of Janus-1.3B, Janus-Pro-1B, Janus-Pro-7B or a fine-tune of them."
    )


def find_weights(folder: Path) -> tuple[Path, ...]:
    """List the weight files of a folder: safetensors before .bin, a single file before shards.

    If files of a preferred kind are damaged or incomplete and another kind is whole, that one is taken, with
    a warning.

    Raises:
        CheckpointError: there are none, some shards are missing, or one is not a weight file.
    """
    reason: CheckpointError | None = None
    for look in _CANDIDATES:
        try:
            paths, which = look(folder)
            _require_all(folder, paths, which)
            for path in paths:
                check_weight_file(path)
        except CheckpointError as error:
            reason = reason or error  # the first one is about the preferred kind
            continue
        if paths and reason is not None:
            log.warning("Janus: %s %s is used instead.", reason, paths[0].name)
        if paths:
            return paths
    raise reason or _without_weights(folder)


def _without_weights(folder: Path) -> CheckpointError:
    found = what_lies_there(folder)
    if found:
        return CheckpointError(f'"{folder}" {found}')
    return CheckpointError(
        f'"{folder}" has no weights: neither {" nor ".join(_WEIGHT_FILES)} nor an index of shards is '
        "there. Download the weight files into this folder."
    )


def _single(name: str) -> _Look:
    return lambda folder: ((folder / name,) if _is_there(folder / name) else (), "")


def _indexed(name: str) -> _Look:
    def look(folder: Path) -> tuple[tuple[Path, ...], str]:
        index = folder / name
        names = _names_in_index(index) if _is_there(index) else []
        return tuple(folder / shard for shard in names), f"named in {name}"

    return look


def _numbered(suffix: str) -> _Look:
    """Find shards whose index is missing; it is not needed, since their names tell how many there are."""

    def look(folder: Path) -> tuple[tuple[Path, ...], str]:
        if any(folder.glob(f"*.{suffix}.index.json")):  # a damaged one is better fetched again than guessed
            return (), ""
        for path in sorted(folder.glob(f"*-of-*.{suffix}")):
            found = _SHARD.fullmatch(path.name)
            if found:
                stem, number, total, end = found.groups()
                names = [f"{stem}{i:0{len(number)}}-of-{total}{end}" for i in range(1, int(total) + 1)]
                return tuple(folder / name for name in names), f'that belong to "{path.name}"'
        return (), ""

    return look


def _only_one(suffix: str) -> _Look:
    def look(folder: Path) -> tuple[tuple[Path, ...], str]:
        found = tuple(path for path in folder.glob(f"*.{suffix}") if not is_adapter_file(path))
        return (found if len(found) == 1 and found[0].name not in _WEIGHT_FILES else ()), ""

    return look


_CANDIDATES = (  # the preferred kind first
    _single("model.safetensors"),
    _indexed("model.safetensors.index.json"),
    _single("pytorch_model.bin"),
    _indexed("pytorch_model.bin.index.json"),
    _numbered("safetensors"),
    _numbered("bin"),
    _only_one("safetensors"),
)


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()  # a broken link counts: it is refused later by its name


def _names_in_index(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f'"{index}" lists no weights (no "weight_map"). {_FETCH_AGAIN}')
    names = list(weight_map.values())
    for name in names:
        if not _is_file_name(name):
            raise CheckpointError(
                f'"{index}" names the shard {shown(name)}, which is not a plain file name. {_FETCH_AGAIN}'
            )
    return sorted(set(names))


def _is_file_name(name: object) -> bool:
    # a shard's name comes from a downloaded file, and must not lead out of the folder
    if not isinstance(name, str) or name in ("", "..") or len(name) > 255:
        return False
    return Path(name).name == name and not {"\\", "\0"} & set(name)


def _require_all(folder: Path, paths: tuple[Path, ...], which: str) -> None:
    missing = [path.name for path in paths if not path.is_file()] if which else []
    if missing:
        raise CheckpointError(
            f'"{folder}" is incomplete: {len(missing)} of {len(paths)} weight files {which} are missing, '
            f'first "{missing[0]}". Continue the download.'
        )


def check_weight_file(path: Path) -> None:
    """Raise CheckpointError unless a file holds weights, and all of them."""
    refuse_pretenders(path)
    refuse_unfinished(path)
    refuse_cut_off(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; anything else is a CheckpointError that names the file."""
    try:
        text = read_model_text(path)
        if text.startswith(_LFS_MARK):
            raise CheckpointError(
                f'"{path}" is a Git-LFS pointer of a few lines. Run "git lfs pull" in the folder, or '
                "download the file itself."
            )
        content = parse_json(text)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(
            f'"{path.parent}" has no {path.name}. Download the whole model folder, not only the weights.'
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'Cannot read "{path}" as JSON: {error}. {_FETCH_AGAIN}') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'"{path}" holds {type(content).__name__}, not a JSON object. {_FETCH_AGAIN}')
    return content


def read_optional_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or return an empty one where there is no such file."""
    return read_json(path) if has_model_text(path) else {}
