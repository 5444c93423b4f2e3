"""Bring a published model into a folder: planned first, then fetched file by file, resumed and checked.

A file grows under a name that ends in .part and gets its own when its checksum is right, so an interrupted
download loses nothing and no half file is ever taken for a whole one. Nothing that is there is overwritten.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import DownloadError
from ..reading import parse_json, read_small_text
from .hub import TransientFailure, UnreachableError, endpoint, given_up, look_up, receive_file
from .published import PublishedModel, published_model
from .record import (
    PART_SUFFIX,
    Checksum,
    DownloadRecord,
    RemoteFile,
    missing_files,
    read_record,
    refuse_changed,
    size_of,
    write_record,
)

if TYPE_CHECKING:
    from ..options import OnStep  # which imports torch

_LOCK = ".janus-download.lock"
_FIRST_WAIT_S = 1.0  # doubled from failure to failure
_MOST_FAILURES = 5  # in a row, with nothing arriving in between
_POLL_S = 0.2
_READ_BYTES = 2**20
_SPARE_BYTES = 2**24  # of disk, for the record and the folders themselves


@dataclass(frozen=True, kw_only=True)
class DownloadPlan:
    """What a download brings, and from where.

    Attributes:
        model: the published model.
        folder: where its files go.
        record: the commit and the files.
    """

    model: PublishedModel
    folder: Path
    record: DownloadRecord

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return self.record.total_bytes

    @property
    def missing_bytes(self) -> int:
        """What has not arrived yet, parts of files counted."""
        missing = missing_files(self.folder, self.record)
        return sum(max(0, file.size - (size_of(_part(self.folder, file)) or 0)) for file in missing)


def _go_on() -> None:
    pass


def plan_download(
    name: str, folder: str | os.PathLike[str], on_wait: Callable[[], None] = _go_on
) -> DownloadPlan:
    """Say what a download brings; a download that was begun keeps its commit, and the hub is not asked.

    Args:
        name: of a published model.
        folder: where its files go; nothing is written yet.
        on_wait: called four times a second while the hub is silent; may raise to interrupt.

    Raises:
        DownloadError: no published model has this name, or the hub cannot be asked.
    """
    model = published_model(name)
    record = read_record(Path(folder)) or _look_up_first(model, on_wait)
    return DownloadPlan(model=model, folder=Path(folder), record=record)


def _look_up_first(model: PublishedModel, on_wait: Callable[[], None]) -> DownloadRecord:
    """Look a model up in the first of its repositories that the hub has."""
    *preferred, last = model.repositories
    for repository in preferred:
        try:
            return look_up(repository, on_wait)
        except UnreachableError:  # the next one may be there; the last one's answer is told
            continue
    return look_up(last, on_wait)


def run_download(plan: DownloadPlan, on_progress: OnStep) -> None:
    """Fetch what is missing of a model.

    Args:
        plan: from `plan_download`.
        on_progress: told bytes there and bytes in all, at least four times a second; may raise to interrupt.

    Raises:
        DownloadError: something is in the way; what has arrived is kept, and a further run goes on.
    """
    with _written(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
    with _locked(plan.folder):
        if read_record(plan.folder) is not None:
            refuse_changed(plan.folder, plan.record)
            _check_space(plan)
        else:
            _adopt(plan, on_progress)
            _check_space(plan)
            with _written(plan.folder):
                write_record(plan.folder, plan.record)
        _Fetching(plan, on_progress).run()
    _check_index(plan)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Name the folder when the disk refuses something: it is full, or may not be written to."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f'Cannot write into "{folder}": {error.strerror or error}. What has arrived is kept. Make room '
            "or correct the permissions, then download again; it goes on where it stopped."
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second process from writing into the same files."""
    endpoint()  # says what is wrong where huggingface_hub cannot be used
    from huggingface_hub.utils import WeakFileLock

    with ExitStack() as stack:
        with _written(folder):
            try:
                stack.enter_context(WeakFileLock(folder / _LOCK, timeout=_POLL_S))
            except TimeoutError as error:
                raise DownloadError(
                    f'Another process is downloading into "{folder}". Wait until it is done.'
                ) from error
        yield


def _adopt(plan: DownloadPlan, on_progress: OnStep) -> None:
    """Take files that somebody else put into the folder, where they are the published ones; refuse others."""
    done = 0
    for file in plan.record.files:
        path = plan.folder / file.name
        if not path.exists():
            continue
        checksum = file.new_checksum()
        for piece in _read(path) if size_of(path) == file.size else ():
            checksum.update(piece)
            done += len(piece)
            on_progress(done, plan.total_bytes)
        if checksum.hexdigest() != file.checksum:
            raise DownloadError(
                f'"{path}" is there already and is not the file of "{plan.record.repository}". Nothing was '
                "overwritten: move it, or its folder, away and download again."
            )


