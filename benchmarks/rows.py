"""The rows of the table: what each contender does in one trial, and how much work that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from janus_core import JanusConfig, TokenWatch, fit_code_colours, preview_image

from .contenders import Contender, Ours
from .sizes import Size, Work
from .timing import Trial, Trials

Contenders = dict[str, Contender]

_WARM_UP_STEPS = 4
_PACKING_STEPS = 48
_PREVIEW_INTERVAL_S = 0.25  # as in nodes/bridge/progress.py, which cannot be imported without ComfyUI


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What rows are made from.

    Attributes:
        size: the model.
        device: where all contenders compute.
        contenders: by name.
    """

    size: Size
    device: torch.device
    contenders: Contenders

    @property
    def work(self) -> Work:
        """How much one trial of each row does here."""
        return self.size.work(self.device.type)

    @property
    def ours(self) -> Ours:
        """Our contender, with the methods that only it has."""
        ours = self.contenders["ours"]
        assert isinstance(ours, Ours)
        return ours


MakeTrials = Callable[[Bench], Trials]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        title: what one trial does, with {draw_steps}, {answer_tokens} … of the size filled in.
        trials: builds what each contender does.
        warm_up: builds shorter trials for the warm-up; None where the full trial is short or cannot be cut.
        grows: whose cache grows: warmed up with a whole trial on a GPU, as cuDNN plans for each shape.
        count: image tokens, tokens or pictures of one trial, to turn seconds into a rate.
        unit: of `count`.
        repeats: by default.
        steps: how often one trial reads all weights of a drawing step; 0 where bandwidth is not the limit.
        rows: rows of the decoder in such a step.
    """

    title: str
    trials: MakeTrials
    warm_up: MakeTrials | None = None
    grows: tuple[str, ...] = ()
    count: Callable[[Work], int]
    unit: str
    repeats: int
    steps: Callable[[Work], int] = lambda work: 0
    rows: Callable[[Work], int] = lambda work: 2

    def warm_ups(self, bench: Bench) -> Trials | None:
        """Return what each contender does before it is timed; None: its whole trial."""
        whole = self.trials(bench) if bench.device.type == "cuda" else {}
        grown = {name: whole[name] for name in self.grows if name in whole}
        return {**self.warm_up(bench), **grown} if self.warm_up else None


def picture(config: JanusConfig, seed: int = 0) -> Image.Image:
    """Return a picture of the model's own size, smooth and coloured, from a seed."""
    side = config.vision.image_size
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")[0]
    return Image.fromarray((smooth.permute(1, 2, 0) * 255).byte().numpy())


def grid(config: JanusConfig, device: torch.device) -> Tensor:
    """Return random image tokens (1, h, w)."""
    shape = (1, config.grid_side, config.grid_side)
    tokens = torch.randint(config.vq.codebook_size, shape, generator=torch.Generator().manual_seed(1))
    return tokens.to(device)


def pixels(config: JanusConfig, device: torch.device) -> Tensor:
    """Return random pixel values (1, 3, h, w) in −1..1."""
    side = config.vision.image_size
    values = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return values.to(device)


def _each(bench: Bench, names: tuple[str, ...], use: Callable[[Contender], Callable[[], object]]) -> Trials:
    return {name: Trial(work=use(bench.contenders[name])) for name in names if name in bench.contenders}


def _pictures(bench: Bench, count: int, steps: int | None = None) -> Trials:
    """Draw pictures and decode them; the authors' tokens are decoded by transformers' VQ model."""
    work, side = bench.work, bench.size.config.grid_side
    length = steps or work.draw_steps

    def trial(who: Contender) -> Callable[[], object]:
        decoder = who if isinstance(who, Ours) else bench.contenders.get("transformers", bench.ours)

        def drawn_and_decoded() -> Tensor:
            tokens = who.draw(length, pictures=count)
            whole = torch.nn.functional.pad(tokens, (0, side * side - length))  # a warm-up draws a few
            return decoder.decode(whole.view(count, side, side))

        return drawn_and_decoded

    return _each(bench, _DRAWERS, trial)


