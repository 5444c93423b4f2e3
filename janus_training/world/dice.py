"""Repeatable chance: a stream of random numbers that depends on a name and a seed only.

Knows nothing of scenes or words. Every public function of this package that varies takes a seed and rolls its
own dice, so that no call depends on another and numpy's global state is neither read nor changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from janus_core.errors import ConfigError

Dice = np.random.Generator
T = TypeVar("T")


def new_dice(stream: str, seed: int) -> Dice:
    """Start the stream called `stream` at `seed`; different streams of one seed are independent.

    Raises: ConfigError if the seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"The seed for {stream} is {seed}; give a whole number from 0 upwards.")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((zlib.crc32(stream.encode()), seed))))


def pick(dice: Dice, options: Sequence[T]) -> T:
    """Choose one of `options`, all equally likely (several times faster than `Generator.choice`)."""
    return options[int(dice.random() * len(options))]


def pick_weighted(dice: Dice, options: Sequence[T], weights: Sequence[float]) -> T:
    """Choose one of `options` in proportion to its weight."""
    left = dice.random() * sum(weights)
    for option, weight in zip(options, weights, strict=True):
        left -= weight
        if left < 0:
            return option
    return options[-1]


def chance(dice: Dice, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(dice.random() < probability)


def between(dice: Dice, low: float, high: float) -> float:
    """Draw a number evenly from `low` to `high`."""
    return low + (high - low) * float(dice.random())


def shuffled(dice: Dice, options: Sequence[T]) -> list[T]:
    """Return the options in a random order."""
    order = sorted(range(len(options)), key=dice.random(len(options)).__getitem__)
    return [options[index] for index in order]
