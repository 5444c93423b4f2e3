"""Small files of strangers: read whole, but only plain ones of a sensible size, and parsed without surprises.

Knows nothing of what stands in them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST_TEXT = 2**26  # bytes; the index of a thousand tensors has 100 kB, the largest tokenizers 33 MB


def read_small_file(path: Path) -> bytes:
    """Return the content of a plain file; a pipe or a device, which may never end, is none.

    Raises:
        OSError: it is not there, cannot be read, is no plain file, or is too large.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise OSError("it is not a file")
    if size > LARGEST_TEXT:
        raise OSError(f"it is larger than {LARGEST_TEXT // 2**20} MiB")
    return path.read_bytes()


def read_small_text(path: Path) -> str:
    """Return the text of a plain UTF-8 file, without a byte order mark.

    Raises:
        OSError: as `read_small_file`. ValueError: it is not UTF-8.
    """
    return read_small_file(path).decode("utf-8-sig").replace("\r\n", "\n")


def parse_json(text: str) -> Any:
    """Return what a text of JSON says.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
