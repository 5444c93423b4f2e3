"""Files of captions: one that grows, or a text beside each picture. What is in a file counts as finished."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..errors import OutputError
from .files import partial, ready_folder
from .terminal import to_json

_BEGINNING = b'{"file": "'  # of every line that we write, so half a line can be told from foreign text


class CaptionStore(Protocol):
    """Keeps captions, also if the command is interrupted."""

    def has(self, picture: Path) -> bool:
        """Tell whether a picture is finished."""

    def make_ready(self, pictures: Sequence[Path]) -> None:
        """Check, before the model is loaded, that captions of these pictures can be written."""

    def add(self, captions: Sequence[tuple[Path, str]]) -> None:
        """Write captions to the disk."""


class Sidecars:
    """A `.txt` beside each picture, never over one that is there."""

    def has(self, picture: Path) -> bool:
        """Tell whether a picture has its text."""
        return picture.with_suffix(".txt").exists()

    def make_ready(self, pictures: Sequence[Path]) -> None:
        """Check that the folders can be written to and that no two pictures want the same text file.

        Raises:
            OutputError: otherwise.
        """
        owners: dict[Path, Path] = {}
        for picture in pictures:
            owner = owners.setdefault(picture.with_suffix(".txt"), picture)
            if owner != picture:
                raise OutputError(
                    f'"{owner}" and "{picture}" would share one .txt. Rename one of them, or keep captions '
                    "in one file with --out captions.jsonl."
                )
        for folder in {picture.parent for picture in pictures}:
            ready_folder(folder)

    def add(self, captions: Sequence[tuple[Path, str]]) -> None:
        """Write each text whole or not at all, since a file that exists counts as finished."""
        for picture, text in captions:
            target = picture.with_suffix(".txt")
            try:
                with partial(target) as part:
                    part.write_text(text + "\n", encoding="utf-8")
                    if not target.exists():
                        part.replace(target)
            except OSError as error:
                raise OutputError(f'Cannot write "{target}": {error}. Make room and run it again.') from error


class CaptionFile:
    """A `.jsonl` file of captions that is appended to batch by batch and repaired after an interruption.

    Attributes:
        was_repaired: whether an incomplete last line was removed.
    """

    def __init__(self, path: Path) -> None:
        """Read finished captions and repair an incomplete last line; everything else is left unchanged.

        Raises:
            OutputError: the file cannot be read or written, or holds something other than captions.
        """
        self._path = path
        self.was_repaired = False
        ready_folder(path.parent)
        try:
            if path.exists() and not path.is_file():
                raise OSError("it is not a file")
            content = path.read_bytes() if path.exists() else b""
            whole, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
            files = [self._file_of(line, number) for number, line in enumerate(whole.split(b"\n"), start=1)]
            with path.open("ab") as file:
                self._repair(file.fileno(), len(whole), last, files)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f'Cannot append to "{path}": {error}. Choose another file.') from error
        self._finished = {Path(name).absolute() for name in files if name}

    def _file_of(self, line: bytes, number: int) -> str:
        """Return the picture's name in one line, or nothing for an empty line."""
        name = _named_file(line) if line.strip() else ""
        if name is None:
            raise OutputError(
                f'Line {number} of "{self._path}" is no caption ({{"file": …, "text": …}}). The file was '
                "left as it is; choose another one for the captions."
            )
        return name

    def _repair(self, file: int, size: int, last: bytes, files: list[str]) -> None:
        """Complete or remove a last line without a line break."""
        if not last:
            return
        name = _named_file(last)
        if name is not None:  # whole JSON: only the line break is missing
            files.append(name)
            os.write(file, b"\n")
        elif last.startswith(_BEGINNING[: len(last)]):
            os.ftruncate(file, size)
            self.was_repaired = True
        else:
            self._file_of(last, len(files))

    def has(self, picture: Path) -> bool:
        """Tell whether a picture has its line."""
        return picture.absolute() in self._finished

    def make_ready(self, pictures: Sequence[Path]) -> None:
        """Do nothing: opening the file was the check."""

    def add(self, captions: Sequence[tuple[Path, str]]) -> None:
        """Append captions and make sure that they reach the disk.

        Raises:
            OutputError: the disk is full, or gone.
        """
        lines = [to_json({"file": str(picture), "text": text}) + "\n" for picture, text in captions]
        try:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())  # hours of captions should survive a crash of the machine, too
        except OSError as error:
            raise OutputError(
                f'Cannot append to "{self._path}": {error}. Make room and run it again.'
            ) from error


def _named_file(line: bytes) -> str | None:
    """Return the picture that a line of captions is about, or None if it is no such line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    name = entry.get("file") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else None
