"""Which pictures go on: when a drawing keeps the best of many, where it gives the others up, and by what.

A picture's score is how much likelier its tokens are with the prompt than without it. Nothing here knows of
models; scores and places are plain numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PromptError, SamplingError
from .plans import DrawPlan

_DECIMALS = 3  # of a score; float32 sums of some hundred logarithms are that exact


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Once `cells` cells are drawn, only the best `keep` pictures of each group go on."""

    cells: int
    keep: int


def cuts_of(drawn: int, keep: int, side: int) -> list[Cut]:
    """Return where pictures are given up, the last cut when all cells are drawn.

    Half of them go on after a quarter of the grid's rows, a quarter of them after half of the rows, and never
    fewer than are wanted. So 16 pictures on 24 rows become 8 after 6 rows and 4 after 12.

    Args:
        drawn: pictures of a group at the beginning.
        keep: how many of them are wanted.
        side: cells along one side of the grid.
    """
    early = [(-(-side // share), -(-drawn // half)) for share, half in ((4, 2), (2, 4))]  # rounded up
    cuts: list[Cut] = []
    left = drawn
    for rows, going_on in early:
        if max(going_on, keep) < left:
            left = max(going_on, keep)
            cuts.append(Cut(cells=rows * side, keep=left))
    return [*cuts, Cut(cells=side * side, keep=keep)]


def best_of(scores: Sequence[float], groups: Sequence[int], keep: int) -> list[int]:
    """Return the places of the `keep` highest scores of each group, best first, groups in their own order.

    Of equal scores the first one wins; those of pictures with the same tokens differ by rounding at most.
    """
    found: list[int] = []
    for group in dict.fromkeys(groups):
        places = [place for place, other in enumerate(groups) if other == group]
        found += sorted(places, key=lambda place: -round(scores[place], _DECIMALS))[:keep]  # stable
    return found


def check_keeping(pictures: Sequence[DrawPlan], keep: int) -> None:
    """Refuse to keep the best of pictures that are too few, or have no prompt to be judged by.

    Raises:
        SamplingError: a group has fewer than `keep` pictures.
        PromptError: a picture's rows are equal, so that every score would be 0.
    """
    groups = [picture.group for picture in pictures]
    fewest = min(groups.count(group) for group in set(groups))
    if keep > fewest:
        raise SamplingError(
            f"keep_best is {keep}, but only {fewest} of a prompt {'is' if fewest == 1 else 'are'} drawn. "
            "Draw more pictures, or keep fewer."
        )
    if any(picture.cond == picture.uncond for picture in pictures):
        raise PromptError(
            "keep_best keeps the pictures that fit the prompt best, and the prompt is empty or equals the "
            "negative one. Write another prompt, or set keep_best to 0."
        )
