"""The only door for randomness: Gumbel noise as a pure function of seed, position and code.

There is no state to seed, save or restore: a counter-based generator turns seed, position and code straight
into bits, so any part of the noise can be computed at any time, in any block, and comes out the same. The
integers are int64 tensors holding unsigned 32-bit words, which every device multiplies and shifts alike.
Nothing here knows of models, logits or images.

Changing any number below changes every picture ever drawn from a seed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

log = logging.getLogger("janus.noise")

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


class NoiseBlocks:
    """Noise of some rows for one position after the other, computed a block ahead and kept at one address.

    Attributes:
        length: positions of a block.
    """

    def __init__(
        self, seeds: Sequence[int], num_codes: int, device: torch.device, *, length: int, first: int = 0
    ) -> None:
        """Compute the first block.

        Args:
            seeds: one per row, see `gumbel_noise`.
            num_codes: size of the codebook or vocabulary.
            device: where the noise is needed.
            length: positions of a block.
            first: the position that `next` begins with.
        """
        self.length = length
        self._device = device
        self._num_codes = num_codes
        self._seeds = list(seeds)
        self._key = noise_key(seeds, noise_device(device))
        self._end = first + length
        self._block = self._compute(first)  # (b, length, v)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)  # in the block

    def _compute(self, first: int) -> Tensor:
        return keyed_noise(self._key, range(first, first + self.length), self._num_codes).to(self._device)

    def prepare(self, position: int) -> None:
        """Compute the next block where the position begins one; positions are asked for in order."""
        if position == self._end:
            self._block.copy_(self._compute(position))
            self._place.zero_()
            self._end += self.length

    def next(self) -> Tensor:
        """Return the noise (b, v) of the current position, and go on to the one behind it.

        The position is read on the device, so that a captured step does the same work every time.
        """
        noise = self._block.index_select(1, self._place)[:, 0]
        self._place.add_(1)
        return noise

    def select(self, rows: Sequence[int]) -> None:
        """Make row i what was row `rows[i]`, in memory of its own."""
        index = torch.tensor(rows, device=self._device)
        self._seeds = [self._seeds[row] for row in rows]
        self._key = noise_key(self._seeds, noise_device(self._device))
        self._block = self._block[index]
        self._place = self._place.clone()


def block_cells(rows: int) -> int:
    """Return for how many positions a GPU should make noise together: enough to fill it, no more."""
    return max(_LEAST_CELLS, min(_MOST_CELLS, _CELLS_OF_ONE_ROW // rows))


@lru_cache
def noise_device(device: torch.device) -> torch.device:
    """Return where to compute the noise for a device: there, or on the CPU where its integers differ.

    CUDA and CPUs multiply 64-bit integers modulo 2^64; of other devices that is shown by a trial, once a
    process.
    """
    if device.type in ("cpu", "cuda") and torch.version.hip is None:
        return device
    cpu = torch.device("cpu")
    try:
        is_right = torch.equal(_trial(device).cpu(), _trial(cpu))
    except RuntimeError:  # an operation that the device lacks
        is_right = False
    if is_right:
        return device
    log.warning("Janus: 64-bit integers differ on %s, so the noise is computed on the CPU, slower.", device)
    return cpu


def _trial(device: torch.device) -> Tensor:
    """Return random words (64, 4) of counters and keys whose products fill all 64 bits."""
    counter = torch.arange(256, dtype=torch.int64, device=device).reshape(64, 4) * 0x01FEDCBB & WORD_MASK
    key = torch.tensor([0xFFFFFFFF, 0x9ABCDEF0], dtype=torch.int64, device=device)
    return philox4x32(counter, key)


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
