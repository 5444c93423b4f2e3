"""Attention of one new token a row, over a cache that keeps its place: for steps that may be captured.

The new token is stored at a slot that lies on the device, and sees the slots filled so far. By plain
operators, a mask hides the others; `counted_attention` has another way. Nothing here knows of weights.
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
from ..model.layers import attend, rotary_table
from .steps import Sequences

_REACH_OF_ONE_ROW = 512  # slots that reach grows by, shared among rows


@dataclass(kw_only=True)
class Place:
    """Where the new token of each row goes; all of it lies on the device.

    Attributes:
        cache: keys and values, in memory of this place's own.
        slot: (1,) int64, how many slots are filled, which is where the new token is stored.
        positions: (b,) int64, of the new token in its row.
        table: cosines and signed sines (capacity, head_dim) of all positions.
    """

    cache: KVCache
    slot: Tensor
    positions: Tensor
    table: tuple[Tensor, Tensor]

    @classmethod
    def behind(cls, sequences: Sequences, config: LanguageConfig, dtype: torch.dtype) -> Place:
        """Return the place behind what sequences hold."""
        cache, device = sequences.cache, sequences.cache.both.device
        every = torch.arange(cache.slots, device=device)[None]
        cos, sin = rotary_table(every, config.head_dim, config.rope_theta, dtype)
        first, second = sin[0, 0].chunk(2, dim=-1)
        return cls(
            cache=cache,
            slot=torch.tensor([cache.length], device=device),
            positions=sequences.positions + 1,
            # sines whose first half is negative, so that turning needs no negation
            table=(cos[0, 0], torch.cat((-first, second), dim=-1)),
        )

    def select(self, index: Tensor) -> Place:
        """Return a place whose row i is what is row `index[i]` here, in memory of its own."""
        cache = copy.copy(self.cache)
        cache.both = self.cache.both.index_select(2, index)
        return replace(self, cache=cache, slot=self.slot.clone(), positions=self.positions[index])

    def advance(self) -> None:
        """Go on to the next slot."""
        self.slot.add_(1)
        self.positions.add_(1)


class StaticAttention(Protocol):
    """Attention of all layers in a step; `begin` goes before the first layer and `end` behind the last."""

    def prepare(self, done: int) -> int:
        """Get ready for the step after `done` steps; return what the shapes in it depend on."""

    def begin(self) -> None:
        """Do what one step needs once."""

    def mix(self, layer: int, projected: Tensor) -> Tensor:
        """Store the new token of each row and let it see all slots filled so far.

        Args:
            layer: whose cache it is.
            projected: (b, (heads + 2 kv_heads) head_dim): queries, keys, values side by side; changed.

        Returns: the mixed values (b, heads head_dim).
        """

    def end(self) -> None:
        """Go on to the next slot."""

    def select(self, index: Tensor) -> StaticAttention:
        """Return one whose row i is what is row `index[i]` here, in memory of its own."""


class MaskedAttention:
    """By plain operators: slots not yet filled hide behind a mask, and padding does."""

    def __init__(self, place: Place, attended: Tensor | None, config: LanguageConfig) -> None:
        """Begin behind `place`; `attended` (b, stored) bool is False at padding."""
        cache = place.cache
        self._place, self._config = place, config
        self._stored, self._capacity = stored, capacity = cache.length, cache.slots
        rows, device, dtype = len(place.positions), cache.both.device, cache.both.dtype
        cache.both[..., stored:, :].zero_()  # masked weights are 0, and 0 times anything must be 0
        # A large finite number, since a whole block of -inf gives NaN in some attention kernels.
        blocked = torch.finfo(dtype).min / 2
        self._mask = torch.full((rows, 1, 1, capacity), blocked, dtype=dtype, device=device)
        seen = torch.zeros(rows, stored, dtype=dtype, device=device)
        self._mask[:, 0, 0, :stored] = seen if attended is None else seen.masked_fill(~attended, blocked)
        self._table = place.table  # of a step: (b, 1, head_dim) each
        self._stride = _stride(rows)
        self._reach = capacity

    def prepare(self, done: int) -> int:
        """Set how many slots attention looks at in the step after `done` steps, and return it.

        It grows in strides: each is a graph to capture, while slots not yet filled are read in vain, which is
        little beside the weights for few rows.
        """
        strides = -(-(self._stored + done + 1) // self._stride)
        self._reach = min(strides * self._stride, self._capacity)
        return self._reach

    def begin(self) -> None:
        """Show the slot that will be filled, and look up how far its tokens turn."""
        self._mask.index_fill_(3, self._place.slot, 0.0)
        cos, sin = (whole.index_select(0, self._place.positions)[:, None] for whole in self._place.table)
        self._table = (cos, sin)

    def mix(self, layer: int, projected: Tensor) -> Tensor:
        """See `StaticAttention`."""
        config = self._config
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        split = rearrange(
            projected, "b (heads head_dim) -> b heads head_dim", head_dim=config.head_dim
        )  # queries, keys, values
        _rotate(split[:, : heads + kv_heads], self._table)
        both = self._place.cache.both[layer]  # (2, b, kv_heads, slots, head_dim)
        new = rearrange(split[:, heads:], "b (two kv_heads) head_dim -> two b kv_heads 1 head_dim", two=2)
        both.index_copy_(3, self._place.slot, new.to(both.dtype))
        keys, values = both[:, :, :, : self._reach]
        return attend(split[:, :heads, None], keys, values, mask=self._mask[..., : self._reach])[:, 0]

    def end(self) -> None:
        """Go on to the next slot."""
        self._place.advance()

    def select(self, index: Tensor) -> MaskedAttention:
        """Return one whose row i is what is row `index[i]` here, in memory of its own."""
        selected = copy.copy(self)
        selected._place = self._place.select(index)
        selected._mask = self._mask[index]
        selected._stride = _stride(len(index))
        return selected


def _stride(rows: int) -> int:
    return max(SLOTS, _REACH_OF_ONE_ROW // rows // SLOTS * SLOTS)


def _rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> None:
    """Turn x (b, heads, head_dim) in place by cosines and signed sines (b, 1, head_dim)."""
    cos, sin = table
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    x.mul_(cos).addcmul_(swapped, sin)
