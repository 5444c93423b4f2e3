"""The only source of randomness: Gumbel noise as a pure function of seed, position and code.

A counter-based generator (Philox4x32-10) maps seed, position and code to bits. It has no state, so any block
of the noise can be computed at any time and always has the same values. The 32-bit words are kept in int64
tensors, whose products and shifts are the same on every device. Nothing here knows of models, logits or
images.

Changing any number below changes every picture ever drawn from a seed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeGuard

import torch
from torch import Tensor

from . import kernels

log = logging.getLogger("janus.noise")

WORD_BITS = 32
WORD_MASK = 0xFFFFFFFF
ROUNDS = 10  # Philox's own choice: seven pass all statistical tests, ten leave a margin
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # Philox's constants for words of 32 bits
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # added to the key after each round (Weyl sequences)
_LEAST_CELLS, _MOST_CELLS, _CELLS_OF_ONE_ROW = 24, 96, 192  # positions of a block, see `block_cells`
_MOST_WORDS, _WORDS_OF_ONE_ROW = 16, 64  # likewise, see `block_words`
_MOST_POSITIONS = 65535  # of one launch of the kernel
_BRANCHES, _NUMBERS = 1, 2  # third words of counters; that of noise is 0
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
    a, b, c, d = counter.unbind(dim=-1)  # (...) each
    low, high = key.unbind(dim=-1)
    return torch.stack(_scramble((a, b, c, d), (low, high)), dim=-1)


def gumbel(words: Tensor) -> Tensor:
    """Turn uniform words into standard Gumbel noise, finite for every word.

    The word k stands for v = (k + 0.5) / 2^32, and the noise is -log(-log1p(-v)). Small v give the large
    noise that decides which token is picked, and there neither v nor log1p loses digits. The largest v would
    round to 1, whose noise is infinite, and are clamped below it.

    Args:
        words: any shape, int64, 0 … 2^32 - 1.

    Returns: the same shape, float32, within -2.9 … 22.9.
    """
    return _gumbel_of(_uniform(words))


def _uniform(words: Tensor) -> Tensor:
    """Return v of each word, above 0 and below 1, float32."""
    return words.float().add_(0.5).mul_(2.0**-WORD_BITS).clamp_(max=LARGEST_BELOW_ONE)


def _gumbel_of(v: Tensor) -> Tensor:
    """Turn v into noise in place, by torch's logarithms whoever computed v: others differ in the last bit."""
    # in place throughout: a block of noise is many times as large as a step's logits
    return v.neg_().log1p_().neg_().log_().neg_()


def gumbel_noise(
    seeds: Sequence[int], positions: Sequence[int], num_codes: int, device: torch.device | str
) -> Tensor:
    """Compute the noise that decides which code is picked at each position under each seed.

    An entry depends on its own seed, position and code alone, not on the rest of the call. The seed is
    Philox's key; a group of four codes and the position are its counter, whose four output words are the
    noise of the four codes.

    Args:
        seeds: one per row, any integers, taken modulo 2^64.
        positions: of the tokens in their sequence or grid, taken modulo 2^32; a range will do.
        num_codes: size of the codebook or vocabulary.
        device: where to compute and leave the noise.

    Returns: (len(seeds), len(positions), num_codes) float32, standard Gumbel.
    """
    return keyed_noise(noise_key(seeds, device), positions, num_codes)


def branch_seeds(seed: int, count: int) -> list[int]:
    """Return seeds for several tries at one picture: its own first, the others drawn from it.

    They are random words of the same generator, at counters that no noise uses, so that a try shares no noise
    with a picture of another seed.
    """
    if count == 1:
        return [seed]
    number, zero = torch.arange(1, count), torch.zeros(count - 1, dtype=torch.int64)
    words = philox4x32(torch.stack((number, zero, zero + _BRANCHES, zero), dim=-1), _key_of(seed)).tolist()
    return [seed, *(low | high << WORD_BITS for low, high, _, _ in words)]


def uniform_number(seed: int, position: int) -> float:
    """Return one random number above 0 and below 1, which no noise of this seed depends on."""
    counter = torch.tensor([[0, position & WORD_MASK, _NUMBERS, 0]])
    return float(_uniform(philox4x32(counter, _key_of(seed))[0, 0]))


def _key_of(seed: int) -> Tensor:
    """Return a seed as Philox's key, (2,)."""
    return torch.tensor([seed & WORD_MASK, seed >> WORD_BITS & WORD_MASK])


def noise_key(seeds: Sequence[int], device: torch.device | str) -> Key:
    """Put seeds on a device as Philox's key (two words, each (b, 1)), for `keyed_noise`."""
    return _column(seeds, device), _column([seed >> WORD_BITS for seed in seeds], device)


def keyed_noise(key: Key, positions: Sequence[int], num_codes: int) -> Tensor:
    """Compute what `gumbel_noise` does from a key; a range of positions needs no copy from the host.

    Args:
        key: from `noise_key`.
        positions: as for `gumbel_noise`.
        num_codes: as for `gumbel_noise`.
    """
    device = key[0].device
    is_block = _is_countable(positions) and positions.step == 1 and 0 < len(positions) <= _MOST_POSITIONS
    if is_block and len(key[0]) and _kernel_passes(device):
        from .triton_kernels import uniforms

        return _gumbel_of(uniforms(key, positions[0], len(positions), num_codes))
    words = _words(key, positions, num_codes)  # each (seeds, positions, groups)
    # word k of group g belongs to code 4 g + k; words of codes beyond the last are dropped
    return torch.stack([gumbel(word) for word in words], dim=-1).flatten(-2)[..., :num_codes]


