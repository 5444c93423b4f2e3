"""Where captions are kept: a text beside each picture, or one file that grows. What is there is finished."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from ..errors import OutputError
from ..generation.endings import appended
from ..outputs import partial, ready_folder, to_json
from .finding import picture_endings, same_place

Existing = Literal["skip", "append", "overwrite"]
KEYS = ("file", "file_name")  # ours, and that of image folders on the Hugging Face hub


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One caption.

    Attributes:
        picture: of which.
        text: as it is to be kept.
        finished: False where it was cut off at its longest.
        num_tokens: that were written for it.
    """

    picture: Path
    text: str
    finished: bool
    num_tokens: int = 0


class CaptionStore(Protocol):
    """Keeps captions over interruptions.

    Attributes:
        remarks: what a person should know of what was there.
    """

    remarks: list[str]

    def has(self, picture: Path) -> bool:
        """Tell whether a picture is finished."""

    def make_ready(self, pictures: Sequence[Path], todo: Sequence[Path]) -> None:
        """Make sure, before the model is loaded, that captions can be kept; note what is worth a remark."""

    def add(self, captions: Sequence[Caption]) -> None:
        """Keep captions so that nothing can lose them any more."""

    def finish(self) -> None:
        """Tidy up at the end of a run, however it ended."""


class Sidecars:
    """A text file beside each picture."""

    def __init__(self, ending: str, existing: Existing, *, one_line: bool) -> None:
        """Note how to keep texts.

        Raises:
            OutputError: the ending is that of a picture, or none; or there is no such way to treat texts.
        """
        if existing not in get_args(Existing):  # a choice that arrives along a link is checked by nobody
            raise OutputError(
                f'There is no way "{existing}" to treat captions that are there. Choose one of '
                f"{', '.join(get_args(Existing))}."
            )
        ending = ending if ending.startswith(".") else f".{ending}"
        if ending.lower() in picture_endings() or len(ending) < 2 or {"/", "\\"} & set(ending):
            raise OutputError(f'Texts cannot end in "{ending}". Use an ending such as .txt or .caption.')
        self.ending = ending
        self.remarks: list[str] = []
        self._existing = existing
        self._one_line = one_line

    def _place_of(self, picture: Path) -> Path:
        return picture.with_suffix(self.ending)

    def text_of(self, picture: Path) -> str | None:
        """Return the text beside a picture, without blanks around it; None where there is none.

        Raises:
            OutputError: the file is there and cannot be read.
        """
        place = self._place_of(picture)
        try:
            return place.read_text(encoding="utf-8-sig", errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f'Cannot read "{place}": {error}. Check its permissions.') from error

    def has(self, picture: Path) -> bool:
        """Tell whether a picture has its text; an empty file is none."""
        return self._existing == "skip" and _size(self._place_of(picture)) > 0

    def make_ready(self, pictures: Sequence[Path], todo: Sequence[Path]) -> None:
        """Check that the folders can be written to and that no two pictures want the same text file.

        Raises:
            OutputError: otherwise.
        """
        owners: defaultdict[Path, list[Path]] = defaultdict(list)
        for picture in pictures:
            owners[self._place_of(picture)].append(picture)
        wanted = set(todo)
        for text, sharing in owners.items():
            names = " and ".join(f'"{picture}"' for picture in sharing)
            if len(sharing) > 1 and wanted & set(sharing):
                raise OutputError(
                    f"{names} would share one {self.ending}. Rename one of them; on the command line, --out "
                    "captions.jsonl keeps all captions in one file."
                )
            if len(sharing) > 1:
                self.remarks.append(f'{names} share "{text.name}", so both count as captioned')
        empty = sum(_size(self._place_of(picture)) == 0 for picture in todo)
        if empty:
            self.remarks.append(f"{empty} empty {self.ending} counted as missing")
        for folder in {picture.parent for picture in todo}:
            ready_folder(folder)

    def add(self, captions: Sequence[Caption]) -> None:
        """Write texts whole: a file that is there counts as finished, so half a one must never be."""
        for caption in captions:
            target = self._place_of(caption.picture)
            try:
                with partial(target) as part:
                    text = caption.text
                    if self._existing == "append" and target.exists():
                        before = target.read_text(encoding="utf-8-sig", errors="surrogateescape")
                        text = appended(before, text, one_line=self._one_line)
                    part.write_text(text + "\n", encoding="utf-8", errors="surrogateescape")
                    if self._existing != "skip" or _size(target) <= 0:
                        part.replace(target)
            except OSError as error:
                raise OutputError(f'Cannot write "{target}": {error}. Make room and run it again.') from error

    def finish(self) -> None:
        """Do nothing: every text is whole."""


