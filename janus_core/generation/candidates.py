"""Several fills of what is redrawn, and the one that suits what is kept: a particle filter over the cells.

A model draws from the first cell to the last, so a fill knows nothing of the kept cells behind it. Of several
fills those go on under which these kept cells are likely. At the end of every row of the grid likely fills
take the places of unlikely ones, and go on with noise of their own. Source: sequential importance resampling
(Gordon, Salmond and Smith 1993), with systematic resampling (Kitagawa 1996).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..options import OnStep, OnTokens
from .batches import batched, numbered_as, of_pictures, within
from .capturing import Stepper
from .drawing import DrawingStep, draw_until
from .easel import Easel
from .noise import branch_seeds, uniform_number
from .plans import DrawPlan
from .pruning import best_of


def resampled(log_weights: Sequence[float], number: float) -> list[int]:
    """Return which fill goes on at each place, each about as often as its weight says.

    A fill that goes on keeps its place; further copies take the places of those that do not.

    Args:
        log_weights: of each fill, finite.
        number: random, above 0 and below 1.
    """
    most = max(log_weights)
    weights = [math.exp(weight - most) for weight in log_weights]
    step, before = sum(weights) / len(weights), 0.0
    copies: list[int] = []
    for weight in weights:
        # how many of the points (number + k) · step lie in this fill's stretch of the sum
        copies.append(_points(before + weight, step, number) - _points(before, step, number))
        before += weight
    spare = [fill for fill, count in enumerate(copies) for _ in range(count - 1)]
    missing = len(copies) - sum(count > 0 for count in copies) - len(spare)
    spare += [log_weights.index(most)] * missing  # rounding at the end of the sum
    return [fill if count else spare.pop(0) for fill, count in enumerate(copies)]


def _points(end: float, step: float, number: float) -> int:
    return max(0, math.ceil(end / step - number))


def draw_candidates(
    easel: Easel,
    pictures: Sequence[DrawPlan],
    candidates: int,
    on_step: OnStep | None,
    on_tokens: OnTokens | None,
) -> Tensor:
    """Draw several fills of each picture and return the likeliest one's image tokens (b, n) on the CPU.

    Args:
        easel: `batch_size` counts pictures, each with all its fills.
        pictures: all of them start from something.
        candidates: fills of each picture.
        on_step: called after each step.
        on_tokens: called after each step with the tokens so far of all fills.
    """
    cells, batches = easel.side**2, batched(range(len(pictures)), easel.batch_size)
    drawn: list[Tensor] = []
    for index, batch in enumerate(batches):
        numbers = [number for number in batch for _ in range(candidates)]
        fills = [
            replace(pictures[number], seed=seed, group=number)
            for number in batch
            for seed in branch_seeds(pictures[number].seed, candidates)
        ]
        with numbered_as(numbers, easel.compute.dtype):
            step = easel.step(fills, cells, "kept")
            watch = within(on_step, index * cells, len(batches) * cells)
            with Stepper(easel.compute.device, captures=step.can_be_captured) as stepper:
                for end in range(easel.side, cells + 1, easel.side):
                    draw_until(end, step, stepper, on_step=watch, on_tokens=of_pictures(on_tokens, numbers))
                    if step.done == end < cells:
                        _resample(step, fills, candidates, end)
            step.check_finite()
        assert step.scores is not None
        best = best_of(step.scores.tolist(), numbers, 1)
        drawn.append(step.tokens[torch.tensor(best, device=step.tokens.device)].cpu())
    return torch.cat(drawn)


def _resample(step: DrawingStep, fills: Sequence[DrawPlan], candidates: int, end: int) -> None:
    """Let likely fills take the places of unlikely ones, where cells from `end` on are still to be drawn."""
    step.check_finite()
    assert step.scores is not None
    scores = step.scores.tolist()
    rows = list(range(len(fills)))
    for first in range(0, len(fills), candidates):
        picture, places = fills[first], slice(first, first + candidates)
        assert picture.source is not None
        if bool(picture.source.is_drawn[end:].any()):
            chosen = resampled(scores[places], uniform_number(picture.seed, end))
            rows[places] = [first + fill for fill in chosen]
            scores[places] = [0.0] * candidates
    if scores != step.scores.tolist():
        step.reorder(rows, scores)
