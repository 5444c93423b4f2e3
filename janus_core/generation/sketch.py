"""A drawing under way as a value: what is drawn so far, kept when somebody interrupts it.

It takes the tokens that a drawing hands over, see `OnTokens`, and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..inputs.image_tokens import ImageTokens


class Sketch:
    """Collects the tokens of pictures while they are drawn, batch after batch."""

    def __init__(self, start: ImageTokens) -> None:
        """Begin with what the pictures start from, one grid for each."""
        self._start = start
        self._settled: dict[int, Tensor] = {}  # tokens (cells so far,) of pictures of earlier batches
        self._tokens: Tensor | None = None  # (b, cells so far), a view that is read only when it is needed
        self._pictures: list[int] = []

    def on_tokens(self, tokens: Tensor, pictures: Sequence[int]) -> None:
        """Take the tokens so far of the batch being drawn."""
        if list(pictures) != self._pictures:
            self._settle()
            self._pictures = list(pictures)
        self._tokens = tokens

    def tokens(self) -> ImageTokens | None:
        """Return what is drawn so far, or None if there is nothing new; waits for the device."""
        self._settle()
        if not self._settled:
            return None
        grid = self._start.grid.clone()
        for picture, drawn in self._settled.items():
            grid.view(len(grid), -1)[picture, : len(drawn)] = drawn
        return replace(self._start, grid=grid)

    def _settle(self) -> None:
        if self._tokens is None:
            return
        for picture, drawn in zip(self._pictures, self._tokens.cpu().clone(), strict=True):
            self._settled[picture] = drawn
        self._tokens = None