def _steps(which: int) -> MakeTrials:
    """Time some steps at one cache length; the time of prefill and first step is subtracted."""

    def trials(bench: Bench) -> Trials:
        work = bench.work

        def trial(who: Contender) -> Trial:
            length, context = 1 + work.timed_steps, work.contexts[which]
            return Trial(
                work=lambda: who.draw(length, context=context), less=lambda: who.draw(1, context=context)
            )

        return {name: trial(bench.contenders[name]) for name in _DRAWERS if name in bench.contenders}

    return trials


def _packing(bench: Bench) -> Trials:
    steps = min(_PACKING_STEPS, bench.work.draw_steps)
    return _each(bench, ("ours", "ours unpacked"), lambda who: lambda: who.draw(steps))


def _answer(tokens: Callable[[Work], int]) -> MakeTrials:
    def trials(bench: Bench) -> Trials:
        image, length = picture(bench.size.config), tokens(bench.work)
        return _each(bench, ("ours", "transformers"), lambda who: lambda: who.answer([image], length))

    return trials


def _captions(short: bool) -> MakeTrials:
    def trials(bench: Bench) -> Trials:
        work = bench.work
        many = 1 if short else work.captions
        alone = 1 if short else work.singles
        images = [picture(bench.size.config, seed) for seed in range(many)]
        ours, reference = bench.ours, bench.contenders.get("transformers")
        tokens = 2 if short else work.caption_tokens
        found = {
            "ours": Trial(work=lambda: ours.answer(images, tokens)),
            "ours, one by one": Trial(
                work=lambda: [ours.answer([image], tokens) for image in images[:alone]], times=many / alone
            ),
        }
        if reference is not None:
            found["transformers"] = Trial(
                work=lambda: [reference.answer([image], tokens) for image in images[:alone]],
                times=many / alone,
            )
        return found

    return trials


class _Watched:
    """Draws with progress and previews as the node does: the first picture, at most four a second."""

    def __init__(self, bench: Bench) -> None:
        self._ours = bench.ours
        self._config = bench.size.config
        self._colours: Tensor | None = None
        self._next_s = 0.0
        self._watch = TokenWatch()

    def look(self, tokens: Tensor, pictures: Sequence[int]) -> None:
        """Have the tokens looked at if a preview is due."""
        now = time.monotonic()
        if now >= self._next_s:
            self._watch.look(tokens[0])
            self._next_s = now + _PREVIEW_INTERVAL_S

    def on_step(self, done: int, total: int) -> None:
        """Do what the node does after a step."""
        self.show()

    def show(self) -> bool:
        """Make a preview where one is to be had, and tell whether."""
        tokens = self._watch.seen()
        if tokens is None:
            return False
        janus, config = self._ours.janus, self._config
        if self._colours is None:
            self._colours = fit_code_colours(janus.model.vq_tokenizer, janus.vq_dtype, janus.compute.device)
        Image.fromarray(preview_image(tokens, self._colours, config.grid_side, config.vision.image_size))
        return True

    def draw(self, steps: int) -> None:
        """Draw one picture's tokens with progress and previews."""
        self._next_s = 0.0
        with torch.inference_mode():
            self._ours.draw(steps, on_step=self.on_step, on_tokens=self.look)

    def first(self, steps: int) -> None:
        """Draw until the first preview is made, fitting the colours of the codes again."""
        self._colours = None

        def stop(done: int, total: int) -> None:
            if self.show():
                raise _SeenError

        self._next_s = 0.0
        try:
            self._ours.draw(steps, on_step=stop, on_tokens=self.look)
        except _SeenError:
            return


class _SeenError(Exception):
    """The first preview was made."""


def _watched(bench: Bench) -> Trials:
    watched, steps = _Watched(bench), bench.work.draw_steps
    return {
        "ours": Trial(work=lambda: bench.ours.draw(steps)),
        "ours, with progress and preview": Trial(work=lambda: watched.draw(steps)),
    }


