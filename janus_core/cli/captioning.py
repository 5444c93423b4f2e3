"""`caption`: describe pictures, keep each batch when it is done, and lose nothing to a single bad picture."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ..captions.caption_files import Caption, CaptionFile, CaptionStore, Existing, Sidecars
from ..captions.caption_run import CaptionRun, CaptionTask, CaptionWatch, survey
from ..errors import SamplingError
from ..inputs.caption_styles import CaptionRequest, read_presets, request_for
from ..inputs.prompting import CUSTOM_STYLE
from ..options import OnStep, TextOptions, check_count
from .models import load
from .terminal import new_seed, print_beside_bar, progress, remark, report
from .text_flags import text_options

_STYLE = "detailed"  # where neither a style nor a question is given


def caption(arguments: Namespace) -> int:
    """Describe pictures; what is finished is written at once and skipped the next time."""
    options = text_options(arguments)
    request = _request(arguments)
    check_count("--batch-size", arguments.batch_size)
    share = _share(arguments.shard)
    store = _store(arguments, share[1])
    seen = survey(arguments.paths, store, recursive=arguments.recursive, share=share)
    task = CaptionTask(
        request=request,
        options=options,
        seed=new_seed(arguments, options.temperature),
        prefix=arguments.prefix,
        suffix=arguments.suffix,
        is_one_line=arguments.one_line,
        is_trimmed=arguments.trim,
    )
    with progress(arguments, "captions", len(seen.todo)) as on_step:
        watch = _Printed(on_step, is_shown=store is None and not arguments.json)
        run = CaptionRun(task, seen.todo, store, watch)
        if seen.todo:
            run.go_on(load(arguments), arguments.batch_size)
    made = [{"file": str(one.picture), "text": one.text, "finished": one.finished} for one in run.captions]
    report(arguments, {"captions": made}, "")
    remark(arguments, f"{len(made)} captioned, {len(seen.mine) - len(seen.todo)} were there already")
    for said in (
        *(store.remarks if store else ()),
        _cut_off(run.captions, options),
        seen.found.passed_over(),
    ):
        if said:
            remark(arguments, said)
    for message in run.failed:
        print(f"janus: {message}", file=sys.stderr)
    return 1 if run.failed else 0


def _request(arguments: Namespace) -> CaptionRequest:
    """Return what is asked of every picture: a style, a question, or both."""
    presets = read_presets(Path(arguments.styles)) if arguments.styles else {}
    style = arguments.style or (CUSTOM_STYLE if arguments.question is not None else _STYLE)
    return request_for(style, arguments.question or "", presets)


def _share(text: str) -> tuple[int, int]:
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


class _Printed(CaptionWatch):
    """Prints captions that are kept nowhere, above the progress bar."""

    def __init__(self, on_step: OnStep, *, is_shown: bool) -> None:
        self._on_step = on_step
        self._is_shown = is_shown

    def on_captions(self, captions: Sequence[Caption]) -> None:
        """Print a batch."""
        if self._is_shown:
            print_beside_bar("\n".join(f"{one.picture}: {one.text}" for one in captions))

    def on_step(self, done: int, total: int) -> None:
        """Move the bar."""
        self._on_step(done, total)


def _cut_off(captions: Sequence[Caption], options: TextOptions) -> str:
    """Say how many captions were cut off, or nothing."""
    count = sum(not one.finished for one in captions)
    if not count:
        return ""
    which = "1 caption was" if count == 1 else f"{count} captions were"
    return f"{which} cut off at {options.max_new_tokens} tokens: raise --max-new-tokens, or use --trim"
