"""Caption picture files: see what is there, caption what is missing batch by batch, keep each batch at once.

What the command line and the nodes of ComfyUI share. Knows nothing of terminals and graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from PIL.Image import Image

from ..conversing import Conversing
from ..errors import ImageError, SamplingError
from ..generation.answering import Answer
from ..generation.endings import in_one_line, is_finished, whole_sentences
from ..inputs.caption_styles import CaptionRequest
from ..inputs.pictures import read_picture
from ..inputs.preprocessing import to_square
from ..options import TextOptions, check_count
from .caption_files import Caption, CaptionStore, Sidecars
from .finding import Found, find_pictures

_Placed: TypeAlias = tuple[int, Path, Image]  # its number in the whole list, where it lies, its pixels


@dataclass(frozen=True, kw_only=True)
class CaptionTask:
    """How every picture is captioned.

    Attributes:
        request: what is asked.
        options: how tokens are chosen and when to stop.
        seed: picture i of the whole list uses seed + i, also where a run goes on with an older one.
        prefix, suffix: put round every caption.
        is_one_line: line breaks become blanks.
        is_trimmed: an unfinished caption is cut back to its last whole sentence.
    """

    request: CaptionRequest
    options: TextOptions
    seed: int = 0
    prefix: str = ""
    suffix: str = ""
    is_one_line: bool = False
    is_trimmed: bool = False


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What there is to do.

    Attributes:
        found: all pictures, and what was passed over.
        mine: the pictures of this share, each with its number in the whole list.
        todo: those of them without a caption.
    """

    found: Found
    mine: tuple[tuple[int, Path], ...]
    todo: tuple[tuple[int, Path], ...]


def survey(
    paths: Sequence[str],
    store: CaptionStore | None,
    *,
    recursive: bool = False,
    recursive_name: str = "--recursive",
    share: tuple[int, int] = (1, 1),
) -> Survey:
    """Find pictures, see which have a caption, and make sure that the others can get one.

    Args:
        paths: files, folders and patterns.
        store: where captions are kept, if anywhere.
        recursive: whether folders are looked into at any depth.
        recursive_name: what the person calls that choice.
        share: which share of how many.

    Raises:
        ImageError: a path that does not exist, or a folder without pictures.
        OutputError: captions could not be kept.
    """
    beside = store.ending if isinstance(store, Sidecars) else ""
    found = find_pictures(paths, recursive=recursive, beside=beside, recursive_name=recursive_name)
    number, shares = share
    mine = tuple((place, path) for place, path in enumerate(found.pictures) if place % shares == number - 1)
    todo = tuple((place, path) for place, path in mine if store is None or not store.has(path))
    if store is not None:
        store.make_ready([path for _, path in mine], [path for _, path in todo])
    return Survey(found=found, mine=mine, todo=todo)


class CaptionWatch:
    """Sees a run of captions as it goes on; each method may raise to interrupt. This one does nothing."""

    def on_text(self, picture: Path, text: str) -> None:
        """Take the text so far of one picture."""

    def on_captions(self, captions: Sequence[Caption]) -> None:
        """Take the captions of a batch, which are kept by now."""

    def on_step(self, done: int, total: int) -> None:
        """Take how many pictures are done, of how many."""


class CaptionRun:
    """Captions pictures and keeps each batch when it is done.

    Attributes:
        captions: made by this run.
        failed: for each picture that cannot have one, what a person should know.
    """

    def __init__(
        self,
        task: CaptionTask,
        todo: Sequence[tuple[int, Path]],
        store: CaptionStore | None,
        watch: CaptionWatch,
    ) -> None:
        self.captions: list[Caption] = []
        self.failed: list[str] = []
        self._task = task
        self._store = store
        self._watch = watch
        self._open = dict(todo)  # in order; a picture leaves it with its caption or its failure
        self._total = len(self._open)

    def go_on(self, janus: Conversing, batch_size: int) -> None:
        """Caption what is still open.

        After an interruption, or with a smaller batch where memory was short, it may be called again.

        Args:
            janus: who looks at the pictures.
            batch_size: pictures at once.
        """
        check_count("batch_size", batch_size)
        try:
            while self._open:
                self._caption_some(janus, batch_size)
                self._watch.on_step(self._total - len(self._open), self._total)
        finally:
            if self._store is not None:
                self._store.finish()

    def _caption_some(self, janus: Conversing, batch_size: int) -> None:
        batch = self._following(self._readable(janus, list(islice(self._open.items(), batch_size))))
        if not batch:
            return
        paths = [path for _, path, _ in batch]
        try:
            answers = janus.answer(
                [self._task.request.about(picture) for _, _, picture in batch],
                options=self._task.options,
                seed=self._task.seed + batch[0][0],
                on_text=lambda row, text: self._watch.on_text(paths[row], text),
            )
        except SamplingError as error:
            if not error.rows:
                raise
            for row in error.rows:  # the others stay open, and come again without these
                self._fail(batch[row][0], f'No caption was kept for "{paths[row]}": {error.reason}')
        else:
            self._keep(
                batch, [self._caption(path, one, janus) for path, one in zip(paths, answers, strict=True)]
            )

    def _readable(self, janus: Conversing, places: Sequence[tuple[int, Path]]) -> list[_Placed]:
        """Read pictures, each reduced to the model's size before the next is opened.

        One that cannot be read is noted and left out, and does not lose the others.
        """
        batch = []
        for place, path in places:
            try:
                batch.append((place, path, to_square(read_picture(path), janus.config.preprocess)))
            except ImageError as error:
                self._fail(place, str(error))
        return batch

    def _following(self, batch: list[_Placed]) -> list[_Placed]:
        """Leave out what stands behind a gap, since seeds count on by one and each belongs to a place.

        So a sampled caption is the same whether a run was cut off or not. Greedy ones need no seed.
        """
        if self._task.options.temperature == 0:
            return batch
        return [entry for row, entry in enumerate(batch) if entry[0] - row == batch[0][0]]

    def _fail(self, place: int, message: str) -> None:
        self.failed.append(message)
        del self._open[place]

    def _keep(self, batch: Sequence[_Placed], captions: Sequence[Caption]) -> None:
        if self._store is not None:
            self._store.add(captions)
        for place, _, _ in batch:
            del self._open[place]
        self.captions += captions
        self._watch.on_captions(captions)

    def _caption(self, path: Path, answer: Answer, janus: Conversing) -> Caption:
        task, text = self._task, answer.text
        finished = is_finished(answer.token_ids, janus.tokenizer, task.options.stop)
        if task.is_trimmed and not finished:
            text = whole_sentences(text)
        text = task.prefix + text + task.suffix
        return Caption(
            picture=path,
            text=in_one_line(text) if task.is_one_line else text,
            finished=finished,
            num_tokens=len(answer.token_ids),
        )
