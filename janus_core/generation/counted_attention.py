"""Attention of one new token a row by one kernel, where that is right, for steps that may be captured.

The kernel reads on the device how many slots are filled, so it needs no mask, looks at nothing in vain, and
is the same launch in every step. What it computes is what `static_attention` says.
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

_PROGRAMS = 2  # of the kernel for each multiprocessor: one reads while another adds up
_MOST_SPLITS = 16
_ROUNDINGS = 4  # of its dtype, by which a right kernel may differ from exact arithmetic


def attention_for(sequences: Sequences, config: LanguageConfig, dtype: torch.dtype) -> StaticAttention:
    """Take sequences over: by the kernel where it may be used, else by plain operators.

    Args:
        sequences: filled by a prefill; the cache is this attention's own from now on.
        config: of the decoder.
        dtype: of what is projected; the cache may be in a wider one.
    """
    place = Place.behind(sequences, config, dtype)
    device, is_padded = place.slot.device, sequences.attended is not None
    splits = splits_of(len(place.positions) * config.num_attention_heads, device)
    if _kernel_passes(config, device, dtype, is_padded, splits > 1):
        return CountedAttention(place, widened(sequences), config.num_attention_heads, splits)
    return MaskedAttention(place, sequences.attended, config)


class CountedAttention:
    """By a kernel that turns, stores and mixes at once and reads on the device how many slots are filled.

    It looks at no slot behind those, so one graph serves all steps.
    """

    def __init__(self, place: Place, attended: Tensor | None, heads: int, splits: int) -> None:
        """Begin behind `place`.

        Args:
            place: of the new tokens.
            attended: (b, slots) bool, False at padding, or None.
            heads: of queries.
            splits: see `splits_of`.
        """
        from .triton_kernels import mix

        self._kernel = mix
        self._place, self._attended = place, attended
        self._heads, self._splits = heads, splits

    def prepare(self, done: int) -> int:
        """Nothing depends on the step."""
        return 0

    def begin(self) -> None:
        """Nothing is done once for a step."""

    def mix(self, layer: int, projected: Tensor) -> Tensor:
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
        """Go on to the next slot."""
        self._place.advance()

    def select(self, index: Tensor) -> CountedAttention:
        """Return one whose row i is what is row `index[i]` here, in memory of its own."""
        attended = None if self._attended is None else self._attended[index]
        splits = splits_of(len(index) * self._heads, index.device)
        return CountedAttention(self._place.select(index), attended, self._heads, splits)


def splits_of(programs: int, device: torch.device) -> int:
    """Return among how many programs each of so many heads shares its keys, so that they fill a GPU."""
    if device.type != "cuda":
        return 1
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(_PROGRAMS * processors // programs, _MOST_SPLITS))


@lru_cache
def _kernel_passes(
    config: LanguageConfig, device: torch.device, dtype: torch.dtype, is_padded: bool, is_split: bool
) -> bool:
    """Tell whether the kernel may be used for a decoder's shapes on a device, by a trial once a process."""
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
    filled[..., stored:, :] = float("nan")  # nothing there may count
    one, other = begun(filled), begun(filled.double())
    heads, splits = config.num_attention_heads, 3 if is_split else 1
    kernel = CountedAttention(Place.behind(one, config, dtype), widened(one), heads, splits)
    plain = MaskedAttention(Place.behind(other, config, torch.float64), attended, config)
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(steps):
        projected = 2 * torch.randn(rows, width, generator=generator).to(device, dtype)
        plain.begin()
        pairs.append((kernel.mix(0, projected.clone()), plain.mix(0, projected.double())))
        kernel.end()
        plain.end()
    pairs.append((one.cache.both[..., : stored + steps, :], other.cache.both[..., : stored + steps, :]))
    bound = max(_ROUNDINGS * torch.finfo(dtype).eps, 1e-5)
    return all(torch.allclose(found.double(), exact, rtol=bound, atol=bound) for found, exact in pairs)
