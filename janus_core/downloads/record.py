"""What a download writes down beside its files: from which commit they are, and what each must be.

A record is written before the first byte arrives and stays. So a download is resumed from the commit it
began with, without asking the hub which is the newest, and a folder that is not whole is noticed before it is
loaded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import DownloadError
from ..reading import parse_json, read_small_text
from .published import is_fixed

RECORD = ".janus-download.json"
PART_SUFFIX = ".part"
_VERSION = 1


class Checksum(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Return the sum of all bytes so far."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file as it was published.

    Attributes:
        name: a bare file name.
        size: in bytes.
        checksum: SHA-256 of the content (64 digits), or the id that git gives it (40 digits).
    """

    name: str
    size: int
    checksum: str

    def new_checksum(self) -> Checksum:
        """Return a hash whose digest over the whole content must equal `checksum`."""
        if len(self.checksum) == hashlib.sha256().digest_size * 2:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


@dataclass(frozen=True, kw_only=True)
class DownloadRecord:
    """What a folder's files are.

    Attributes:
        repository: on the hub.
        commit: the one that `main` was when the download began.
        files: in the order of fetching.
    """

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)


def read_record(folder: Path) -> DownloadRecord | None:
    """Return a folder's record, or None where there is none.

    Raises:
        DownloadError: it cannot be read.
    """
    path = folder / RECORD
    try:
        return _parse(parse_json(read_small_text(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DownloadError(
            f'Cannot read "{path}", which says what was downloaded: {error}. Delete this one file; the next '
            "download checks the others and goes on."
        ) from error


def _parse(content: dict[str, Any]) -> DownloadRecord:
    if content["version"] != _VERSION:
        raise ValueError(f"it is of version {content['version']}")
    files = tuple(RemoteFile(**file) for file in content["files"])
    for file in files:
        if Path(file.name).name != file.name or "\\" in file.name or file.name in ("", ".."):
            raise ValueError(f"{file.name!r} is no plain file name")
        if not isinstance(file.size, int) or file.size < 0:
            raise ValueError(f"{file.size!r} is no size")
    return DownloadRecord(repository=str(content["repository"]), commit=str(content["commit"]), files=files)


def write_record(folder: Path, record: DownloadRecord) -> None:
    """Write a folder's record, whole or not at all."""
    content = {"version": _VERSION, **asdict(record)}
    unfinished = folder / f"{RECORD}.new"
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / RECORD)


def size_of(path: Path) -> int | None:
    """Return a file's size, or None where there is no file."""
    return path.stat().st_size if path.is_file() else None


def missing_files(folder: Path, record: DownloadRecord) -> list[RemoteFile]:
    """Return the files of a record that have not arrived yet; a file gets its name when it is whole."""
    return [file for file in record.files if size_of(folder / file.name) is None]


def is_unfinished(folder: Path) -> bool:
    """Tell whether a download into a folder was begun and has not brought every file.

    Raises:
        DownloadError: the folder's record cannot be read.
    """
    record = read_record(folder)
    return record is not None and bool(missing_files(folder, record))


def refuse_changed(folder: Path, record: DownloadRecord) -> None:
    """Refuse a folder whose weights or tokenizer are of another size than when they arrived.

    Configuration may be edited: that is a person's right.

    Raises:
        DownloadError: naming the first file and both sizes.
    """
    for file in record.files:
        size = size_of(folder / file.name)
        if is_fixed(file.name) and size not in (None, file.size):
            raise DownloadError(
                f'"{folder / file.name}" has {size:,} bytes instead of the {file.size:,} that arrived: it '
                "was changed or damaged since. Move it away or delete it, then download again; the other "
                "files are kept."
            )


def refuse_partial(folder: Path) -> None:
    """Refuse a folder whose download is not finished or was changed; one without a record passes.

    Raises:
        DownloadError: naming the first missing or changed file, and how to go on.
    """
    record = read_record(folder)
    if record is None:
        return
    refuse_changed(folder, record)
    missing = missing_files(folder, record)
    if missing:
        raise DownloadError(
            f'The download in "{folder}" is not finished: {len(missing)} of {len(record.files)} files are '
            f'missing, first "{missing[0].name}". Download the model again; it goes on where it stopped.'
        )
