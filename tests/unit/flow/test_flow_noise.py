from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from janus_core.flow.flow_noise import normal_noise
from janus_core.generation.noise import philox4x32

SHAPE = (4, 48, 48)


def test_the_shape_is_pictures_first() -> None:
    noise = normal_noise([1, 2, 3], SHAPE)
    assert noise.shape == (3, *SHAPE)
    assert noise.dtype == torch.float32


def test_a_picture_of_a_batch_begins_as_it_would_alone() -> None:
    assert torch.equal(normal_noise([5, 6, 7], SHAPE)[2:], normal_noise([7], SHAPE))


def test_a_smaller_picture_begins_with_the_first_numbers_of_a_larger_one() -> None:
    small, large = normal_noise([3], (1, 3, 3)), normal_noise([3], (4, 5, 5))
    assert torch.equal(small.flatten(), large.flatten()[:9])


@pytest.mark.parametrize("seed", [-1, 2**64 - 1])
def test_seeds_count_modulo_2_to_the_64(seed: int) -> None:
    assert torch.equal(normal_noise([seed], SHAPE), normal_noise([seed % 2**64], SHAPE))


def test_seeds_that_differ_in_the_high_word_alone_differ() -> None:
    assert not torch.equal(normal_noise([1], SHAPE), normal_noise([1 + 2**32], SHAPE))


def test_numbers_are_those_of_box_and_muller_on_philoxs_words() -> None:
    counter, key = torch.tensor([1, 0, 0, 1]), torch.tensor([9, 2])
    v = [(word + 0.5) / 2**32 for word in philox4x32(counter, key).tolist()]
    expected = [
        math.sqrt(-2 * math.log(v[i])) * turn(2 * math.pi * v[i + 1])
        for i in (0, 2)
        for turn in (math.cos, math.sin)
    ]
    found = normal_noise([9 + 2 * 2**32], (8,))[0, 4:]  # the second group of four
    assert_close(found, torch.tensor(expected))


def test_numbers_are_standard_normal_and_uncorrelated() -> None:
    noise = normal_noise(range(40), SHAPE).double().flatten(1)  # 368,640 numbers
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.var()) - 1) < 0.01
    assert abs(float((noise**4).mean()) - 3) < 0.1
    assert abs(float((noise[:, 1:] * noise[:, :-1]).mean())) < 0.01
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 0.01


def test_the_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    normal_noise([0], SHAPE)
    assert torch.equal(torch.get_rng_state(), before)
