from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from janus_core.generation import noise
from janus_core.generation.noise import (
    NoiseBlocks,
    block_cells,
    block_words,
    gumbel,
    gumbel_noise,
    keyed_noise,
    noise_device,
    noise_key,
    philox4x32,
)

CPU = torch.device("cpu")

LARGEST_WORD = 0xFFFFFFFF

# philox4x32, 10 rounds: counter, key, result (the known-answer file published with Random123).
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> torch.Tensor:
    return torch.tensor([int(word, 16) for word in text.split()])


# philox4x32


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: str, key: str, answer: str) -> None:
    assert philox4x32(words(counter), words(key)).tolist() == words(answer).tolist()


def test_philox_gives_the_published_answers_in_one_batch() -> None:
    counters, keys, answers = zip(*KNOWN_ANSWERS, strict=True)

    result = philox4x32(torch.stack([*map(words, counters)]), torch.stack([*map(words, keys)]))

    assert torch.equal(result, torch.stack([*map(words, answers)]))


def test_one_key_serves_many_counters() -> None:
    counters = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    key = torch.tensor([7, 8])

    singles = torch.stack([philox4x32(counter, key) for counter in counters])

    assert torch.equal(philox4x32(counters, key), singles)


# gumbel


@pytest.mark.parametrize("word", [0, 1, 2, 1000, 2**16, 2**24 + 1, 2**31, 2**32 - 2**20])
def test_noise_of_a_word_agrees_with_double_precision(word: int) -> None:
    exact = -math.log(-math.log1p(-(word + 0.5) / 2**32))

    assert gumbel(torch.tensor([word])).item() == pytest.approx(exact, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("first", [0, 2**24 - 500, 2**31 - 500, 2**32 - 1000])
def test_noise_is_finite_and_never_rises_with_the_word(first: int) -> None:
    noise = gumbel(torch.arange(first, first + 1000))

    assert noise.isfinite().all()
    assert (noise.diff() <= 0).all()


def test_the_extreme_words_bound_the_noise() -> None:
    highest, lowest = gumbel(torch.tensor([0, LARGEST_WORD])).tolist()

    assert highest == pytest.approx(22.8739, abs=1e-4)
    assert lowest == pytest.approx(-2.8115, abs=1e-4)


def test_noise_leaves_the_words_unchanged() -> None:
    before = torch.arange(8)

    gumbel(before)

    assert torch.equal(before, torch.arange(8))


# gumbel_noise


def test_the_stream_of_seed_seven_is_frozen() -> None:
    expected = [
        [-1.128876209, -0.327073574, 2.109995365, 2.412953138, 0.649141610, -0.461298227],
        [1.600774050, 1.868361831, -1.192307949, 0.361128479, 1.306131721, 1.961691618],
        [0.940103054, 2.996594191, -0.849189758, -0.270976216, -0.181139141, 2.804256678],
    ]

    noise = gumbel_noise([7], range(3), 6, "cpu")

    assert noise.dtype == torch.float32
    torch.testing.assert_close(noise, torch.tensor([expected]), rtol=1e-6, atol=1e-6)


def test_each_code_takes_its_word_of_its_group() -> None:
    seed, position, code = (5 << 32) + 9, 3, 42
    answer = philox4x32(torch.tensor([code // 4, position, 0, 0]), torch.tensor([9, 5]))

    noise = gumbel_noise([seed], [position], 50, "cpu")

    assert noise[0, 0, code] == gumbel(answer)[code % 4]


@pytest.mark.parametrize("start", [0, 1, 5, 23])
@pytest.mark.parametrize("length", [1, 7])
def test_positions_get_the_same_noise_in_any_block(start: int, length: int) -> None:
    everything = gumbel_noise([11, 12], range(30), 101, "cpu")

    block = gumbel_noise([11, 12], range(start, start + length), 101, "cpu")

    assert torch.equal(block, everything[:, start : start + length])


def test_positions_may_come_in_any_order() -> None:
    everything = gumbel_noise([11], range(10), 64, "cpu")

    assert torch.equal(gumbel_noise([11], [9, 0, 4], 64, "cpu"), everything[:, [9, 0, 4]])


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_seed_gets_the_same_noise_alone_and_among_others(row: int) -> None:
    seeds = [100, 2**63, 101]

    together = gumbel_noise(seeds, range(4), 65, "cpu")

    assert torch.equal(gumbel_noise([seeds[row]], range(4), 65, "cpu")[0], together[row])


@pytest.mark.parametrize("num_codes", [1, 3, 4, 5, 63])
def test_a_smaller_codebook_gets_the_first_codes(num_codes: int) -> None:
    everything = gumbel_noise([1], range(2), 64, "cpu")

    assert torch.equal(gumbel_noise([1], range(2), num_codes, "cpu"), everything[..., :num_codes])


@pytest.mark.parametrize(("seed", "same"), [(2**64 + 3, 3), (-1, 2**64 - 1), (-(2**64) + 3, 3)])
def test_seeds_are_taken_modulo_two_to_the_64(seed: int, same: int) -> None:
    assert torch.equal(gumbel_noise([seed], [0], 8, "cpu"), gumbel_noise([same], [0], 8, "cpu"))


@pytest.mark.parametrize("other", [4, -3, 3 + 2**32, 3 + 2**63])
def test_different_seeds_get_different_noise(other: int) -> None:
    assert not torch.isclose(gumbel_noise([3], [0], 8, "cpu"), gumbel_noise([other], [0], 8, "cpu")).any()


def test_positions_are_taken_modulo_two_to_the_32() -> None:
    assert torch.equal(gumbel_noise([3], [2**32 + 5], 8, "cpu"), gumbel_noise([3], [5], 8, "cpu"))


@pytest.mark.parametrize(("seeds", "positions"), [([], [1, 2, 3]), ([1, 2], [])])
def test_nothing_asked_gives_an_empty_block(seeds: list[int], positions: list[int]) -> None:
    assert gumbel_noise(seeds, positions, 6, "cpu").shape == (len(seeds), len(positions), 6)


@pytest.mark.parametrize(
    ("seeds", "positions", "num_codes"),
    [(range(1), range(1), 200_000), (range(1), range(50_000), 4), (range(50_000), range(1), 4)],
    ids=["along codes", "along positions", "along seeds"],
)
def test_noise_has_the_moments_of_a_gumbel(seeds: range, positions: range, num_codes: int) -> None:
    noise = gumbel_noise(seeds, positions, num_codes, "cpu").double()

    # five standard errors of 200,000 draws
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.0144)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.039)


def test_neighbouring_positions_seeds_and_codes_are_uncorrelated() -> None:
    noise = gumbel_noise(range(40), range(50), 60, "cpu") - 0.5772
    products = [noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1], noise[..., 1:] * noise[..., :-1]]

    # five standard errors of some 118,000 products, each of variance (pi^2 / 6)^2
    assert max(abs(product.mean().item()) for product in products) < 0.024


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()

    gumbel_noise([7], range(2), 64, "cpu")

    assert torch.equal(torch.get_rng_state(), before)


def test_noise_ignores_the_global_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = gumbel_noise([7], [0], 64, "cpu")
        torch.manual_seed(2)
        second = gumbel_noise([7], [0], 64, "cpu")

    assert torch.equal(first, second)


# on a device


@pytest.mark.parametrize("positions", [range(5), range(40, 64), [9, 3], range(2**32 - 2, 2**32 + 2)])
def test_a_key_put_on_the_device_once_gives_the_same_noise(positions: range | list[int]) -> None:
    seeds = [0, 7, 2**64 - 1]
    expected = gumbel_noise(seeds, list(positions), 10, "cpu")
    assert torch.equal(keyed_noise(noise_key(seeds, "cpu"), positions, 10), expected)


@pytest.mark.parametrize(("rows", "cells"), [(1, 96), (2, 96), (4, 48), (16, 24), (64, 24)])
def test_more_rows_make_noise_for_fewer_cells_together(rows: int, cells: int) -> None:
    assert block_cells(rows) == cells


@pytest.mark.parametrize(("rows", "positions"), [(1, 16), (4, 16), (8, 8), (64, 1), (200, 1)])
def test_more_answers_make_noise_for_fewer_positions_together(rows: int, positions: int) -> None:
    assert block_words(rows) == positions


# in blocks


def told(blocks: NoiseBlocks, positions: range) -> list[torch.Tensor]:
    """Return the noise of positions in order, asked for as a loop does."""
    found = []
    for position in positions:
        blocks.prepare(position)
        found.append(blocks.next().clone())
    return found


@pytest.mark.parametrize("length", [1, 3, 24])
def test_blocks_give_the_noise_of_every_position(length: int) -> None:
    found = told(NoiseBlocks([7, 8], 50, CPU, length=length), range(10))
    assert torch.equal(torch.stack(found, dim=1), gumbel_noise([7, 8], range(10), 50, "cpu"))


def test_a_block_stays_where_it_is() -> None:
    blocks = NoiseBlocks([7], 50, CPU, length=3)
    before = blocks._block.data_ptr(), blocks._place.data_ptr()
    told(blocks, range(10))
    assert (blocks._block.data_ptr(), blocks._place.data_ptr()) == before


@pytest.mark.parametrize("done", [0, 2, 3, 4])
def test_selected_rows_go_on_with_their_noise(done: int) -> None:
    blocks = NoiseBlocks([7, 8, 9], 50, CPU, length=3)
    told(blocks, range(done))
    blocks.select([2, 0])
    found = told(blocks, range(done, 10))
    expected = gumbel_noise([9, 7], range(done, 10), 50, "cpu")
    assert torch.equal(torch.stack(found, dim=1), expected)


def test_blocks_may_begin_later() -> None:
    found = told(NoiseBlocks([7], 50, CPU, length=4, first=9), range(9, 20))
    assert torch.equal(torch.stack(found, dim=1), gumbel_noise([7], range(9, 20), 50, "cpu"))


# where it is computed


@pytest.fixture
def anew() -> Iterator[None]:
    noise_device.cache_clear()
    yield
    noise_device.cache_clear()


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1"])
def test_cpus_and_cuda_need_no_trial(name: str, anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_trial", None)
    assert noise_device(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize("wrong", [False, True])
def test_another_device_is_tried_against_the_cpu(
    wrong: bool, anew: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mps, trial = torch.device("mps"), noise._trial

    def tried(device: torch.device) -> torch.Tensor:
        words = trial(CPU)
        if wrong and device == mps:
            words[5, 2] += 1
        return words

    monkeypatch.setattr(noise, "_trial", tried)
    assert noise_device(mps) == (CPU if wrong else mps)
    assert noise_device(mps) == (CPU if wrong else mps)
    assert len(caplog.records) == wrong


def test_a_device_that_lacks_an_operation_gets_its_noise_from_the_cpu(
    anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(device: torch.device) -> torch.Tensor:
        raise NotImplementedError("no 64-bit products here")  # a RuntimeError, as torch's are

    monkeypatch.setattr(noise, "_trial", lacking)
    assert noise_device(torch.device("xpu")) == CPU


def test_the_trial_would_notice_products_cut_to_53_bits() -> None:
    """What a device computes that takes doubles for 64-bit integers."""
    counter = torch.arange(256).reshape(64, 4) * 0x01FEDCBB & LARGEST_WORD
    exact = counter * noise.MULTIPLIERS[0]
    rounded = (counter.double() * noise.MULTIPLIERS[0]).long()
    assert not torch.equal(exact & LARGEST_WORD, rounded & LARGEST_WORD)


def test_noise_from_the_cpu_is_handed_to_the_device(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "noise_device", lambda device: CPU)
    blocks = NoiseBlocks([7], 50, torch.device("meta"), length=3)
    assert blocks.next().device.type == "meta"
