"""What drawing needs beside pictures, and drawing any number of them a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.model import Language
from ..options import Compute, DrawOptions, OnStep, OnTokens
from .batches import batched, numbered_from, of_pictures, within
from .drawing import DrawingStep, Judge, generate_image_tokens
from .plans import DrawPlan


@dataclass(frozen=True, kw_only=True, eq=False)
class Easel:
    """What drawing needs beside pictures.

    Attributes:
        language: ready on the device of `compute`.
        options: guidance and sampling.
        side: cells along one side of the grid.
        pad: id that fills shorter prompt rows.
        compute: device and dtype.
        batch_size: pictures drawn together.
    """

    language: Language
    options: DrawOptions
    side: int
    pad: int
    compute: Compute
    batch_size: int

    def draw(
        self, pictures: Sequence[DrawPlan], on_step: OnStep | None, on_tokens: OnTokens | None
    ) -> Tensor:
        """Draw all pictures; return their image tokens (b, n) int64 on the CPU."""
        cells, batches = self.side**2, batched(pictures, self.batch_size)
        drawn: list[Tensor] = []
        for index, batch in enumerate(batches):
            first = index * self.batch_size
            with numbered_from(first, self.compute.dtype):
                tokens = generate_image_tokens(
                    self.language,
                    batch,
                    self.options,
                    num_image_tokens=cells,
                    pad=self.pad,
                    compute=self.compute,
                    on_step=within(on_step, index * cells, len(batches) * cells),
                    on_tokens=of_pictures(on_tokens, range(first, first + len(batch))),
                )
            drawn.append(tokens.cpu())
        return torch.cat(drawn)

    def step(self, pictures: Sequence[DrawPlan], cells: int, judged_by: Judge) -> DrawingStep:
        """Prepare one batch of pictures, to be drawn up to so many cells, and judged."""
        return DrawingStep(
            self.language,
            pictures,
            self.options,
            num_image_tokens=cells,
            pad=self.pad,
            compute=self.compute,
            judged_by=judged_by,
        )