def _size(path: Path) -> int:
    """Return how much text a file holds, blanks not counted; −1 where there is none."""
    try:
        size = path.stat().st_size
        return size if size > 64 else len(path.read_bytes().strip())
    except OSError:
        return -1


class CaptionFile:
    """A `.jsonl` file of captions that is appended to batch by batch and repaired after an interruption.

    Paths in it are relative to its own folder. A caption that replaces another is appended; the older line
    goes when the run ends.
    """

    def __init__(self, path: Path, existing: Existing, *, key: str = KEYS[0], one_line: bool = False) -> None:
        """Read what is finished and repair a last line that a kill cut off; all else stays as it is.

        Raises:
            OutputError: the file cannot be read or written, or holds something other than captions.
        """
        self._path = path
        self._existing = existing
        self._key = key
        self._one_line = one_line
        self._replaces = False
        self.remarks: list[str] = []
        ready_folder(path.parent)
        try:
            if path.exists() and not path.is_file():
                raise OSError("it is not a file")
            content = path.read_bytes() if path.exists() else b""
            whole, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
            lines = [self._entry(line, number) for number, line in enumerate(whole.split(b"\n"), start=1)]
            with path.open("ab") as file:
                self._repair(file.fileno(), len(whole), last, lines)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f'Cannot append to "{path}": {error}. Choose another file.') from error
        self._texts = {self._place(_named(entry)): entry.get("text") for entry in lines if entry}

    def _entry(self, line: bytes, number: int) -> dict[str, Any]:
        """Return what one line says, or nothing for an empty line."""
        entry = _caption(line) if line.strip() else {}
        if entry is None:
            raise OutputError(
                f'Line {number} of "{self._path}" is no caption ({{"file": …, "text": …}}). The file was '
                "left as it is; choose another one for the captions."
            )
        return entry

    def _repair(self, file: int, size: int, last: bytes, lines: list[dict[str, Any]]) -> None:
        """Complete or remove a last line without its end."""
        if not last:
            return
        entry = _caption(last)
        if entry is not None:
            lines.append(entry)
            os.write(file, b"\n")
        elif any(last.startswith(f'{{"{key}": "'.encode()[: len(last)]) for key in KEYS):
            os.ftruncate(file, size)
            self.remarks.append(f'"{self._path}" ended in half a line, which was removed')
        else:
            self._entry(last, len(lines))

    def _place(self, name: str) -> str:
        """Return where a picture of the file lies; older files count from where they were made."""
        here, there = same_place(self._path.parent / name), same_place(Path(name))
        return there if not Path(here).exists() and Path(there).exists() else here

    def has(self, picture: Path) -> bool:
        """Tell whether a picture has its line."""
        return self._existing == "skip" and same_place(picture) in self._texts

    def make_ready(self, pictures: Sequence[Path], todo: Sequence[Path]) -> None:
        """Do nothing: opening the file was the check."""

    def add(self, captions: Sequence[Caption]) -> None:
        """Append captions and make sure that they reach the disk.

        Raises:
            OutputError: the disk is full, or gone.
        """
        lines = [to_json(self._line(caption)) + "\n" for caption in captions]
        try:
            # One write for all of it, so that another process that appends to the file cuts no line in two.
            with self._path.open("ab", buffering=0) as file:
                file.write("".join(lines).encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f'Cannot append to "{self._path}": {error}. Make room and run it again.'
            ) from error

    def _line(self, caption: Caption) -> dict[str, Any]:
        place, text = same_place(caption.picture), caption.text
        before = self._texts.get(place)
        if before is not None:
            self._replaces = True
            text = appended(before, text, one_line=self._one_line) if self._existing == "append" else text
        return {self._key: self._relative(place), "text": text, "finished": caption.finished}

    def _relative(self, place: str) -> str:
        try:
            return Path(os.path.relpath(place, self._path.parent)).as_posix()
        except ValueError:  # another drive of Windows
            return Path(place).as_posix()

    def finish(self) -> None:
        """Remove the older line of every picture that has got a new one."""
        if not self._replaces:
            return
        latest: dict[str, bytes] = {}
        for number, line in enumerate(self._path.read_bytes().split(b"\n"), start=1):
            entry = self._entry(line, number)
            if entry:
                latest[self._place(_named(entry))] = line  # keeps the place of the older one
        with partial(self._path) as part:
            part.write_bytes(b"".join(line + b"\n" for line in latest.values()))
            part.replace(self._path)


def _caption(line: bytes) -> dict[str, Any] | None:
    """Return what a line of captions says, or None if it is no such line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and _named(entry) else None


def _named(entry: dict[str, Any]) -> str:
    """Return the picture that a line is about."""
    names = (entry.get(key) for key in KEYS)
    return next((name for name in names if isinstance(name, str) and name), "")
