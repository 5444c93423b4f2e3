"""`ask` and `caption`: pictures in, text out."""

from __future__ import annotations

import sys
from argparse import Namespace
from itertools import groupby
from pathlib import Path

from PIL.Image import Image

from ..conversing import Conversing
from ..errors import ImageError, SamplingError
from ..inputs.pictures import read_picture
from ..inputs.prompting import SYSTEM_TEXT
from ..inputs.turns import Turn
from ..options import OnStep, TextOptions
from .caption_files import CaptionFile, CaptionStore, Sidecars
from .files import find_pictures
from .models import load
from .terminal import GrowingAnswer, print_beside_bar, progress, remark, report


def ask(arguments: Namespace) -> None:
    """Answer one question."""
    options = _text_options(arguments)
    pictures = tuple(read_picture(path) for path in arguments.images)
    janus = load(arguments)
    streams = sys.stdout.isatty() and not arguments.json
    growing = GrowingAnswer(options.stop)
    [answer] = janus.answer(
        [[Turn(role="user", text=arguments.question, images=pictures)]],
        system=SYSTEM_TEXT if arguments.system is None else arguments.system,
        options=options,
        seed=arguments.seed,
        on_text=growing.on_text if streams else None,
    )
    if streams:
        growing.finish(answer.text)
        return
    content = {"text": answer.text, "token_ids": answer.token_ids, "prompt_tokens": answer.prompt_tokens}
    report(arguments, content, answer.text)


def caption(arguments: Namespace) -> int:
    """Describe pictures; what is finished is written at once and skipped the next time."""
    options = _text_options(arguments)
    if arguments.batch_size < 1:
        raise SamplingError(f"--batch-size is {arguments.batch_size}; it must be at least 1.")
    pictures = find_pictures(arguments.paths)
    store = _store(arguments)
    todo = [place for place, path in enumerate(pictures) if store is None or not store.has(path)]
    if store is not None:
        store.make_ready([pictures[place] for place in todo])
    captioning = _Captioning(arguments, options, store)
    if todo:
        with progress(arguments, "captions", len(todo)) as on_step:
            captioning.run(load(arguments), [(place, pictures[place]) for place in todo], on_step)
    report(arguments, {"captions": captioning.captions}, "")
    remark(arguments, f"{len(captioning.captions)} captioned, {len(pictures) - len(todo)} were there already")
    for message in captioning.unreadable:
        print(f"janus: {message}", file=sys.stderr)
    return 1 if captioning.unreadable else 0


def _store(arguments: Namespace) -> CaptionStore | None:
    if arguments.sidecar:
        return Sidecars()
    if arguments.out is None:
        return None
    captions = CaptionFile(Path(arguments.out))
    if captions.was_repaired:
        remark(arguments, f'"{arguments.out}" ended in half a line, which was removed')
    return captions


class _Captioning:
    """A run over pictures: what it wrote, and which pictures it could not read."""

    def __init__(self, arguments: Namespace, options: TextOptions, store: CaptionStore | None) -> None:
        self._arguments, self._options, self._store = arguments, options, store
        self.captions: list[dict[str, str]] = []
        self.unreadable: list[str] = []

    def run(self, janus: Conversing, todo: list[tuple[int, Path]], on_step: OnStep) -> None:
        """Caption pictures, each with its place in the whole list, and keep each batch when it is done."""
        size = self._arguments.batch_size
        for start in range(0, len(todo), size):
            for batch in self._together(self._readable(todo[start : start + size])):
                texts = janus.caption(
                    [picture for _, _, picture in batch],
                    self._arguments.style,
                    question=self._arguments.question,
                    batch_size=len(batch),
                    options=self._options,
                    seed=self._arguments.seed + batch[0][0],
                )
                self._keep([(path, text) for (_, path, _), text in zip(batch, texts, strict=True)])
            on_step(min(start + size, len(todo)), len(todo))

    def _readable(self, places: list[tuple[int, Path]]) -> list[tuple[int, Path, Image]]:
        """Read pictures; one that cannot be read is noted and left out, and does not lose the others."""
        batch = []
        for place, path in places:
            try:
                batch.append((place, path, read_picture(path)))
            except ImageError as error:
                self.unreadable.append(str(error))
        return batch

    def _together(self, batch: list[tuple[int, Path, Image]]) -> list[list[tuple[int, Path, Image]]]:
        """Split where pictures are left out, since seeds count on by one and each belongs to a place.

        So a sampled caption is the same whether a run was cut off or not. Greedy ones need no seed.
        """
        if self._options.temperature == 0:
            return [batch] if batch else []
        runs = groupby(enumerate(batch), key=lambda item: item[1][0] - item[0])
        return [[entry for _, entry in run] for _, run in runs]

    def _keep(self, captions: list[tuple[Path, str]]) -> None:
        if self._store is not None:
            self._store.add(captions)
        elif not self._arguments.json:
            print_beside_bar("\n".join(f"{path}: {text}" for path, text in captions))
        self.captions += [{"file": str(path), "text": text} for path, text in captions]


def _text_options(arguments: Namespace) -> TextOptions:
    return TextOptions(
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        stop=tuple(arguments.stop),
    )
