"""The decoder's memory of keys and values, allocated once at its final size and written by position.

It knows tensors only: no model, no tokens. A cache lives in one call and is passed down; nothing keeps it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from .config import LanguageConfig

SLOTS = 64  # a cache grows in steps of so many tokens, and attention reads whole steps of it


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
        self.both = torch.empty(shape, dtype=dtype, device=device)
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
        """Write new keys and values behind the stored ones and return all up to and including them.

        The length moves only with `advance`, once all layers have stored.

        Args:
            layer: index of the decoder layer.
            keys: (rows, kv_heads, t, head_dim).
            values: as `keys`.

        Returns: keys and values (rows, kv_heads, length + t, head_dim): views of the cache, or what came in
            where nothing was stored before.
        """
        end = self.length + keys.shape[2]
        all_keys, all_values = self.both[layer]
        all_keys[:, :, self.length : end] = keys
        all_values[:, :, self.length : end] = values
        if self.length == 0:
            return keys, values
        return all_keys[:, :, :end], all_values[:, :, :end]

    def advance(self, count: int) -> None:
        """Count `count` freshly stored tokens as part of the sequence."""
        self.length += count

    def begin_with(self, other: KVCache) -> None:
        """Begin all rows with what the single row of another cache holds."""
        self.both[..., : other.length, :] = other.both[..., : other.length, :]
        self.length = other.length

    def select(self, rows: Tensor) -> KVCache:
        """Return a cache whose row i holds what row `rows[i]` holds here (rows: (n,) int64)."""
        selected = copy.copy(self)
        selected.both = self.both.new_empty((*self.both.shape[:2], rows.shape[0], *self.both.shape[3:]))
        filled = self.both[..., : self.length, :]
        selected.both[..., : self.length, :] = filled.index_select(2, rows)
        return selected


def cache_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype to store in: on a CPU float32, since there one query in half precision is slow.

    Its products take five to eight times as long as in float32, which costs more than twice the bytes.
    """
    return torch.float32 if device.type == "cpu" else dtype


def cache_slots(tokens: int) -> int:
    """Return the capacity to allocate for a number of tokens: whole steps of `SLOTS`."""
    return -(-tokens // SLOTS) * SLOTS


def kv_cache_bytes(config: LanguageConfig, rows: int, capacity: int, dtype: torch.dtype) -> int:
    """Return the size in bytes of a cache for `capacity` tokens before it is made."""
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return per_token * rows * cache_slots(capacity) * dtype.itemsize
