"""The only door for randomness: Gumbel noise as a pure function of seed, position and code.

There is no state to seed, save or restore: a counter-based generator turns seed, position and code straight
into bits, so any part of the noise can be computed at any time, in any block, and comes out the same. The
integers are int64 tensors holding unsigned 32-bit words, which every device multiplies and shifts alike.
Nothing here knows of models, logits or images.

Changing any number below changes every picture ever drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WORD_BITS = 32
WORD_MASK = 0xFFFFFFFF
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LEAST_CELLS, _MOST_CELLS, _CELLS_OF_ONE_ROW = 24, 96, 192
LARGEST_BELOW_ONE = 1 - 2.0**-24  # in float32

Words = tuple[Tensor, Tensor, Tensor, Tensor]
Key = tuple[Tensor, Tensor]


def philox4x32(counter: Tensor, key: Tensor) -> Tensor:
    """Scramble counters into random words (Philox4x32-10).

    Args:
        counter: (..., 4) int64, words in 0 … 2^32 - 1.
        key: (..., 2) int64, words likewise; the leading axes broadcast against those of `counter`.

    Returns: (..., 4) int64, words in 0 … 2^32 - 1.
    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (SC11).
    """
    a, b, c, d = counter.unbind(dim=-1)
    low, high = key.unbind(dim=-1)
    return torch.stack(_scramble((a, b, c, d), (low, high)), dim=-1)


def gumbel(words: Tensor) -> Tensor:
    """Turn uniform words into standard Gumbel noise, finite for every word.

    The word k stands for v = (k + 0.5) / 2^32, and the noise is -log(-log1p(-v)): small v give the large
    noise that decides a draw, and there neither v nor log1p loses digits. The last v would round to 1 and are
    held below it.

    Args:
        words: any shape, int64, 0 … 2^32 - 1.

    Returns: the same shape, float32, within -2.9 … 22.9.
    """
    v = words.float().add_(0.5).mul_(2.0**-WORD_BITS).clamp_(max=LARGEST_BELOW_ONE)
    return v.neg_().log1p_().neg_().log_().neg_()


def gumbel_noise(
    seeds: Sequence[int], positions: Sequence[int], num_codes: int, device: torch.device | str
) -> Tensor:
    """Compute the noise that decides which code is drawn at each position under each seed.

    An entry depends on its own seed, position and code alone, not on what else is asked for in the same call.
    The seed is Philox's key; a group of four codes and the position are its counter; each code takes a word.

    Args:
        seeds: one per row, any integers, taken modulo 2^64.
        positions: of the tokens in their sequence or grid, taken modulo 2^32; a range will do.
        num_codes: size of the codebook or vocabulary.
        device: where to compute and leave the noise.

    Returns: (len(seeds), len(positions), num_codes) float32, standard Gumbel.
    """
    return keyed_noise(noise_key(seeds, device), positions, num_codes)


def noise_key(seeds: Sequence[int], device: torch.device | str) -> Key:
    """Put seeds on a device as Philox's key, once for all noise that `keyed_noise` makes from them."""
    return _column(seeds, device), _column([seed >> WORD_BITS for seed in seeds], device)


def keyed_noise(key: Key, positions: Sequence[int], num_codes: int) -> Tensor:
    """Compute what `gumbel_noise` does; a range of positions waits for no copy to the device.

    Args:
        key: from `noise_key`.
        positions: as for `gumbel_noise`.
        num_codes: as for `gumbel_noise`.
    """
    low, high = key
    device = low.device
    groups = torch.arange(-(-num_codes // 4), device=device)
    zero = torch.zeros((), dtype=torch.int64, device=device)
    if isinstance(positions, range) and 0 <= positions.start <= positions.stop <= WORD_MASK:
        column = torch.arange(positions.start, positions.stop, positions.step, device=device)[:, None]
    else:
        column = _column(positions, device)
    counter = (groups, column, zero, zero)
    words = _scramble(counter, (low[:, None], high[:, None]))  # each (seeds, positions, groups)
    return torch.stack([gumbel(word) for word in words], dim=-1).flatten(-2)[..., :num_codes]


def block_cells(rows: int) -> int:
    """Return for how many positions a GPU should make noise together: enough to fill it, no more."""
    return max(_LEAST_CELLS, min(_MOST_CELLS, _CELLS_OF_ONE_ROW // rows))


def _column(numbers: Sequence[int], device: torch.device | str) -> Tensor:
    """Put the low words of some integers on a device, as (len(numbers), 1)."""
    words = [number & WORD_MASK for number in numbers]
    return torch.tensor(words, dtype=torch.int64, device=device)[:, None]


def _scramble(words: Words, key: Key) -> Words:
    """Run all rounds on four words that broadcast against each other: what they share is computed once."""
    low, high = key
    for _ in range(ROUNDS):
        words = _round(words, (low, high))
        low, high = low + KEY_STEPS[0], high + KEY_STEPS[1]  # the mask of the round cuts the carry
    return words


def _round(words: Words, key: Key) -> Words:
    """Do one round; products wrap at 2^64, which keeps their bits, and the mask drops the sign shifted in."""
    a, b, c, d = words
    first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
    return (
        ((second >> WORD_BITS) ^ b ^ key[0]) & WORD_MASK,
        second & WORD_MASK,
        ((first >> WORD_BITS) ^ d ^ key[1]) & WORD_MASK,
        first & WORD_MASK,
    )
