"""The noise that a flow drawing begins with, as a pure function of the seed.

Made on the CPU in double precision from the same counter-based generator as all other noise, so that every
device begins alike and a picture of a batch begins as it would alone.
Changing any number below changes every picture ever drawn from a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..generation.noise import WORD_BITS, WORD_MASK, philox4x32

_PURPOSE = 1  # the counter's last word; Gumbel noise has 0 there


def normal_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise, one picture per seed.

    Pairs of random words become pairs of normal numbers (Box and Muller 1958). A number depends on its seed
    and its place in the picture alone.

    Args:
        seeds: any integers, taken modulo 2^64.
        shape: of one picture.

    Returns: (len(seeds), *shape) float32 on the CPU.
    """
    numbers = math.prod(shape)
    groups = torch.arange(-(-numbers // 4))
    zero = torch.zeros_like(groups)
    counter = torch.stack((groups, zero, zero, zero + _PURPOSE), dim=-1)  # (groups, 4)
    keys = [(seed & WORD_MASK, seed >> WORD_BITS & WORD_MASK) for seed in seeds]
    words = philox4x32(counter, torch.tensor(keys, dtype=torch.int64)[:, None])  # (seeds, groups, 4)
    uniform = (words.double() + 0.5) * 2.0**-WORD_BITS
    first, second = uniform[..., 0::2], uniform[..., 1::2]
    radius, angle = (-2 * first.log()).sqrt(), 2 * math.pi * second
    normal = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
    return normal.flatten(1)[:, :numbers].float().reshape(len(seeds), *shape)
