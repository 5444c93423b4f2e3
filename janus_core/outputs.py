"""What is written: folders that are tried first, files that are whole or not there, lines of JSON.

Knows nothing of pictures, texts and models.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError


def ready_folder(folder: Path) -> Path:
    """Create a folder and check that files can be written into it.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # permission bits alone do not tell
            pass
    except OSError as error:
        raise OutputError(
            f'Cannot write into "{folder}": {error}. Choose a folder you may write to.'
        ) from error
    return folder


@contextmanager
def partial(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, for a file to be renamed when complete; remove it afterwards."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def to_json(content: object, *, is_utf8: bool = True) -> str:
    """Return one line of JSON; escaped if the target is not UTF-8, or a text holds lone surrogates."""
    text = json.dumps(content, ensure_ascii=False)
    # file names that are not UTF-8 reach Python as lone surrogates, which no encoding can write
    is_text = not any("\ud800" <= character <= "\udfff" for character in text)
    return text if is_utf8 and is_text else json.dumps(content)


def from_home(path: str | os.PathLike[str]) -> Path:
    """Return a path with "~" as the person's own folder; "~name" of nobody on this computer stays."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises for a "~name" of nobody
