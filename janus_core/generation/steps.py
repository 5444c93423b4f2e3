"""Sequences after the prefill, and the decoding step that makes each of them one token longer.

A step takes one embedding for every row and returns the hidden state that the row's next token is chosen
from. It knows nothing of tokens, logits or noise. `StreamedDecoder` calls the model's own layers, wherever a
host keeps their weights; `static_decoder` computes the same with fixed buffers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..model.kv_cache import KVCache
from ..model.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequences:
    """Rows being decoded: KV cache, positions and the last hidden states.

    Attributes:
        hidden: (b, d), the last hidden state of each row.
        cache: keys and values of all tokens so far; a decoder takes it over and writes to it.
        positions: (b,) int64, position of each row's last stored token.
        attended: (b, stored) bool, False at padding, or None where there is none.
    """

    hidden: Tensor
    cache: KVCache
    positions: Tensor
    attended: Tensor | None

    def select(self, rows: Sequence[int]) -> Sequences:
        """Return sequences whose row i continues row `rows[i]` of these: drop, reorder or repeat."""
        if list(rows) == list(range(len(self.hidden))):
            return self  # copies no cache
        index = torch.tensor(rows, device=self.hidden.device)
        return Sequences(
            hidden=self.hidden[index],
            cache=self.cache.select(index),
            positions=self.positions[index],
            attended=None if self.attended is None else self.attended[index],
        )


class Decoder(Protocol):
    """Appends one token to every row in each step.

    Attributes:
        can_be_captured: whether shapes, buffers and weights stay the same from step to step, so that a CUDA
            graph of one step can be replayed as the next.
    """

    can_be_captured: bool

    def prepare(self, done: int) -> int:
        """Prepare the step after `done` steps; return the number that its shapes depend on."""

    def step(self, embeddings: Tensor) -> Tensor:
        """Append one token's embedding (b, d) to every row and return the next hidden states (b, d)."""

    def select(self, rows: Sequence[int]) -> Decoder:
        """Return a decoder whose row i continues row `rows[i]` of this one."""

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue row `rows[i]` from now on, in the same buffers; the same number of rows."""


class StreamedDecoder:
    """Decoder that calls the model's own layers, of whatever class and wherever their weights rest."""

    can_be_captured = False

    def __init__(self, model: LanguageModel, sequences: Sequences, compute_dtype: torch.dtype) -> None:
        """Take sequences over.

        Args:
            model: whose layers are called.
            sequences: filled by a prefill, with room in their cache for all steps to come.
            compute_dtype: of embeddings and hidden states.
        """
        self._model = model
        self._dtype = compute_dtype
        self._cache = sequences.cache
        self._positions = sequences.positions
        self._attended = widened(sequences)

    def prepare(self, done: int) -> int:
        """Do nothing: shapes follow the length of the cache."""
        return 0  # never captured, so one key serves for all shapes

    def step(self, embeddings: Tensor) -> Tensor:
        """Append one token's embedding (b, d) to every row and return the next hidden states (b, d)."""
        self._positions = self._positions + 1  # not in place: they belong to the sequences handed over
        attended = None if self._attended is None else self._attended[:, : self._cache.length + 1]
        hidden: Tensor = self._model(
            embeddings[:, None].to(self._dtype),
            self._positions[:, None],
            cache=self._cache,
            attended=attended,
        )  # (b, 1, d)
        return hidden[:, -1]

    def select(self, rows: Sequence[int]) -> StreamedDecoder:
        """Return a decoder whose row i continues row `rows[i]` of this one, with buffers of its own."""
        index = torch.tensor(rows, device=self._positions.device)
        selected = copy.copy(self)
        selected._cache = self._cache.select(index)
        selected._positions = self._positions[index]
        selected._attended = None if self._attended is None else self._attended[index]
        return selected

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue row `rows[i]` from now on."""
        self._cache.reorder(rows, self._cache.length)
        self._positions = self._positions[rows]
        self._attended = None if self._attended is None else self._attended[rows]


def widened(sequences: Sequences) -> Tensor | None:
    """Widen `attended` (b, stored) to the whole cache once, instead of by a column each step."""
    attended, slots = sequences.attended, sequences.cache.slots
    if attended is None:
        return None
    stored = sequences.cache.length
    # every token that is still to come is attended to
    return torch.cat((attended[:, :stored], attended.new_ones(len(attended), slots - stored)), dim=1)
