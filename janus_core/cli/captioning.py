"""`caption`: describe pictures, keep each batch when it is done, and lose nothing to a single bad picture."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from PIL.Image import Image

from ..conversing import Conversing
from ..errors import ImageError, SamplingError
from ..generation.answering import Answer
from ..generation.endings import in_one_line, is_finished, whole_sentences
from ..inputs.pictures import read_picture
from ..inputs.preprocessing import to_square
from ..inputs.prompting import caption_request
from ..inputs.turns import Turn
from ..options import OnStep, TextOptions, check_count
from .caption_files import Caption, CaptionFile, CaptionStore, Existing, Sidecars
from .finding import find_pictures
from .models import load
from .terminal import new_seed, print_beside_bar, progress, reason, remark, report
from .text_flags import text_options

_Placed: TypeAlias = tuple[int, Path, Image]  # its number in the whole list, where it lies, its pixels


def caption(arguments: Namespace) -> int:
    """Describe pictures; what is finished is written at once and skipped the next time."""
    options = text_options(arguments)
    check_count("--batch-size", arguments.batch_size)
    shard, shards = _shard(arguments.shard)
    store = _store(arguments, shards)
    ending = store.ending if isinstance(store, Sidecars) else ""
    found = find_pictures(arguments.paths, recursive=arguments.recursive, beside=ending)
    mine = [place for place in range(len(found.pictures)) if place % shards == shard - 1]
    todo = [place for place in mine if store is None or not store.has(found.pictures[place])]
    if store is not None:
        store.make_ready([found.pictures[place] for place in mine], [found.pictures[place] for place in todo])
    captioning = _Captioning(arguments, options, store)
    try:
        if todo:
            with progress(arguments, "captions", len(todo)) as on_step:
                captioning.caption(
                    load(arguments), [(place, found.pictures[place]) for place in todo], on_step
                )
    finally:
        if store is not None:
            store.finish()
    report(arguments, {"captions": captioning.captions}, "")
    remark(arguments, f"{len(captioning.captions)} captioned, {len(mine) - len(todo)} were there already")
    for said in (*(store.remarks if store else ()), captioning.cut_off(), found.passed_over()):
        if said:
            remark(arguments, said)
    for message in captioning.failed:
        print(f"janus: {message}", file=sys.stderr)
    return 1 if captioning.failed else 0


def _shard(text: str) -> tuple[int, int]:
    """Return which of how many shares of the pictures is meant."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    shard, shards = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= shard <= shards:
        raise SamplingError(
            f'--shard is "{text}"; it must be one of 1/2, 2/2 and so on: which share of how many.'
        )
    return shard, shards


def _store(arguments: Namespace, shards: int) -> CaptionStore | None:
    existing: Existing = arguments.existing
    if arguments.sidecar or arguments.extension is not None:
        if arguments.out is not None:
            raise SamplingError(
                "--extension is for --sidecar, and --out keeps captions in one file. Use one."
            )
        return Sidecars(arguments.extension or ".txt", existing, one_line=arguments.one_line)
    if arguments.out is None:
        if existing != "skip":
            raise SamplingError(
                f"--{existing} needs --sidecar or --out, where captions may be there already."
            )
        return None
    if shards > 1 and existing != "skip":
        raise SamplingError(
            f"--{existing} with --shard would let two processes rewrite one file. Use --sidecar, or a file "
            "for each."
        )
    return CaptionFile(Path(arguments.out), existing, key=arguments.key, one_line=arguments.one_line)


class _Captioning:
    """Captions pictures in batches; holds the captions, and errors of pictures without one."""

    def __init__(self, arguments: Namespace, options: TextOptions, store: CaptionStore | None) -> None:
        self._arguments = arguments
        self._options = options
        self._store = store
        self._asked = arguments.question or caption_request(arguments.style)
        self._seed = new_seed(arguments, options.temperature)
        self.captions: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def caption(self, janus: Conversing, todo: Sequence[tuple[int, Path]], on_step: OnStep) -> None:
        """Caption pictures, each with its place in the whole list, and keep each batch when it is done."""
        size = self._arguments.batch_size
        for start in range(0, len(todo), size):
            waiting = self._together(self._readable(janus, todo[start : start + size]))
            while waiting:
                batch = waiting.pop(0)
                answers, spoilt = self._answers(janus, batch)
                self._keep(janus, batch, answers)
                waiting = (
                    self._together([entry for row, entry in enumerate(batch) if row in spoilt]) + waiting
                )
            on_step(min(start + size, len(todo)), len(todo))

    def _readable(self, janus: Conversing, places: Sequence[tuple[int, Path]]) -> list[_Placed]:
        """Read pictures, each reduced to the model's size before the next is opened.

        One that cannot be read is noted and left out, and does not lose the others.
        """
        batch = []
        for place, path in places:
            try:
                batch.append((place, path, to_square(read_picture(path), janus.config.preprocess)))
            except ImageError as error:
                self.failed.append(str(error))
        return batch

    def _together(self, batch: list[_Placed]) -> list[list[_Placed]]:
        """Split where pictures are left out, since seeds count on by one and each belongs to a place.

        So a sampled caption is the same whether a run was cut off or not. Greedy ones need no seed.
        """
        if self._options.temperature == 0:
            return [batch] if batch else []
        runs = groupby(enumerate(batch), key=lambda item: item[1][0] - item[0])
        return [[entry for _, entry in run] for _, run in runs]

    def _answers(self, janus: Conversing, batch: list[_Placed]) -> tuple[list[Answer], set[int]]:
        """Return the answers of a batch, or none, and the rows to be tried again without broken ones."""
        turns = [[Turn(role="user", text=self._asked, images=(picture,))] for _, _, picture in batch]
        try:
            return janus.answer(turns, options=self._options, seed=self._seed + batch[0][0]), set()
        except SamplingError as error:
            if not error.rows:
                raise
            for row in error.rows:
                self.failed.append(f'No caption was kept for "{batch[row][1]}": {reason(error)}')
            return [], set(range(len(batch))) - set(error.rows)

    def _keep(self, janus: Conversing, batch: list[_Placed], answers: list[Answer]) -> None:
        captions = [
            self._caption(path, answer, janus) for (_, path, _), answer in zip(batch, answers, strict=False)
        ]
        if not captions:
            return
        if self._store is not None:
            self._store.add(captions)
        elif not self._arguments.json:
            print_beside_bar("\n".join(f"{one.picture}: {one.text}" for one in captions))
        self.captions += [
            {"file": str(one.picture), "text": one.text, "finished": one.finished} for one in captions
        ]

    def _caption(self, path: Path, answer: Answer, janus: Conversing) -> Caption:
        arguments, text = self._arguments, answer.text
        finished = is_finished(answer.token_ids, janus.tokenizer, self._options.stop)
        if arguments.trim and not finished:
            text = whole_sentences(text)
        text = arguments.prefix + text + arguments.suffix
        return Caption(
            picture=path, text=in_one_line(text) if arguments.one_line else text, finished=finished
        )

    def cut_off(self) -> str:
        """Say how many captions were cut off, or nothing."""
        count = sum(not one["finished"] for one in self.captions)
        if not count:
            return ""
        which = "1 caption was" if count == 1 else f"{count} captions were"
        return (
            f"{which} cut off at {self._options.max_new_tokens} tokens: raise --max-new-tokens, or use --trim"
        )
