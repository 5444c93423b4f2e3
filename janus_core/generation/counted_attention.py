"""Attention of one new token in each row by one kernel, where it may be used, for steps that may be captured.

The kernel reads the number of filled slots on the device. So it needs no mask, reads only filled slots, and
its launch is the same in every step. What it computes is defined by `static_attention`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ..model.config import LanguageConfig
from ..model.kv_cache import SLOTS, KVCache, cache_slots
from . import kernels
from .static_attention import MaskedAttention, Place, StaticAttention
from .steps import Sequences, widened

_PROGRAMS = 2  # of the kernel for each multiprocessor: one loads while another computes
_MOST_SPLITS = 16  # of the keys of a head
_ROUNDINGS = 4  # of its dtype, by which a correct kernel may differ from float64


def attention_for(sequences: Sequences, config: LanguageConfig, dtype: torch.dtype) -> StaticAttention:
    """Return attention behind sequences: by the kernel if it may be used, else by plain operators.

    Args:
        sequences: filled by a prefill; their cache belongs to this attention from now on.
        config: of the decoder.
        dtype: of queries, keys and values; the cache may be in a wider one.
    """
    place = Place.behind(sequences, config, dtype)
    device, is_padded = place.slot.device, sequences.attended is not None
    splits = splits_of(len(place.positions) * config.num_attention_heads, device)
    if _kernel_passes(config, device, dtype, is_padded, splits > 1):
        return CountedAttention(place, widened(sequences), config.num_attention_heads, splits)
    return MaskedAttention(place, sequences.attended, config)


class CountedAttention:
    """Attention by a kernel that rotates, stores and attends at once; see `StaticAttention`.

    It reads the number of filled slots on the device, so one graph serves all steps.
    """

    def __init__(self, place: Place, attended: Tensor | None, heads: int, splits: int) -> None:
        """Begin behind `place`.

        Args:
            place: of the new tokens.
            attended: (b, slots) bool, False at padding, or None.
            heads: of queries.
            splits: see `splits_of`.
        """
        from .triton_kernels import attend

        self._kernel = attend
        self._place = place
        self._attended = attended
        self._heads = heads
        self._splits = splits

    def prepare(self, done: int) -> int:
        """Do nothing: no shape depends on the step."""
        return 0

    def begin(self) -> None:
        """Do nothing: layers share no work."""

    def attend(self, layer: int, projected: Tensor) -> Tensor:
        """See `StaticAttention`."""
        place = self._place
        mixed: Tensor = self._kernel(
            projected,
            place.cache.both[layer],
            place.table,
            positions=place.positions,
            slot=place.slot,
            attended=self._attended,
            splits=self._splits,
        )
        return mixed

    def end(self) -> None:
        """Advance by one slot."""
        self._place.advance()

    def select(self, index: Tensor) -> CountedAttention:
        """Return one whose row i continues row `index[i]` of this one, with buffers of its own."""
        attended = None if self._attended is None else self._attended[index]
        splits = splits_of(len(index) * self._heads, index.device)
        return CountedAttention(self._place.select(index), attended, self._heads, splits)

    def reorder(self, index: Tensor) -> None:
        """Let row i continue row `index[i]`, in the same buffers."""
        self._place.reorder(index)
        if self._attended is not None:
            self._attended.copy_(self._attended[index])


def splits_of(programs: int, device: torch.device) -> int:
    """Return into how many parts to split the keys of each head, so that all programs fill a GPU.

    Args:
        programs: heads of all rows, one program each if nothing is split.
        device: where they run.
    """
    if device.type != "cuda":
        return 1
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(_PROGRAMS * processors // programs, _MOST_SPLITS))


@lru_cache
def _kernel_passes(
    config: LanguageConfig, device: torch.device, dtype: torch.dtype, is_padded: bool, is_split: bool
) -> bool:
    """Tell whether the kernel may be used for the shapes of a decoder, by a trial once in a process."""
    return kernels.passes("attention", device, lambda: _trial(config, device, dtype, is_padded, is_split))


def _trial(
    config: LanguageConfig, device: torch.device, dtype: torch.dtype, is_padded: bool, is_split: bool
) -> bool:
    """Compare the kernel with plain operators in float64, over lengths on both sides of a block's end."""
    stored, steps, rows = 2 * SLOTS - 1, 3, 3
    config = replace(config, num_hidden_layers=1)
    width = (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim
    generator = torch.Generator().manual_seed(0)
    gaps = torch.tensor([0, 5, SLOTS + 3], device=device)  # a whole block of padding, and more
    columns = torch.arange(stored, device=device)
    attended = columns >= gaps[:, None] if is_padded else None

    def begun(cache: Tensor) -> Sequences:
        held = KVCache(config, rows=rows, capacity=stored + steps, dtype=cache.dtype, device=device)
        held.both = cache.clone()
        held.length = stored
        positions = stored - 1 - (gaps if is_padded else torch.zeros_like(gaps))
        return Sequences(hidden=gaps, cache=held, positions=positions, attended=attended)

    slots = cache_slots(stored + steps)
    shape = (1, 2, rows, config.num_key_value_heads, slots, config.head_dim)
    filled = torch.randn(shape, generator=generator).to(device, dtype)
    filled[..., stored:, :] = float("nan")  # unused slots must not matter
    one, other = begun(filled), begun(filled.double())
    heads, splits = config.num_attention_heads, 3 if is_split else 1
    kernel = CountedAttention(Place.behind(one, config, dtype), widened(one), heads, splits)
    plain = MaskedAttention(Place.behind(other, config, torch.float64), attended, config)
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(steps):
        projected = 2 * torch.randn(rows, width, generator=generator).to(device, dtype)
        plain.begin()
        pairs.append((kernel.attend(0, projected.clone()), plain.attend(0, projected.double())))
        kernel.end()
        plain.end()
    pairs.append((one.cache.both[..., : stored + steps, :], other.cache.both[..., : stored + steps, :]))
    bound = max(_ROUNDINGS * torch.finfo(dtype).eps, 1e-5)
    return all(torch.allclose(found.double(), exact, rtol=bound, atol=bound) for found, exact in pairs)
