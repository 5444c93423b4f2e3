"""The check before the clock starts: all contenders compute the same from the same float32 weights."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import Contenders, grid, picture
from .sizes import Size

_MOST_ANSWER_TOKENS = 16
_PIXEL_TOLERANCE = 1e-3


def check_equality(size: Size, contenders: Contenders) -> dict[str, float]:
    """Compare greedy image tokens, a greedy answer and a decoded picture.

    Returns: how many image tokens and answer tokens were compared, the largest difference of a pixel value.

    Raises:
        SystemExit: something differs, with where.
    """
    ours, reference, steps = contenders["ours"], contenders["transformers"], size.work.check_steps
    drawn = ours.draw(steps, greedy=True)
    for name, who in contenders.items():
        _refuse(f"Greedy image tokens of {name}", drawn, who.draw(steps, greedy=True))
    tokens, image = min(size.work.answer_tokens, _MOST_ANSWER_TOKENS), picture(size.config)
    _refuse(
        "The greedy answer of transformers",
        ours.answer([image], tokens)[0],
        reference.answer([image], tokens)[0],
    )
    codes = grid(size.config)
    difference = float((ours.decode(codes) - reference.decode(codes)).abs().max())
    if not difference <= _PIXEL_TOLERANCE:
        raise SystemExit(f"Decoded pixel values of transformers differ from ours by {difference}.")
    return {"image_tokens": steps, "answer_tokens": tokens, "largest_pixel_difference": difference}


def _refuse(what: str, ours: Tensor, theirs: Tensor) -> None:
    if not torch.equal(ours, theirs):
        at = int((ours != theirs).nonzero()[0]) if ours.shape == theirs.shape else len(theirs)
        raise SystemExit(f"{what} differ from ours from number {at} on; nothing was timed.")
