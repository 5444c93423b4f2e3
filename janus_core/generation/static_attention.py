"""Attention of one new token in each row, over a cache with a fixed address, for steps that may be captured.

The new token is stored at a slot whose number is kept on the device, and attends to the slots filled so far.
With plain operators a mask hides the others; `counted_attention` uses a kernel. Neither knows of weights.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..model.config import LanguageConfig
from ..model.kv_cache import SLOTS, KVCache
from ..model.layers import attend, blocked, rotary_table
from .steps import Sequences

_PREFIX_STRIDE = 512  # slots that the prefix grows by for one row; fewer for more rows, which read more


@dataclass(kw_only=True)
class Place:
    """Where the next token of each row is written; all of it on the device.

    Attributes:
        cache: keys and values of all rows.
        slot: (1,) int64, where the next token is written, for all rows: the number of filled slots.
        positions: (b,) int64, of the next token; differs by the rows' padding.
        table: cosines and signed sines (capacity, head_dim) of all positions.
    """

    cache: KVCache
    slot: Tensor
    positions: Tensor
    table: tuple[Tensor, Tensor]

    @classmethod
    def behind(cls, sequences: Sequences, config: LanguageConfig, dtype: torch.dtype) -> Place:
        """Return the place behind the last token of sequences."""
        cache, device = sequences.cache, sequences.cache.both.device
        every = torch.arange(cache.slots, device=device)[None]  # (1, capacity)
        cos, sin = rotary_table(every, config.head_dim, config.rope_theta, dtype)
        first, second = sin[0, 0].chunk(2, dim=-1)
        return cls(
            cache=cache,
            slot=torch.tensor([cache.length], device=device),
            positions=sequences.positions + 1,
            # the first half negated, so that `_rotate` need not negate
            table=(cos[0, 0], torch.cat((-first, second), dim=-1)),
        )

    def select(self, index: Tensor) -> Place:
        """Return a place whose row i continues row `index[i]` of this one, with buffers of its own."""
        cache = copy.copy(self.cache)
        cache.both = self.cache.both.index_select(2, index)
        return replace(self, cache=cache, slot=self.slot.clone(), positions=self.positions[index])

    def reorder(self, index: Tensor) -> None:
        """Let row i continue row `index[i]`, in the same buffers."""
        self.cache.reorder(index, self.cache.slots)  # how many are filled is known on the device alone
        self.positions.copy_(self.positions[index])

    def advance(self) -> None:
        """Advance by one slot."""
        self.slot.add_(1)  # on the device, so that replaying the same graph moves on
        self.positions.add_(1)


class StaticAttention(Protocol):
    """Attention of all layers; `begin` is called before the first layer of a step, `end` after the last."""

    def prepare(self, done: int) -> int:
        """Prepare the step after `done` steps; return the number that its shapes depend on."""

    def begin(self) -> None:
        """Compute what all layers of a step share."""

    def attend(self, layer: int, projected: Tensor) -> Tensor:
        """Store the new token's key and value in each row, and attend to the filled slots.

        Args:
            layer: index of the decoder layer.
            projected: (b, (heads + 2 kv_heads) head_dim): queries, keys, values side by side; changed.

        Returns: the output of attention (b, heads head_dim).
        """

    def end(self) -> None:
        """Advance by one slot."""

    def select(self, index: Tensor) -> StaticAttention:
        """Return one whose row i continues row `index[i]` of this one, with buffers of its own."""

    def reorder(self, index: Tensor) -> None:
        """Let row i continue row `index[i]`, in the same buffers."""


class MaskedAttention:
    """Attention with plain operators: it reads a prefix of the cache, in which a mask hides unused slots."""

    def __init__(self, place: Place, attended: Tensor | None, config: LanguageConfig) -> None:
        """Begin behind `place`; `attended` (b, stored) bool is False at padding."""
        cache = place.cache
        self._place = place
        self._config = config
        self._stored = stored = cache.length
        self._capacity = capacity = cache.slots
        rows, device, dtype = len(place.positions), cache.both.device, cache.both.dtype
        cache.both[..., stored:, :].zero_()  # a masked slot has weight 0, but 0 times NaN would be NaN
        hidden = blocked(dtype)
        # Additive and in the cache's dtype, (b, 1, 1, capacity): kernels would convert a bool mask each step.
        self._mask = torch.full((rows, 1, 1, capacity), hidden, dtype=dtype, device=device)
        seen = torch.zeros(rows, stored, dtype=dtype, device=device)
        self._mask[:, 0, 0, :stored] = seen if attended is None else seen.masked_fill(~attended, hidden)
        shape = (rows, 1, config.head_dim)
        cos, sin = place.table
        self._table = (cos.new_empty(shape), sin.new_empty(shape))  # of a step
        self._stride = _stride(rows)
        self._prefix = capacity  # slots that attention reads; a Python number, so part of the capture

    def prepare(self, done: int) -> int:
        """Set and return the number of slots that attention reads in the step after `done` steps.

        It grows in strides, each of which takes a new capture. Reading slots not yet filled costs little
        beside reading the weights, as long as there are few rows.
        """
        strides = -(-(self._stored + done + 1) // self._stride)  # rounded up, the new token included
        self._prefix = min(strides * self._stride, self._capacity)
        return self._prefix

    def begin(self) -> None:
        """Unmask the new token's slot, and look up the cosines and sines of each row's position."""
        self._mask.index_fill_(3, self._place.slot, 0.0)
        for whole, of_rows in zip(self._place.table, self._table, strict=True):
            # into buffers of our own: memory of a captured step must not outlive its recording
            torch.index_select(whole, 0, self._place.positions, out=of_rows[:, 0])

    def attend(self, layer: int, projected: Tensor) -> Tensor:
        """See `StaticAttention`."""
        config = self._config
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        split = rearrange(
            projected, "b (heads head_dim) -> b heads head_dim", head_dim=config.head_dim
        )  # (b, heads + 2 kv_heads, head_dim): queries, keys, values
        _rotate(split[:, : heads + kv_heads], self._table)  # queries and keys together, in place
        both = self._place.cache.both[layer]  # (2, b, kv_heads, slots, head_dim)
        new = rearrange(split[:, heads:], "b (two kv_heads) head_dim -> two b kv_heads 1 head_dim", two=2)
        both.index_copy_(3, self._place.slot, new.to(both.dtype))  # one write for keys and values
        keys, values = both[:, :, :, : self._prefix]  # (b, kv_heads, prefix, head_dim) each, views
        return attend(split[:, :heads, None], keys, values, mask=self._mask[..., : self._prefix])[:, 0]

    def end(self) -> None:
        """Advance by one slot."""
        self._place.advance()

    def select(self, index: Tensor) -> MaskedAttention:
        """Return one whose row i continues row `index[i]` of this one, with buffers of its own."""
        selected = copy.copy(self)
        selected._place = self._place.select(index)
        selected._mask = self._mask[index]
        cos, sin = self._table
        selected._table = (cos[index], sin[index])
        selected._stride = _stride(len(index))
        return selected

    def reorder(self, index: Tensor) -> None:
        """Let row i continue row `index[i]`, in the same buffers."""
        self._place.reorder(index)
        self._mask.copy_(self._mask[index])


def _stride(rows: int) -> int:
    return max(SLOTS, _PREFIX_STRIDE // rows // SLOTS * SLOTS)  # a multiple of SLOTS


def _rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> None:
    """Rotate x (b, heads, head_dim) in place by cosines and signed sines (b, 1, head_dim)."""
    cos, sin = table
    first, second = x.chunk(2, dim=-1)  # (b, heads, head_dim / 2) each, views of x
    swapped = torch.cat((second, first), dim=-1)  # a copy, so x may be overwritten
    x.mul_(cos).addcmul_(swapped, sin)