def _words(key: Key, positions: Sequence[int], num_codes: int) -> Words:
    """Return the four words of every group of codes, each (seeds, positions, groups)."""
    low, high = key
    device = low.device
    groups = torch.arange(-(-num_codes // 4), device=device)  # (v / 4,): a counter gives four words
    zero = torch.zeros((), dtype=torch.int64, device=device)  # the upper half of the counter is not used
    if _is_countable(positions):
        column = torch.arange(positions.start, positions.stop, positions.step, device=device)[:, None]
    else:
        column = _column(positions, device)
    return _scramble((groups, column, zero, zero), (low[:, None], high[:, None]))


def _is_countable(positions: Sequence[int]) -> TypeGuard[range]:
    """Tell whether a device can count positions by itself: a range of words."""
    return isinstance(positions, range) and 0 <= positions.start <= positions.stop <= WORD_MASK


@lru_cache
def _kernel_passes(device: torch.device) -> bool:
    """Tell whether the kernel may be used on a device, by a trial once in a process."""
    return kernels.passes("noise", device, lambda: _kernel_trial(device))


def _kernel_trial(device: torch.device) -> bool:
    """Compare what the kernel and plain operators make of random words, bit for bit."""
    from .triton_kernels import uniforms

    key, positions, num_codes = noise_key([7, 2**63 + 5, 2**64 - 1], device), range(2**20, 2**20 + 3), 2050
    plain = torch.stack([_uniform(word) for word in _words(key, positions, num_codes)], dim=-1)
    found = uniforms(key, positions[0], len(positions), num_codes)
    return torch.equal(found, plain.flatten(-2)[..., :num_codes])


class NoiseBlocks:
    """Noise of some rows for one position after the other, computed in blocks into a fixed buffer.

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
        self._key = noise_key(seeds, noise_device(device))
        self._end = first + length
        self._block = self._compute(first)  # (b, length, v), refilled in place: a graph holds its address
        self._place = torch.zeros(1, dtype=torch.int64, device=device)  # column of the block to hand out next

    def _compute(self, first: int) -> Tensor:
        return keyed_noise(self._key, range(first, first + self.length), self._num_codes).to(self._device)

    def prepare(self, position: int) -> None:
        """Compute the next block if this position is its first; to be called for every position, in order."""
        if position == self._end:
            self._block.copy_(self._compute(position))
            self._place.zero_()
            self._end += self.length

    def next(self) -> Tensor:
        """Return the noise (b, v) of the current position and advance by one.

        The counter lives on the device, so that a captured step can be replayed unchanged.
        """
        noise = self._block.index_select(1, self._place)[:, 0]  # (b, v)
        self._place.add_(1)
        return noise

    def select(self, rows: Sequence[int]) -> None:
        """Make row i what was row `rows[i]`, in new buffers."""
        index = torch.tensor(rows, device=self._device)
        low, high = self._key  # (b, 1) each, where the noise is computed
        self._key = (low[list(rows)], high[list(rows)])
        self._block = self._block[index]
        self._place = self._place.clone()


def block_cells(rows: int) -> int:
    """Return for how many positions a GPU should compute noise at once: enough to fill it, no more memory."""
    return max(_LEAST_CELLS, min(_MOST_CELLS, _CELLS_OF_ONE_ROW // rows))


def block_words(rows: int) -> int:
    """Return for how many positions of answers to compute noise at once; vocabularies are large."""
    return max(1, min(_MOST_WORDS, _WORDS_OF_ONE_ROW // rows))


@lru_cache
def noise_device(device: torch.device) -> torch.device:
    """Return where to compute the noise for a device: there, or on the CPU if its integers differ.

    CUDA and CPUs multiply 64-bit integers modulo 2^64. Other devices are tried once in a process.
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
    # (64, 4); the factor is odd, so the words are distinct and their upper bits are used
    counter = torch.arange(256, dtype=torch.int64, device=device).reshape(64, 4) * 0x01FEDCBB & WORD_MASK
    key = torch.tensor([0xFFFFFFFF, 0x9ABCDEF0], dtype=torch.int64, device=device)
    return philox4x32(counter, key)


def _column(numbers: Sequence[int], device: torch.device | str) -> Tensor:
    """Put the low words of some integers on a device, as (len(numbers), 1)."""
    # masked in Python, whose integers have no limit: torch refuses numbers beyond 64 bits
    words = [number & WORD_MASK for number in numbers]
    return torch.tensor(words, dtype=torch.int64, device=device)[:, None]


def _scramble(words: Words, key: Key) -> Words:
    """Apply all rounds to four words that broadcast against each other, so that shared work is done once."""
    low, high = key
    for _ in range(ROUNDS):
        words = _round(words, (low, high))
        low, high = low + KEY_STEPS[0], high + KEY_STEPS[1]  # the mask of the round cuts the carry
    return words


def _round(words: Words, key: Key) -> Words:
    """Apply one round: two 32 × 32-bit products, their halves mixed with the other words and the key."""
    a, b, c, d = words
    # int64 products wrap at 2^64, which keeps all 64 bits of them
    first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
    # `>>` is arithmetic and shifts the sign in, which the mask cuts off
    return (
        ((second >> WORD_BITS) ^ b ^ key[0]) & WORD_MASK,
        second & WORD_MASK,
        ((first >> WORD_BITS) ^ d ^ key[1]) & WORD_MASK,
        first & WORD_MASK,
    )
