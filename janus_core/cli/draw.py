"""`draw` and `demo`: text in, pictures out."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

from ..errors import OutputError, SamplingError
from ..generation.sketch import Sketch
from ..inputs.carried_tokens import TOKENS_NOTE, write_note
from ..inputs.image_tokens import Drawn, ImageTokens
from ..inputs.preprocessing import to_uint8
from ..janus import Janus
from ..options import DrawOptions, OnStep, TextOptions, check_count, check_whole
from ..outputs import ready_folder
from .draw_flow import FLOW_FLAGS, draw_flow, refuse_flags
from .files import save_picture, unused
from .models import drawn_with, is_flow, load_autoregressive, model_name
from .prompt_files import NamedPrompt, read_prompts
from .terminal import new_seed, progress, remark, report

_DEMO = (
    ("a red circle", ("What is in the picture?", "What colour is the circle?")),
    ("a red circle above a blue square", ("What is in the picture?", "How many objects are there?")),
    ("a small yellow star inside a large blue circle", ("What is in the picture?",)),
)
_DEMO_PICTURES = 4  # of each prompt: seeds 0 to 3

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
        keep_best=arguments.keep_best,
    )
    # again in the engine, but there only once the model is loaded, and under other names
    check_count("--num-images", arguments.num_images)
    check_count("--batch-size", arguments.batch_size)
    begun = _read_begun(arguments)
    pictures = arguments.num_images if begun is None else max(arguments.num_images, len(begun))
    check_whole("--keep-best", arguments.keep_best, 0, pictures)
    prompts = read_prompts(arguments)
    folder = ready_folder(Path(arguments.out))
    janus = load_autoregressive(arguments)
    if begun is not None:
        begun = janus.begin(arguments.num_images, begun)
        arguments.num_images = len(begun)
    drawn = _PictureFiles(arguments, options.decided(janus.guidance), folder, prompts, begun)
    try:
        with progress(arguments, "image tokens", drawn.wanted * janus.config.num_image_tokens) as on_step:
            drawn.draw(janus, on_step)
    except (KeyboardInterrupt, OutputError):  # a full disk after hours is an interruption, too
        drawn.say_what_is_missing()
        raise
    report(
        arguments,
        {"files": drawn.files, "seeds": drawn.seeds, "token_ids": drawn.token_ids}
        | ({"scores": drawn.scores} if options.keep_best else {}),
        "\n".join(drawn.files),
    )
    remark(arguments, f"drawn with {_seeds(drawn.first_seed, arguments.num_images)}")
    for message in drawn.failed:
        print(f"janus: {message}", file=sys.stderr)
    return 1 if drawn.failed else 0


def _read_begun(arguments: Namespace) -> ImageTokens | None:
    """Return the tokens of --tokens.

    Raises:
        ImageError: the file cannot be used. SamplingError: there are several prompts to go on with.
    """
    if arguments.tokens is None:
        return None
    if arguments.prompts is not None:
        raise SamplingError(
            "--tokens goes on with one drawing, and --prompts asks for several. Give its TEXT."
        )
    return ImageTokens.load(arguments.tokens)


class _PictureFiles:
    """The picture files that one `draw` has written so far."""

    def __init__(
        self,
        arguments: Namespace,
        options: DrawOptions,
        folder: Path,
        prompts: Sequence[NamedPrompt],
        begun: ImageTokens | None,
    ) -> None:
        self._begun = begun  # tokens of all pictures, where they were drawn in part already
        self._arguments = arguments
        self._options = options
        self._folder = folder
        self._prompts = prompts
        self._model = drawn_with(arguments)
        self.first_seed = new_seed(arguments)
        self._each = options.keep_best or arguments.num_images  # pictures of a prompt
        self.wanted = len(prompts) * self._each
        self._done = 0
        self.files: list[str] = []
        self.seeds: list[int] = []
        self.token_ids: list[list[int]] = []
        self.scores: list[float] = []
        self.failed: list[str] = []

    def draw(self, janus: Janus, on_step: OnStep) -> None:
        """Draw what is wanted, a batch at a time; all of a prompt together where the best are kept."""
        arguments, cells = self._arguments, janus.config.num_image_tokens
        together = arguments.num_images if self._options.keep_best else arguments.batch_size
        for prompt in self._prompts:
            for start in range(0, arguments.num_images, together):
                count = min(together, arguments.num_images - start)
                kept = self._options.keep_best or count
                seeds = range(self.first_seed + start, self.first_seed + start + count)
                self._draw_batch(janus, prompt, seeds, _pictures_done(on_step, self._done, kept, cells))
                self._done += kept

    def _draw_batch(self, janus: Janus, prompt: NamedPrompt, seeds: Sequence[int], on_step: OnStep) -> None:
        """Draw pictures of one prompt; one whose numbers are broken does not lose the others."""
        waiting = [list(seeds)]
        while waiting:
            batch = waiting.pop(0)
            try:
                drawn = self._drawn(janus, prompt, batch, on_step)
            except SamplingError as error:
                if not error.rows or self._options.keep_best:  # the best of the rest would be other ones
                    raise
                self.failed += [
                    f"No picture was kept for seed {batch[row]}: {error.reason}" for row in error.rows
                ]
                waiting = _runs_without(batch, error.rows) + waiting
                continue
            self._keep(drawn, prompt)
            self.scores += drawn.scores

    def _drawn(self, janus: Janus, prompt: NamedPrompt, seeds: Sequence[int], on_step: OnStep) -> Drawn:
        """Draw pictures, or go on with them; what is drawn of them is saved when that is interrupted."""
        if self._begun is None:
            start = janus.begin(len(seeds))
            call: Callable[..., Drawn] = partial(janus.draw, prompt.text, num_images=len(seeds))
        else:
            rows = [seed - self.first_seed for seed in seeds]
            start = replace(self._begun, grid=self._begun.grid[rows])
            call = partial(janus.resume, start, prompt.text)
        sketch = Sketch(start)
        try:
            return call(
                seed=seeds[0],
                negative_prompt=self._arguments.negative,
                options=self._options,
                batch_size=self._arguments.batch_size,
                on_step=on_step,
                on_tokens=sketch.on_tokens,
            )
        except KeyboardInterrupt:
            self._save_begun(sketch, prompt, seeds)
            raise

    def _save_begun(self, sketch: Sketch, prompt: NamedPrompt, seeds: Sequence[int]) -> None:
        """Write what is drawn of pictures, and tell on stderr how to go on with them."""
        tokens = sketch.tokens()
        if tokens is None:
            return
        stem = prompt.stem or "janus"
        path = unused(self._folder / f"{stem}_{seeds[0] % 2**64}_unfinished.safetensors")
        tokens.save(path)
        print(
            f"janus: what was drawn of {_seeds(seeds[0], len(seeds))} is in {path}; go on with --tokens and "
            f"--seed {seeds[0] % 2**64}",
            file=sys.stderr,
        )

    def _keep(self, drawn: Drawn, prompt: NamedPrompt) -> None:
        for row, (image, seed) in enumerate(zip(drawn.images, drawn.seeds, strict=True)):
            is_numbered = prompt.stem is not None and self._arguments.num_images == 1
            name = f"{prompt.stem}.png" if is_numbered else f"{prompt.stem or 'janus'}_{seed}.png"
            path, pixels = unused(self._folder / name), to_uint8(image[None])[0]
            notes = {
                "prompt": prompt.text,
                "negative_prompt": self._arguments.negative,
                "seed": str(seed),
                "options": json.dumps(vars(self._options)),
                "model": self._model,
                TOKENS_NOTE: write_note(drawn.tokens, row, pixels),
            }
            self.files.append(str(path))  # before writing: an interruption in between still counts the file
            save_picture(image, path, notes)
            self.seeds.append(seed)
            self.token_ids.append(drawn.tokens.grid[row].flatten().tolist())

    def say_what_is_missing(self) -> None:
        """Tell on stderr what an early end has kept."""
        kept = sum(Path(file).exists() for file in self.files)
        if kept + len(self.failed) >= self.wanted:
            return
        prompt, done = divmod(kept + len(self.failed), self._each)
        if self._options.keep_best:
            missing = f"the best {self._each} of {_seeds(self.first_seed, self._arguments.num_images)}"
        else:
            missing = _seeds(self.first_seed + done, self._each - done)
        if len(self._prompts) > 1:
            missing = f"{missing} of prompt {prompt + 1} and what follows"
        print(f"janus: kept {kept} of {self.wanted} pictures, missing: {missing}", file=sys.stderr)


def _runs_without(seeds: Sequence[int], broken: Sequence[int]) -> list[list[int]]:
    """Return seeds in runs that count on by one, without those at the given places."""
    kept = [seed for place, seed in enumerate(seeds) if place not in broken]
    runs = groupby(enumerate(kept), key=lambda item: item[1] - item[0])
    return [[seed for _, seed in run] for _, run in runs]


def _pictures_done(on_step: OnStep, before: int, count: int, cells: int) -> OnStep:
    # the steps of a batch make `count` pictures of so many cells; the bar knows its total already
    return lambda done, total: on_step(before * cells + done * count * cells // total, 0)


def _seeds(first: int, count: int) -> str:
    """Name seeds as the files do, modulo 2^64."""
    first, last = first % 2**64, (first + count - 1) % 2**64
    return f"seed {first}" if count == 1 else f"seeds {first} to {last}"


def demo(arguments: Namespace) -> None:
    """Draw each prompt with the first seeds, and ask about every picture."""
    folder = ready_folder(Path(arguments.out))
    janus = load_autoregressive(arguments)
    model, cells = model_name(arguments), janus.config.num_image_tokens
    pictures, lines = [], []
    for prompt, questions in _DEMO:
        with progress(arguments, prompt, cells) as on_step:
            drawn = janus.draw(prompt, num_images=_DEMO_PICTURES, on_step=on_step)
        lines.append(prompt)
        for image, seed in zip(drawn.images, drawn.seeds, strict=True):
            path = folder / f"{prompt.replace(' ', '-')}_{seed}.png"
            save_picture(image, path, {"prompt": prompt, "seed": str(seed), "model": model})
            answers = [
                {"question": question, "text": janus.ask(question, [image], options=_SHORT)}
                for question in questions
            ]
            pictures.append({"prompt": prompt, "file": str(path), "answers": answers})
            lines += [f"  {path}", *(f"    {one['question']}  →  {one['text']}" for one in answers)]
    report(arguments, {"pictures": pictures}, "\n".join(lines))
