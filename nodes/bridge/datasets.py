"""Folders of pictures to be captioned: those that ComfyUI reads and writes, and those that a person allows.

A workflow may come from a stranger, so what it names is compared with the allowed folders before anything on
the disk is looked at. Only a line in extra_model_paths.yaml, which no workflow can write, allows another one.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import comfy.model_management as mm
import folder_paths

from ...janus_core import (
    Caption,
    CaptionRun,
    CaptionWatch,
    Existing,
    ImageError,
    Sidecars,
    Survey,
    TextOptions,
    find_pictures,
)
from .batching import in_batches
from .hosting import HostedJanus
from .progress import Progress, Rate, show_text

KEY = "janus_datasets"
"""The key in extra_model_paths.yaml that allows further folders."""

_ENDING = ".txt"
_TOGETHER = 8  # pictures captioned at once, fewer where memory is short
_INTERVAL_S = 0.1
_MOST_NAMED = 5  # pictures that failed


def allowed_folders() -> list[Path]:
    """List the folders in which pictures may be captioned."""
    own = (folder_paths.get_input_directory(), folder_paths.get_output_directory())
    further = folder_paths.folder_names_and_paths.get(KEY, ([], set()))[0]
    return [_absolute(Path(path)) for path in (*own, *further)]


def dataset_folder(name: str) -> Path:
    """Return the folder that a person named: relative to an allowed one, or the whole path.

    Raises:
        ImageError: it is outside the allowed folders, or not there.
    """
    text = name.strip().strip("\"'").strip()  # file managers copy paths with quotes
    if not text or "\0" in text:
        raise ImageError(
            'No folder is named. Write the name of a folder in ComfyUI\'s input folder, such as "photos", or '
            "a whole path."
        )
    allowed = allowed_folders()
    given = Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises for a "~name" of nobody
    meant = [_absolute(given)] if given.is_absolute() else [_absolute(root / given) for root in allowed]
    inside = [path for path in meant if any(_is_inside(path, root) for root in allowed)]
    if not inside:
        raise ImageError(
            f'The folder "{text}" lies outside ComfyUI\'s input and output folders. Put the pictures into '
            f'"{allowed[0]}", or allow the folder: add "{KEY}: {text}" below a name of your own in '
            "extra_model_paths.yaml and start ComfyUI again."
        )
    for path in inside:
        if path.is_dir():
            return path
    looked = " or ".join(f'"{path}"' for path in inside)
    raise ImageError(f"There is no folder {looked}. Check the name.")


def _absolute(path: Path) -> Path:
    """Return a path without ".."; a person's own links inside a folder count as inside."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _is_inside(path: Path, root: Path) -> bool:
    inner, outer = Path(os.path.normcase(path)), Path(os.path.normcase(root))
    return inner == outer or outer in inner.parents


def sidecars(existing: Existing, *, one_line: bool) -> Sidecars:
    """Return what keeps a text beside each picture."""
    return Sidecars(_ENDING, existing, one_line=one_line)


def dataset_state(name: str | None, recursive: bool, existing: Existing) -> str:
    """Return what changes when there is something to do in a folder; text, since ComfyUI saves it.

    Texts count only where pictures with a text are skipped: replacing them again at every run, though nothing
    has changed, is not what a person wants.
    """
    if name is None:  # the name comes from a link and is not known yet
        return str(time.time_ns())
    pictures = find_pictures([str(dataset_folder(name))], recursive=recursive).pictures
    texts = [path.with_suffix(_ENDING) for path in pictures] if existing == "skip" else []
    state = [(str(path), *_stamp(path)) for path in (*pictures, *texts)]
    return hashlib.sha256(repr(state).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns


class FolderProgress(Progress, CaptionWatch):
    """Pictures on the node's bar; as its text how many are done and the captions being written."""

    def __init__(self, node_id: str | None, total: int, options: TextOptions) -> None:
        super().__init__(node_id)
        self.rate = Rate(options.max_new_tokens)
        self._node_id = node_id
        self._total = total
        self._done = 0
        self._texts: dict[Path, str] = {}
        self._next_s = 0.0

    def on_text(self, picture: Path, text: str) -> None:
        """Show a caption while it is written; raises if the person cancelled."""
        mm.throw_exception_if_processing_interrupted()
        self._texts[picture] = text
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + _INTERVAL_S
            self._show()

    def on_captions(self, captions: Sequence[Caption]) -> None:
        """Count what a batch took."""
        for caption in captions:
            self.rate.count(caption.num_tokens, finished=caption.finished)

    def on_step(self, done: int, total: int) -> None:
        """Move the bar; raises if the person cancelled."""
        self._done = done
        self._texts = {}
        super().on_step(done, total)

    def stopped(self) -> None:
        """Say what a Cancel leaves."""
        show_text(
            f"Stopped at {self._done} of {self._total} pictures. Their captions are kept; run again to go "
            "on.",
            self._node_id,
        )

    def _show(self) -> None:
        written = "\n".join(f"{path.name}: {text}" for path, text in self._texts.items())
        show_text(f"{self._done} of {self._total} pictures\n{written}", self._node_id)


def caption_pictures(run: CaptionRun, seen: Survey, model: HostedJanus, watch: FolderProgress) -> None:
    """Caption what is open, in smaller batches where memory is short; what is done stays after a Cancel."""
    try:
        in_batches(lambda size: run.go_on(model.janus, size), max(1, min(_TOGETHER, len(seen.todo))))
    except mm.InterruptProcessingException:
        watch.stopped()
        raise


def summary(run: CaptionRun, seen: Survey) -> str:
    """Say in one line what a run did."""
    there = len(seen.mine) - len(seen.todo)
    said = f"{len(run.captions)} captioned, {there} had a text already"
    return f"{said}, {len(run.failed)} failed" if run.failed else said


def remarks(run: CaptionRun, seen: Survey, store: Sidecars, watch: FolderProgress) -> list[str]:
    """List what a person should know besides: what failed, what was passed over, what was cut off."""
    failed = run.failed[:_MOST_NAMED]
    if len(run.failed) > len(failed):
        failed.append(f"{len(run.failed) - len(failed)} further pictures failed.")
    said = [*failed, *store.remarks, watch.rate.cut_off(), seen.found.passed_over(), watch.rate.speed()]
    return [remark for remark in said if remark]


def texts_of(seen: Survey, store: Sidecars, run: CaptionRun) -> list[str]:
    """Return the text of every picture, in order.

    Raises:
        ImageError: no picture has one.
    """
    texts = [text for _, path in seen.mine if (text := store.text_of(path)) is not None]
    if run.failed and not texts:
        raise ImageError(f"None of the {len(seen.mine)} pictures could be captioned. {run.failed[0]}")
    return texts
