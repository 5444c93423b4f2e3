"""The decoder's keys and values, allocated once at their final size and written by position.

It knows tensors only: no model, no tokens. A cache lives in one call and is passed down; nothing keeps it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from .config import LanguageConfig

SLOTS = 64  # capacities are multiples of this, and so are the prefixes that a static decoder attends to


class KVCache:
    """Keys and values of every layer for `rows` sequences of at least `capacity` tokens.

    Attributes:
        both: (layers, 2, rows, kv_heads, slots, head_dim), keys and values, so that one write can serve both;
            at least as many slots as tokens were asked for.
        length: tokens already stored, the same for all rows.
    """

    def __init__(
        self, config: LanguageConfig, *, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        slots = cache_slots(capacity)
        shape = (config.num_hidden_layers, 2, rows, config.num_key_value_heads, slots, config.head_dim)
        self.both = torch.empty(shape, dtype=dtype, device=device)  # slots from `length` on are never read
        self.length = 0

    @property
    def keys(self) -> Tensor:
        """The keys (layers, rows, kv_heads, slots, head_dim), a view."""
        return self.both[:, 0]

    @property
    def slots(self) -> int:
        """How many tokens fit."""
        return self.both.shape[4]

    @property
    def values(self) -> Tensor:
        """The values, as `keys`."""
        return self.both[:, 1]

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind the stored ones and return all of them.

        `length` stays as it is until `advance`, which is called once all layers have stored.

        Args:
            layer: index of the decoder layer.
            keys: (rows, kv_heads, t, head_dim).
            values: as `keys`.

        Returns: keys and values (rows, kv_heads, length + t, head_dim): views of the cache, or what came in
            where nothing was stored before.
        """
        end = self.length + keys.shape[2]
        all_keys, all_values = self.both[layer]  # (rows, kv_heads, slots, head_dim) each, views
        all_keys[:, :, self.length : end] = keys  # converted here where the cache is wider than the model
        all_values[:, :, self.length : end] = values
        if self.length == 0:  # contiguous and in the model's dtype, which suits the fused kernels
            return keys, values
        return all_keys[:, :, :end], all_values[:, :, :end]

    def advance(self, count: int) -> None:
        """Count `count` freshly stored tokens as part of the sequence."""
        self.length += count

    def begin_with(self, other: KVCache) -> None:
        """Copy the single row of another cache to the start of every row."""
        self.both[..., : other.length, :] = other.both[..., : other.length, :]  # broadcast over rows
        self.length = other.length

    def fork(self) -> KVCache:
        """Return a cache that begins with the same tokens, in the same memory.

        What either of them appends takes the place of what the other one appended, so only one may go on.
        """
        return copy.copy(self)

    def select(self, rows: Tensor) -> KVCache:
        """Return a cache whose row i is a copy of row `rows[i]` of this one (rows: (n,) int64)."""
        selected = copy.copy(self)  # shares nothing but numbers: `both` is replaced
        selected.both = self.both.new_empty((*self.both.shape[:2], rows.shape[0], *self.both.shape[3:]))
        filled = self.both[..., : self.length, :]  # the rest is unwritten and not worth copying
        selected.both[..., : self.length, :] = filled.index_select(2, rows)
        return selected

    def reorder(self, rows: Tensor, filled: int) -> None:
        """Let row i continue row `rows[i]`, in the same memory; rows: (rows,) int64.

        Args:
            rows: which row each is to become.
            filled: slots in use.
        """
        for layer in self.both:  # one by one, since each is copied for a moment
            used = layer[..., :filled, :]  # (2, rows, kv_heads, filled, head_dim), a view
            used.copy_(used.index_select(1, rows))


def cache_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype to store keys and values in: float32 on a CPU, else the model's.

    On a CPU attention of a single query takes five to eight times as long in half precision as in float32,
    which outweighs reading twice the bytes.
    """
    return torch.float32 if device.type == "cpu" else dtype


def cache_slots(tokens: int) -> int:
    """Return the capacity to allocate for a number of tokens: whole steps of `SLOTS`."""
    return -(-tokens // SLOTS) * SLOTS


def kv_cache_bytes(config: LanguageConfig, rows: int, capacity: int, dtype: torch.dtype) -> int:
    """Return the size in bytes of a cache for `capacity` tokens before it is made."""
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim  # 2: keys, values
    return per_token * rows * cache_slots(capacity) * dtype.itemsize
