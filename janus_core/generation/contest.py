"""Drawing many pictures down to the best: in batches, with fewer pictures after every cut.

While the pictures need several batches, each batch stops at the cut, and those that go on are read again from
their tokens. As soon as they fit into one batch they stay in it, and the others are dropped on the way. Both
ways give the same pictures. Which go on is the business of `pruning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..inputs.image_tokens import UNDRAWN
from ..options import OnStep, OnTokens
from .batches import batched, numbered_as, of_pictures
from .canvas import Source
from .capturing import Stepper
from .drawing import DrawingStep, draw_until
from .easel import Easel
from .plans import DrawPlan
from .pruning import Cut, best_of, check_keeping, cuts_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """The pictures that were kept, those of each group together and the best first.

    Attributes:
        places: of each among the pictures that were begun.
        tokens: (b, n) int64 on the CPU.
        scores: how much likelier each is with its prompt than without, in logarithms.
    """

    places: list[int]
    tokens: Tensor
    scores: list[float]


@dataclass(frozen=True, kw_only=True)
class _Leg:
    """A stretch of drawing: from cell `begin` on, in so many batches, through some cuts."""

    begin: int
    cuts: Sequence[Cut]
    batches: int

    @property
    def steps(self) -> int:
        """Cells drawn, summed over the batches."""
        return self.batches * (self.cuts[-1].cells - self.begin)


class Contest:
    """Some pictures of which the best are kept."""

    def __init__(self, easel: Easel, pictures: Sequence[DrawPlan]) -> None:
        """Begin with all pictures.

        Raises:
            SamplingError: fewer pictures than are to be kept.
            PromptError: a prompt says nothing that pictures could be judged by.
        """
        check_keeping(pictures, easel.options.keep_best)
        self._easel = easel
        self._pictures = pictures
        self._groups = [picture.group for picture in pictures]
        self._left = list(range(len(pictures)))  # places of the pictures that go on
        self._scores = [0.0] * len(pictures)
        self._tokens = torch.full((len(pictures), easel.side**2), UNDRAWN)  # (b, n)
        for place, picture in enumerate(pictures):
            if picture.source is not None:
                self._tokens[place] = picture.source.tokens

    def run(self, on_step: OnStep | None, on_tokens: OnTokens | None) -> Chosen:
        """Draw, and return what is kept."""
        legs = self._legs()
        total, before = sum(leg.steps for leg in legs), 0
        for leg in legs:
            for batch in batched(self._left, self._easel.batch_size):
                self._draw(batch, leg, _counted(on_step, leg.begin, before, total), on_tokens)
                before += leg.steps // leg.batches
            best = self._best(self._left, leg.cuts[-1].keep)
            self._left = best if leg is legs[-1] else sorted(best)
        return Chosen(
            places=self._left,
            tokens=self._tokens[self._left],
            scores=[self._scores[place] for place in self._left],
        )

    def _legs(self) -> list[_Leg]:
        """Plan: a leg for each cut while there are several batches, then one through all cuts.

        A cut before the first cell that is to be drawn has a leg of its own, too: what counts there are the
        cells before it.
        """
        known = int((self._tokens != UNDRAWN).sum(dim=1).min())
        groups = len(set(self._groups))
        cuts = cuts_of(len(self._left) // groups, self._easel.options.keep_best, self._easel.side)
        legs: list[_Leg] = []
        begin, left = 0, len(self._left)
        for number, cut in enumerate(cuts):
            batches = -(-left // self._easel.batch_size)  # rounded up
            if batches == 1 and known <= cut.cells:
                return [*legs, _Leg(begin=begin, cuts=cuts[number:], batches=1)]
            legs.append(_Leg(begin=begin, cuts=[cut], batches=batches))
            begin, left = cut.cells, groups * cut.keep
        return legs

    def _draw(
        self, batch: Sequence[int], leg: _Leg, on_step: OnStep | None, on_tokens: OnTokens | None
    ) -> None:
        """Draw the pictures at some places through a leg; note their tokens and scores."""
        easel, cells = self._easel, leg.cuts[-1].cells
        with numbered_as(batch, easel.compute.dtype):
            step = easel.step(self._started(batch, cells), cells, "prompt")
            with Stepper(easel.compute.device, captures=step.can_be_captured) as stepper:
                watch = of_pictures(on_tokens, batch)
                for cut in leg.cuts:
                    draw_until(cut.cells, step, stepper, on_step=on_step, on_tokens=watch)
                    step.check_finite()  # of all pictures, before some of them are dropped
                    self._note(step, batch)
                    if cut is not leg.cuts[-1]:  # then this batch holds all pictures that are left
                        places = [batch[row] for row in step.rows]
                        self._left = sorted(self._best(places, cut.keep))
                        stepper.restart()  # first: graphs hold addresses of the buffers that are replaced now
                        step.keep([places.index(place) for place in self._left])

    def _note(self, step: DrawingStep, batch: Sequence[int]) -> None:
        """Take over what a step has drawn of a batch so far."""
        assert step.scores is not None
        tokens = step.tokens[:, : step.done].cpu()
        for row, score, drawn in zip(step.rows, step.scores.tolist(), tokens, strict=True):
            self._scores[batch[row]] = score
            self._tokens[batch[row], : len(drawn)] = drawn

    def _best(self, places: Sequence[int], keep: int) -> list[int]:
        """Return the best of some places, best first in each group."""
        scores, groups = [self._scores[place] for place in places], [self._groups[place] for place in places]
        return [places[row] for row in best_of(scores, groups, keep)]

    def _started(self, batch: Sequence[int], cells: int) -> list[DrawPlan]:
        """Return the plans of pictures that go on from what is drawn of their first cells."""
        tokens = self._tokens[list(batch), :cells]  # (b, cells)
        pictures = [self._pictures[place] for place in batch]
        if bool((tokens == UNDRAWN).all()):
            return [replace(picture, source=None) for picture in pictures]
        return [
            replace(picture, source=Source(tokens=row, is_drawn=row == UNDRAWN))
            for picture, row in zip(pictures, tokens, strict=True)
        ]


def _counted(on_step: OnStep | None, begin: int, before: int, total: int) -> OnStep | None:
    """Return a callback for a batch that begins at a cell, after `before` of `total` steps."""
    if on_step is None:
        return None
    return lambda done, _: on_step(before + max(done - begin, 0), total)