def _first_preview(bench: Bench) -> Trials:
    watched, steps = _Watched(bench), bench.work.draw_steps
    return {"ours": Trial(work=lambda: watched.first(steps))}


def _decode(bench: Bench) -> Trials:
    tokens = grid(bench.size.config, bench.device)
    return _each(bench, ("ours", "transformers"), lambda who: lambda: who.decode(tokens))


def _encode(bench: Bench) -> Trials:
    values = pixels(bench.size.config, bench.device)
    return _each(bench, ("ours", "transformers"), lambda who: lambda: who.encode(values))


def _one(title: str, trials: MakeTrials, unit: str = "pictures") -> Row:
    """Return a row whose trial handles one picture."""
    return Row(title=title, trials=trials, count=lambda work: 1, unit=unit, repeats=5)


_DRAWERS = ("ours", "authors", "transformers", "compiled")
_STEPS = "{timed_steps} drawing steps of one picture, guidance 5, after a prompt of {contexts[%d]} tokens"

ROWS = {
    "picture": Row(
        title="Draw one picture of {draw_steps} image tokens, guidance 5, and decode it",
        trials=lambda bench: _pictures(bench, 1),
        warm_up=lambda bench: _pictures(bench, 1, _WARM_UP_STEPS),
        grows=("authors",),
        count=lambda work: 1,
        unit="pictures",
        repeats=3,
        steps=lambda work: work.draw_steps,
    ),
    "pictures": Row(
        title="The same with {together} pictures in a batch",
        trials=lambda bench: _pictures(bench, bench.work.together),
        warm_up=lambda bench: _pictures(bench, bench.work.together, _WARM_UP_STEPS),
        grows=("authors",),
        count=lambda work: work.together,
        unit="pictures",
        repeats=2,
        steps=lambda work: work.draw_steps,
        rows=lambda work: 2 * work.together,
    ),
    "steps": Row(
        title=_STEPS % 0,
        trials=_steps(0),
        count=lambda work: work.timed_steps,
        unit="steps",
        repeats=5,
        steps=lambda work: work.timed_steps,
    ),
    "later_steps": Row(
        title=_STEPS % 1,
        trials=_steps(1),
        count=lambda work: work.timed_steps,
        unit="steps",
        repeats=3,
        steps=lambda work: work.timed_steps,
    ),
    "packing": Row(
        title=f"At most {_PACKING_STEPS} image tokens, with and without packed weights",
        trials=_packing,
        count=lambda work: min(_PACKING_STEPS, work.draw_steps),
        unit="steps",
        repeats=5,
        steps=lambda work: min(_PACKING_STEPS, work.draw_steps),
    ),
    "prefill": _one("See one picture and find the first token of its caption", _answer(lambda work: 1)),
    "answer": Row(
        title="Caption one picture in {answer_tokens} tokens",
        trials=_answer(lambda work: work.answer_tokens),
        warm_up=_answer(lambda work: 2),
        grows=("transformers",),
        count=lambda work: work.answer_tokens,
        unit="tokens",
        repeats=3,
    ),
    "captions": Row(
        title="Caption {captions} pictures in {caption_tokens} tokens each, one by one {singles} of them",
        trials=_captions(short=False),
        warm_up=_captions(short=True),
        grows=("transformers",),
        count=lambda work: work.captions,
        unit="pictures",
        repeats=1,
    ),
    "watched": Row(
        title="Draw {draw_steps} image tokens, with and without progress and preview",
        trials=_watched,
        count=lambda work: work.draw_steps,
        unit="image tokens",
        repeats=3,
    ),
    "first_preview": _one("Make the first preview of a picture, colours fitted", _first_preview, "previews"),
    "decode": _one("Decode one picture from its image tokens", _decode),
    "encode": _one("Encode one picture to image tokens", _encode),
}
