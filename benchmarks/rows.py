"""The rows of the table: what each contender runs in one repeat, and how much work that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from janus_core import JanusConfig

from .contenders import Contender
from .sizes import Size
from .timing import Runs

Contenders = dict[str, Contender]
MakeRuns = Callable[[Size, Contenders], Runs]

_WARM_UP_STEPS = 4
_PACKING_STEPS = 48


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        title: what one run does, with {draw_steps}, {answer_tokens} … of the size filled in.
        runs: builds what each contender runs.
        warm_up: builds the shorter runs before; None where a whole run is short.
        count: image tokens, tokens or pictures of one run, to turn seconds into a rate.
        unit: of `count`.
        repeats: by default.
        reads_weights: each of `count` reads all weights of a drawing step, so that bandwidth is the limit.
    """

    title: str
    runs: MakeRuns
    warm_up: MakeRuns | None = None
    count: Callable[[Size], int]
    unit: str
    repeats: int
    reads_weights: bool = False


def picture(config: JanusConfig, seed: int = 0) -> Image.Image:
    """Return a picture of the model's own size, smooth and coloured, from a seed."""
    side = config.vision.image_size
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")[0]
    return Image.fromarray((smooth.permute(1, 2, 0) * 255).byte().numpy())


def grid(config: JanusConfig) -> Tensor:
    """Return random image tokens (1, h, w)."""
    shape = (1, config.grid_side, config.grid_side)
    return torch.randint(config.vq.codebook_size, shape, generator=torch.Generator().manual_seed(1))


def pixels(config: JanusConfig) -> Tensor:
    """Return random pixel values (1, 3, h, w) in −1..1."""
    side = config.vision.image_size
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1


def _each(contenders: Contenders, names: tuple[str, ...], use: Callable[[Contender], object]) -> Runs:
    return {name: lambda who=contenders[name]: use(who) for name in names}  # type: ignore[misc]


def _draw(steps: Callable[[Size], int], *names: str) -> MakeRuns:
    return lambda size, contenders: _each(contenders, names, lambda who: who.draw(steps(size)))


def _answer(tokens: Callable[[Size], int]) -> MakeRuns:
    def runs(size: Size, contenders: Contenders) -> Runs:
        image, length = picture(size.config), tokens(size)
        return _each(contenders, ("ours", "transformers"), lambda who: who.answer([image], length))

    return runs


def _captions(how_many: Callable[[Size], int]) -> MakeRuns:
    def runs(size: Size, contenders: Contenders) -> Runs:
        images = [picture(size.config, seed) for seed in range(how_many(size))]
        ours, reference, tokens = contenders["ours"], contenders["transformers"], size.work.caption_tokens
        return {
            "ours": lambda: ours.answer(images, tokens),
            "ours, one by one": lambda: [ours.answer([image], tokens) for image in images],
            "transformers": lambda: [reference.answer([image], tokens) for image in images],
        }

    return runs


def _decode(size: Size, contenders: Contenders) -> Runs:
    tokens = grid(size.config)
    return _each(contenders, ("ours", "transformers"), lambda who: who.decode(tokens))


def _encode(size: Size, contenders: Contenders) -> Runs:
    values = pixels(size.config)
    return _each(contenders, ("ours", "transformers"), lambda who: who.encode(values))


_DRAWERS = ("ours", "authors", "transformers")

ROWS = {
    "draw": Row(
        title="Draw {draw_steps} image tokens of one picture, guidance 5",
        runs=_draw(lambda size: size.work.draw_steps, *_DRAWERS),
        warm_up=_draw(lambda size: _WARM_UP_STEPS, *_DRAWERS),
        count=lambda size: size.work.draw_steps,
        unit="image tokens",
        repeats=3,
        reads_weights=True,
    ),
    "packing": Row(
        title=f"The same, at most {_PACKING_STEPS} image tokens, with and without packed weights",
        runs=_draw(lambda size: min(_PACKING_STEPS, size.work.draw_steps), "ours", "ours, unpacked"),
        count=lambda size: min(_PACKING_STEPS, size.work.draw_steps),
        unit="image tokens",
        repeats=5,
        reads_weights=True,
    ),
    "prefill": Row(
        title="See one picture and find the first token of its caption",
        runs=_answer(lambda size: 1),
        count=lambda size: 1,
        unit="pictures",
        repeats=5,
    ),
    "answer": Row(
        title="Answer about one picture in {answer_tokens} tokens",
        runs=_answer(lambda size: size.work.answer_tokens),
        warm_up=_answer(lambda size: 2),
        count=lambda size: size.work.answer_tokens,
        unit="tokens",
        repeats=5,
    ),
    "captions": Row(
        title="Caption {captions} pictures together in {caption_tokens} tokens each",
        runs=_captions(lambda size: size.work.captions),
        warm_up=_captions(lambda size: 1),
        count=lambda size: size.work.captions,
        unit="pictures",
        repeats=1,
    ),
    "decode": Row(
        title="Decode one picture from its image tokens",
        runs=_decode,
        count=lambda size: 1,
        unit="pictures",
        repeats=5,
    ),
    "encode": Row(
        title="Encode one picture to image tokens",
        runs=_encode,
        count=lambda size: 1,
        unit="pictures",
        repeats=5,
    ),
}
