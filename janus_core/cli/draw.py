"""`draw` and `demo`: text in, pictures out."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

from ..errors import OutputError, SamplingError
from ..inputs.image_tokens import Drawn
from ..janus import Janus
from ..options import DrawOptions, OnStep, TextOptions
from .draw_flow import FLOW_FLAGS, draw_flow, refuse_flags
from .files import ready_folder, save_picture, unused
from .models import is_flow, load_autoregressive, model_name
from .terminal import progress, remark, report

_DEMO = (
    ("a red circle", 1, ("What is in the picture?", "What colour is the circle?")),
    ("a red circle above a blue square", 3, ("What is in the picture?", "How many objects are there?")),
    ("three green triangles", 1, ("How many triangles are there?", "What colour are the triangles?")),
)
"""Prompts, seeds that the model which ships with us draws rightly (its card: how often), questions."""

_SHORT = TextOptions(max_new_tokens=32)


def draw(arguments: Namespace) -> None:
    """Draw pictures, batch by batch; finished batches stay when the rest is interrupted."""
    if is_flow(arguments):
        draw_flow(arguments)
        return
    refuse_flags(arguments, FLOW_FLAGS, model_name(arguments), "JanusFlow models")
    options = DrawOptions.from_numbers(
        cfg_weight=arguments.cfg,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
    )
    for name, value in (("--num-images", arguments.num_images), ("--batch-size", arguments.batch_size)):
        if value < 1:
            raise SamplingError(f"{name} is {value}; it must be at least 1.")
    folder = ready_folder(Path(arguments.out))
    janus = load_autoregressive(arguments)
    drawn = _DrawnFiles(arguments, options.decided(janus.guidance), folder)
    try:
        with progress(
            arguments, "image tokens", arguments.num_images * janus.config.num_image_tokens
        ) as on_step:
            drawn.draw(janus, on_step)
    except (KeyboardInterrupt, OutputError):  # a full disk after hours is an interruption, too
        drawn.say_what_is_missing()
        raise
    report(
        arguments,
        {"files": drawn.files, "seeds": drawn.seeds, "token_ids": drawn.token_ids},
        "\n".join(drawn.files),
    )
    remark(arguments, f"drawn with {_seeds(arguments.seed, arguments.num_images)}")


class _DrawnFiles:
    """The pictures of one `draw`, as far as they are on the disk."""

    def __init__(self, arguments: Namespace, options: DrawOptions, folder: Path) -> None:
        self._arguments = arguments
        self._options = options
        self._folder = folder
        self.files: list[str] = []
        self.seeds: list[int] = []
        self.token_ids: list[list[int]] = []

    def draw(self, janus: Janus, on_step: OnStep) -> None:
        """Draw what is wanted, a batch at a time."""
        arguments, wanted = self._arguments, self._arguments.num_images
        for start in range(0, wanted, arguments.batch_size):
            count = min(arguments.batch_size, wanted - start)
            self._keep(
                janus.draw(
                    arguments.prompt,
                    num_images=count,
                    seed=arguments.seed + start,
                    negative_prompt=arguments.negative,
                    options=self._options,
                    batch_size=count,
                    on_step=_pictures_done(on_step, start, count),
                )
            )

    def _keep(self, drawn: Drawn) -> None:
        for image, grid, seed in zip(drawn.images, drawn.tokens.grid, drawn.seeds, strict=True):
            path = unused(self._folder / f"janus_{seed}.png")
            notes = {
                "prompt": self._arguments.prompt,
                "negative_prompt": self._arguments.negative,
                "seed": str(seed),
                "options": json.dumps(vars(self._options)),
                "model": model_name(self._arguments),
            }
            self.files.append(str(path))  # first, so that no moment of an interruption miscounts
            save_picture(image, path, notes)
            self.seeds.append(seed)
            self.token_ids.append(grid.flatten().tolist())

    def say_what_is_missing(self) -> None:
        """Tell on stderr what an early end has kept."""
        kept, wanted = sum(Path(file).exists() for file in self.files), self._arguments.num_images
        if kept < wanted:
            missing = _seeds(self._arguments.seed + kept, wanted - kept)
            print(f"janus: kept {kept} of {wanted} pictures, missing: {missing}", file=sys.stderr)


def _pictures_done(on_step: OnStep, before: int, count: int) -> OnStep:
    return lambda done, total: on_step(before * total + done * count, 0)


def _seeds(first: int, count: int) -> str:
    """Name seeds as the files do: they count on modulo 2^64."""
    first, last = first % 2**64, (first + count - 1) % 2**64
    return f"seed {first}" if count == 1 else f"seeds {first} to {last}"


def demo(arguments: Namespace) -> None:
    """Draw three pictures and ask about them."""
    folder = ready_folder(Path(arguments.out))
    janus = load_autoregressive(arguments)
    pictures, lines = [], []
    for prompt, seed, questions in _DEMO:
        with progress(arguments, prompt, janus.config.num_image_tokens) as on_step:
            [image] = janus.draw(prompt, seed=seed, on_step=on_step).images
        path = folder / f"{prompt.replace(' ', '-')}.png"
        save_picture(image, path, {"prompt": prompt, "seed": str(seed), "model": model_name(arguments)})
        answers = [
            {"question": question, "text": janus.ask(question, [image], options=_SHORT)}
            for question in questions
        ]
        pictures.append({"prompt": prompt, "file": str(path), "answers": answers})
        lines += [f"{prompt}  →  {path}", *(f"  {one['question']}  →  {one['text']}" for one in answers)]
    report(arguments, {"pictures": pictures}, "\n".join(lines))
