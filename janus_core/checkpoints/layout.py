"""Tell which of the published layouts a folder has, and list its files. Reads headers, never tensors.

authors        config.json with `gen_head_config`, weights in .safetensors or .bin
transformers   config.json with `model_type` "janus", weights in .safetensors
janusflow      config.json with `vision_gen_enc_config`: the authors' files of the sibling that draws by flow
"""

from __future__ import annotations

import json
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import CheckpointError

Layout = Literal["authors", "transformers", "janusflow"]

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_SHARD = re.compile(r"(?P<stem>.+-)(?P<number>\d{1,5})-of-(?P<total>\d{1,5})(?P<suffix>\.\w+)")
_LFS_MARK = b"version https://git-lfs"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LARGEST_JSON = 2**26  # bytes; the index of a thousand tensors has 100 kB
_FETCH_AGAIN = "Fetch it again from where it was published."

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 3, 80, 80


def show(value: object) -> str:
    """Return a value out of a file for a message, short however long or deeply nested it is."""
    return _short.repr(value)


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """One model folder's files.

    Attributes:
        folder: the model folder.
        layout: whose names its tensors carry.
        config: parsed `config.json`.
        weights: all weight files, each looked at and present.
    """

    folder: Path
    layout: Layout
    config: dict[str, Any]
    weights: tuple[Path, ...]


def find_files(folder: Path) -> CheckpointFiles:
    """Recognise a model folder and list its weight files.

    Raises:
        CheckpointError: not a folder, no or unreadable `config.json`, another kind of model, missing or fake
            weights.
    """
    try:
        _require_folder(folder)
        config = read_json(folder / "config.json")
        return CheckpointFiles(
            folder=folder, layout=recognise(config, folder), config=config, weights=find_weights(folder)
        )
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f'Cannot look into "{folder}": {error}. Check the path.') from error


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file, not a model folder" if folder.exists() else "does not exist"
        raise CheckpointError(
            f'Cannot load "{folder}": it {what}. Give the folder that holds config.json and the weights.'
        )


def recognise(config: dict[str, Any], folder: Path) -> Layout:
    """Return the layout that a parsed `config.json` belongs to, or say what the model is instead."""
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
        f'"{folder}" is not a Janus model: its config.json says model_type {show(model_type)}. Choose a '
        "folder of Janus-1.3B, Janus-Pro-1B, Janus-Pro-7B or a fine-tune of them."
    )


def find_weights(folder: Path) -> tuple[Path, ...]:
    """List the weight files of a folder: safetensors before .bin, a single file before shards.

    Raises:
        CheckpointError: there are none, some shards are missing, or one is no weight file at all.
    """
    weights = _named_weights(folder) or _numbered_shards(folder) or _only_safetensors(folder)
    if not weights:
        raise CheckpointError(
            f'"{folder}" has no weights: neither {" nor ".join(_WEIGHT_FILES)} nor an index of shards is '
            "there. Download the weight files into this folder."
        )
    for path in weights:
        check_weight_file(path)
    return weights


def _named_weights(folder: Path) -> tuple[Path, ...]:
    for name in _WEIGHT_FILES:
        if _is_there(folder / name):
            return (folder / name,)
        index = folder / f"{name}.index.json"
        if _is_there(index):
            return _complete(folder, _names_in_index(index), f"named in {index.name}")
    return ()


def _numbered_shards(folder: Path) -> tuple[Path, ...]:
    """Return shards whose index is missing; it is not needed, since their names tell how many there are."""
    for suffix in ("safetensors", "bin"):
        for path in sorted(folder.glob(f"*-of-*.{suffix}")):
            found = _SHARD.fullmatch(path.name)
            if found:
                stem, number, total, end = found.groups()
                names = [f"{stem}{i:0{len(number)}}-of-{total}{end}" for i in range(1, int(total) + 1)]
                return _complete(folder, names, f'that belong to "{path.name}"')
    return ()


def _only_safetensors(folder: Path) -> tuple[Path, ...]:
    found = tuple(folder.glob("*.safetensors"))
    return found if len(found) == 1 else ()


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _names_in_index(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f'"{index}" lists no weights (no "weight_map"). {_FETCH_AGAIN}')
    names = list(weight_map.values())
    for name in names:
        if not _is_file_name(name):
            raise CheckpointError(
                f'"{index}" names the shard {show(name)}, which is not a plain file name. {_FETCH_AGAIN}'
            )
    return sorted(set(names))


def _is_file_name(name: object) -> bool:
    if not isinstance(name, str) or name in ("", "..") or len(name) > 255:
        return False
    return Path(name).name == name and not {"\\", "\0"} & set(name)


def _complete(folder: Path, names: list[str], which: str) -> tuple[Path, ...]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f'"{folder}" is incomplete: {len(missing)} of {len(names)} weight files {which} are missing, '
            f'first "{missing[0]}". Continue the download.'
        )
    return tuple(folder / name for name in names)


def check_weight_file(path: Path) -> None:
    """Refuse what only pretends to hold weights: a folder, a Git-LFS pointer, a web page, nothing at all."""
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is a link to a file that is not there"
        raise CheckpointError(f'"{path}" {what}. {_FETCH_AGAIN}')
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise CheckpointError(f'Cannot read "{path}": {error}. Check the permissions of the file.') from error
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not text:
        raise CheckpointError(f'"{path}" is empty. {_FETCH_AGAIN}')
    if text.startswith(_LFS_MARK):
        raise CheckpointError(
            f'"{path}" is a Git-LFS pointer of a few lines, not the weights. Run "git lfs pull" in the '
            "folder, or download the file itself."
        )
    if text.startswith(b"<") and b"\0" not in head[:8]:  # weights may start so too, but with zero bytes
        raise CheckpointError(
            f'"{path}" is a web page, not weights: the download was answered by an error or a login page. '
            f"{_FETCH_AGAIN}"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; anything else is a CheckpointError that names the file."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a file")
        if path.stat().st_size > _LARGEST_JSON:
            raise OSError(f"it is larger than {_LARGEST_JSON // 2**20} MiB")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f'"{path.parent}" has no {path.name}. Download the whole model folder, not only the weights.'
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f'Cannot read "{path}" as JSON: {error}. {_FETCH_AGAIN}') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'"{path}" holds {type(content).__name__}, not a JSON object. {_FETCH_AGAIN}')
    return content


def read_optional_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or return an empty one where there is no such file."""
    return read_json(path) if path.exists() else {}