def _check_space(plan: DownloadPlan) -> None:
    free = shutil.disk_usage(plan.folder).free
    if plan.missing_bytes and free < plan.missing_bytes + _SPARE_BYTES:
        raise DownloadError(
            f"{plan.model.name} needs {_in_gb(plan.missing_bytes)} more, and the disk of "
            f'"{plan.folder}" has {_in_gb(free)} free. Make room and download again; what is there is kept.'
        )


def _in_gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _check_index(plan: DownloadPlan) -> None:
    """Refuse weights whose index names files that were not among those offered."""
    for file in plan.record.files:
        if file.name.endswith(".index.json"):
            try:
                content = parse_json(read_small_text(plan.folder / file.name))
                named = set(content.get("weight_map", {}).values())
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise DownloadError(
                    f'"{file.name}" of "{plan.record.repository}" is no index of weight files: '
                    f"{error!s:.200}. The publisher has to correct this."
                ) from error
            absent = sorted(named - {other.name for other in plan.record.files})
            if absent:
                raise DownloadError(
                    f'"{file.name}" of "{plan.record.repository}" names {len(absent)} weight files that the '
                    f'repository does not have, first "{absent[0]}". The publisher has to correct this.'
                )


def _part(folder: Path, file: RemoteFile) -> Path:
    return folder / (file.name + PART_SUFFIX)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(_READ_BYTES):
            yield piece


class _Fetching:
    """The missing files of a plan, one after the other."""

    def __init__(self, plan: DownloadPlan, on_progress: OnStep) -> None:
        self._plan = plan
        self._on_progress = on_progress
        self._done = 0

    def run(self) -> None:
        """Fetch every file that is not there."""
        missing = missing_files(self._plan.folder, self._plan.record)
        self._done = self._plan.total_bytes - sum(file.size for file in missing)
        self._tell()
        for file in missing:
            self._fetch(file)

    def _tell(self) -> None:
        self._on_progress(self._done, self._plan.total_bytes)

    def _fetch(self, file: RemoteFile) -> None:
        path, part = self._plan.folder / file.name, _part(self._plan.folder, file)
        if (size_of(part) or 0) > file.size:
            part.unlink()  # of some other file: nothing in it can be used
        before = self._done
        checksum = file.new_checksum()
        for piece in _read(part) if part.exists() else ():
            self._take(piece, checksum)
        with _written(self._plan.folder):
            # Unbuffered, so that a killed process loses nothing that it had received.
            target = part.open("ab", buffering=0)
        with target:
            self._receive_rest(file, target, checksum, before)
        if checksum.hexdigest() != file.checksum:
            part.unlink()
            raise DownloadError(
                f'What arrived of "{file.name}" is not what was published: its checksum is '
                f"{checksum.hexdigest()[:12]}…, not {file.checksum[:12]}…. This one file was thrown away, "
                "the others are kept. Download again; if it happens twice, check the proxy or HF_ENDPOINT."
            )
        with _written(self._plan.folder):
            part.replace(path)

    def _take(self, piece: bytes, checksum: Checksum) -> None:
        checksum.update(piece)
        self._done += len(piece)
        self._tell()

    def _receive_rest(self, file: RemoteFile, target: BinaryIO, checksum: Checksum, before: int) -> None:
        """Append what is missing of a file, asking again when the connection breaks."""
        failures = 0
        while (start := self._done - before) < file.size:
            failure = TransientFailure(f'"{file.name}"', "the connection ended too early")
            try:
                self._append(file, target, checksum, start)
            except TransientFailure as error:
                failure = error
            arrived = self._done - before
            if arrived == file.size:
                return
            failures = failures + 1 if arrived == start else 1
            if failures == _MOST_FAILURES:
                raise given_up(failure) from failure
            self._wait(_FIRST_WAIT_S * 2 ** (failures - 1) if failure.wait_s is None else failure.wait_s)

    def _append(self, file: RemoteFile, target: BinaryIO, checksum: Checksum, start: int) -> None:
        missing = file.size - start
        with receive_file(self._plan.record, file, start, self._tell) as pieces:
            for piece in pieces:
                if len(piece) > missing:
                    raise DownloadError(
                        f'"{file.name}" does not end where it was published to end. What has arrived is '
                        "kept. Try again later, or without the proxy in between."
                    )
                self._write(target, piece)
                missing -= len(piece)
                self._take(piece, checksum)

    def _write(self, target: BinaryIO, piece: bytes) -> None:
        rest = memoryview(piece)
        with _written(self._plan.folder):
            while rest:
                rest = rest[target.write(rest) :]

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._tell()
            time.sleep(min(_POLL_S, left))
