"""A whole model in one `.safetensors`: its texts stand in the header, the tokenizer is a tensor of bytes.

Such a file is read like a folder: "model.safetensors/config.json" is the text that its header holds under
`config.json`. Nothing here knows what the texts mean, or reads weights.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .reading import LARGEST_TEXT, parse_json, read_small_file

SUFFIX = ".safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_TENSOR = "tokenizer_json"
"""The uint8 tensor whose bytes are `tokenizer.json`, as other models in one file have it."""

_LARGEST_HEADER = 100_000_000  # bytes, the format's own limit


@dataclass(frozen=True, kw_only=True)
class Header:
    """What stands before the tensors of a file.

    Attributes:
        texts: the header's metadata.
        entries: dtype, shape and place of every tensor.
        start: offset of the first tensor.
    """

    texts: dict[str, str]
    entries: dict[str, dict[str, Any]]
    start: int


def is_one_file(path: Path) -> bool:
    """Tell whether a file holds a model's configuration in its header; any other file, or none, does not."""
    if path.suffix != SUFFIX:
        return False
    try:
        return CONFIG in read_header(path).texts
    except (OSError, ValueError):
        return False


def read_header(path: Path) -> Header:
    """Read the header of a `.safetensors` file; the last ones are remembered as long as their files stay.

    Raises:
        OSError: the file cannot be read, or ends within its header. ValueError: the header is broken.
    """
    state = path.stat()
    return _header(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _header(path: Path, size: int, _mtime_ns: int) -> Header:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length + 8 > size:
            raise OSError("its header is cut off")
        if length > _LARGEST_HEADER:
            raise ValueError("its header is larger than the format allows")
        content = parse_json(file.read(length).decode("utf-8"))
    if not isinstance(content, dict):
        raise ValueError("its header lists no tensors")
    texts = content.pop("__metadata__", None) or {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("its header's metadata are no texts")
    if not all(isinstance(entry, dict) for entry in content.values()):
        raise ValueError("its header lists no tensors")
    return Header(texts=texts, entries=content, start=8 + length)


def has_model_text(path: Path) -> bool:
    """Tell whether a model's folder, or one file, has the text file that a path names."""
    if not path.parent.is_file():
        return path.exists()
    try:
        header = read_header(path.parent)
    except (OSError, ValueError):
        return False
    return path.name in header.texts or (path.name == TOKENIZER and TOKENIZER_TENSOR in header.entries)


def read_model_text(path: Path) -> str:
    """Return the text of a file in a model's folder, or inside one file.

    Raises:
        FileNotFoundError: there is none. OSError, ValueError: it cannot be read, or is not UTF-8.
    """
    if not path.parent.is_file():
        return read_small_file(path).decode("utf-8-sig")  # line ends stay as they are
    header = read_header(path.parent)
    if path.name == TOKENIZER:
        return _tokenizer(path.parent, header).decode("utf-8-sig")
    if path.name not in header.texts:
        raise FileNotFoundError(f'there is no "{path.name}" in its header')
    return header.texts[path.name]


def _tokenizer(path: Path, header: Header) -> bytes:
    entry = header.entries.get(TOKENIZER_TENSOR)
    if entry is None:
        raise FileNotFoundError(f"it has no tensor {TOKENIZER_TENSOR}")
    try:
        first, end = (operator.index(offset) for offset in entry["data_offsets"])
        size = path.stat().st_size
        if entry["dtype"] != "U8" or not 0 <= first <= end <= min(first + LARGEST_TEXT, size):
            raise ValueError(TOKENIZER_TENSOR)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its tensor {TOKENIZER_TENSOR} is no text") from error
    with path.open("rb") as file:
        file.seek(header.start + first)
        return file.read(end - first)
