"""`draw` and `demo`: text in, pictures out."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ..errors import OutputError, SamplingError
from ..inputs.image_tokens import Drawn
from ..janus import Janus
from ..options import DrawOptions, OnStep, TextOptions, check_count
from ..outputs import ready_folder
from .draw_flow import FLOW_FLAGS, draw_flow, refuse_flags
from .files import save_picture, unused
from .models import is_flow, load_autoregressive, model_name
from .prompt_files import NamedPrompt, read_prompts
from .terminal import new_seed, progress, remark, report

_DEMO = (
    ("a red circle", 1, ("What is in the picture?", "What colour is the circle?")),
    ("a red circle above a blue square", 3, ("What is in the picture?", "How many objects are there?")),
    ("three green triangles", 1, ("How many triangles are there?", "What colour are the triangles?")),
)
"""Prompts, seeds with which the bundled model draws them right, questions."""

_SHORT = TextOptions(max_new_tokens=32)


def draw(arguments: Namespace) -> int:
    """Draw pictures, batch by batch; finished batches stay when the rest is interrupted."""
    if is_flow(arguments):
        return draw_flow(arguments)
    refuse_flags(arguments, FLOW_FLAGS, model_name(arguments), "JanusFlow models")
    options = DrawOptions.from_numbers(
        cfg_weight=arguments.cfg,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
    )
    # again in the engine, but there only once the model is loaded, and under other names
    check_count("--num-images", arguments.num_images)
    check_count("--batch-size", arguments.batch_size)
    prompts = read_prompts(arguments)
    folder = ready_folder(Path(arguments.out))
    janus = load_autoregressive(arguments)
    drawn = _PictureFiles(arguments, options.decided(janus.guidance), folder, prompts)
    try:
        with progress(arguments, "image tokens", drawn.wanted * janus.config.num_image_tokens) as on_step:
            drawn.draw(janus, on_step)
    except (KeyboardInterrupt, OutputError):  # a full disk after hours is an interruption, too
        drawn.say_what_is_missing()
        raise
    report(
        arguments,
        {"files": drawn.files, "seeds": drawn.seeds, "token_ids": drawn.token_ids},
        "\n".join(drawn.files),
    )
    remark(arguments, f"drawn with {_seeds(drawn.first_seed, arguments.num_images)}")
    for message in drawn.failed:
        print(f"janus: {message}", file=sys.stderr)
    return 1 if drawn.failed else 0


class _PictureFiles:
    """The picture files that one `draw` has written so far."""

    def __init__(
        self, arguments: Namespace, options: DrawOptions, folder: Path, prompts: Sequence[NamedPrompt]
    ) -> None:
        self._arguments = arguments
        self._options = options
        self._folder = folder
        self._prompts = prompts
        self._model = model_name(arguments)
        self.first_seed = new_seed(arguments)
        self.wanted = len(prompts) * arguments.num_images
        self._done = 0
        self.files: list[str] = []
        self.seeds: list[int] = []
        self.token_ids: list[list[int]] = []
        self.failed: list[str] = []

    def draw(self, janus: Janus, on_step: OnStep) -> None:
        """Draw what is wanted, a batch at a time."""
        arguments = self._arguments
        for prompt in self._prompts:
            for start in range(0, arguments.num_images, arguments.batch_size):
                count = min(arguments.batch_size, arguments.num_images - start)
                seeds = range(self.first_seed + start, self.first_seed + start + count)
                self._draw_batch(janus, prompt, seeds, _pictures_done(on_step, self._done, count))
                self._done += count

    def _draw_batch(self, janus: Janus, prompt: NamedPrompt, seeds: Sequence[int], on_step: OnStep) -> None:
        """Draw pictures of one prompt; one whose numbers are broken does not lose the others."""
        waiting = [list(seeds)]
        while waiting:
            batch = waiting.pop(0)
            try:
                drawn = janus.draw(
                    prompt.text,
                    num_images=len(batch),
                    seed=batch[0],
                    negative_prompt=self._arguments.negative,
                    options=self._options,
                    batch_size=len(batch),
                    on_step=on_step,
                )
            except SamplingError as error:
                if not error.rows:
                    raise
                self.failed += [
                    f"No picture was kept for seed {batch[row]}: {error.reason}" for row in error.rows
                ]
                waiting = _runs_without(batch, error.rows) + waiting
                continue
            self._keep(drawn, prompt)

    def _keep(self, drawn: Drawn, prompt: NamedPrompt) -> None:
        for image, grid, seed in zip(drawn.images, drawn.tokens.grid, drawn.seeds, strict=True):
            is_numbered = prompt.stem is not None and self._arguments.num_images == 1
            name = f"{prompt.stem}.png" if is_numbered else f"{prompt.stem or 'janus'}_{seed}.png"
            path = unused(self._folder / name)
            notes = {
                "prompt": prompt.text,
                "negative_prompt": self._arguments.negative,
                "seed": str(seed),
                "options": json.dumps(vars(self._options)),
                "model": self._model,
            }
            self.files.append(str(path))  # before writing: an interruption in between still counts the file
            save_picture(image, path, notes)
            self.seeds.append(seed)
            self.token_ids.append(grid.flatten().tolist())

    def say_what_is_missing(self) -> None:
        """Tell on stderr what an early end has kept."""
        kept = sum(Path(file).exists() for file in self.files)
        if kept + len(self.failed) >= self.wanted:
            return
        each = self._arguments.num_images
        prompt, done = divmod(kept + len(self.failed), each)
        missing = _seeds(self.first_seed + done, each - done)
        if len(self._prompts) > 1:
            missing = f"{missing} of prompt {prompt + 1} and what follows"
        print(f"janus: kept {kept} of {self.wanted} pictures, missing: {missing}", file=sys.stderr)


def _runs_without(seeds: Sequence[int], broken: Sequence[int]) -> list[list[int]]:
    """Return seeds in runs that count on by one, without those at the given places."""
    kept = [seed for place, seed in enumerate(seeds) if place not in broken]
    runs = groupby(enumerate(kept), key=lambda item: item[1] - item[0])
    return [[seed for _, seed in run] for _, run in runs]


def _pictures_done(on_step: OnStep, before: int, count: int) -> OnStep:
    # a step advances all pictures of the batch; the bar knows its total already
    return lambda done, total: on_step(before * total + done * count, 0)


def _seeds(first: int, count: int) -> str:
    """Name seeds as the files do, modulo 2^64."""
    first, last = first % 2**64, (first + count - 1) % 2**64
    return f"seed {first}" if count == 1 else f"seeds {first} to {last}"


def demo(arguments: Namespace) -> None:
    """Draw three pictures and ask about them."""
    folder = ready_folder(Path(arguments.out))
    janus = load_autoregressive(arguments)
    model = model_name(arguments)
    pictures, lines = [], []
    for prompt, seed, questions in _DEMO:
        with progress(arguments, prompt, janus.config.num_image_tokens) as on_step:
            [image] = janus.draw(prompt, seed=seed, on_step=on_step).images
        path = folder / f"{prompt.replace(' ', '-')}.png"
        save_picture(image, path, {"prompt": prompt, "seed": str(seed), "model": model})
        answers = [
            {"question": question, "text": janus.ask(question, [image], options=_SHORT)}
            for question in questions
        ]
        pictures.append({"prompt": prompt, "file": str(path), "answers": answers})
        lines += [f"{prompt}  →  {path}", *(f"  {one['question']}  →  {one['text']}" for one in answers)]
    report(arguments, {"pictures": pictures}, "\n".join(lines))
