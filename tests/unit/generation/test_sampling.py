from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from janus_core.errors import SamplingError
from janus_core.generation.noise import gumbel_noise
from janus_core.generation.sampling import (
    guide,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_tokens,
    penalise_repetition,
    pick,
    scale_temperature,
)

DRAWS = 20_000
CHI_SQUARE_LIMIT = {2: 13.82, 3: 16.27}  # by degrees of freedom, exceeded once in a thousand


def log_of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities]).log()


def kept(logits: Tensor) -> list[int]:
    survivors: list[int] = (logits[0] > -math.inf).nonzero().flatten().tolist()
    return survivors


def wide_logits(rows: int = 3, size: int = 1000) -> Tensor:
    return gumbel_noise(range(rows), [0], size, "cpu")[:, 0] * 2


def wide_noise(rows: int = 3, size: int = 1000) -> Tensor:
    return gumbel_noise(range(rows), [1], size, "cpu")[:, 0]


VERBS: dict[str, Callable[[Tensor], Tensor]] = {
    "guide": lambda logits: guide(logits, logits.roll(1), 5.0),
    "guide at 1": lambda logits: guide(logits, logits.roll(1), 1.0),
    "penalise_repetition": lambda logits: penalise_repetition(logits, logits > 1, 1.3),
    "scale_temperature": lambda logits: scale_temperature(logits, 0.7),
    "keep_top_k": lambda logits: keep_top_k(logits, 2),
    "keep_top_k off": lambda logits: keep_top_k(logits, 0),
    "keep_top_p": lambda logits: keep_top_p(logits, 0.5),
    "keep_top_p off": lambda logits: keep_top_p(logits, 1.0),
    "keep_min_p": lambda logits: keep_min_p(logits, 0.5),
    "keep_min_p off": lambda logits: keep_min_p(logits, 0.0),
    "pick": lambda logits: pick(logits, wide_noise()),
    "next_tokens": lambda logits: next_tokens(logits, temperature=0.7, top_p=0.9, noise=wide_noise()),
    "next_tokens greedy": lambda logits: next_tokens(logits, temperature=0.0, noise=None),
}
FILTERS = ["keep_top_k", "keep_top_p", "keep_min_p"]
verbs = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
filters = pytest.mark.parametrize("keep", [VERBS[name] for name in FILTERS], ids=FILTERS)


# guide


@pytest.mark.parametrize(("weight", "expected"), [(2.0, [3.0, -2.0]), (5.0, [9.0, -8.0]), (0.5, [0.0, 1.0])])
def test_guidance_moves_away_from_the_unconditional_logits(weight: float, expected: list[float]) -> None:
    assert guide(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 2.0]]), weight).tolist() == [expected]


def test_guidance_of_one_equals_the_conditional_logits() -> None:
    assert torch.equal(guide(wide_logits(), wide_noise(), 1.0), wide_logits())


def test_guidance_of_zero_equals_the_unconditional_logits() -> None:
    assert torch.equal(guide(wide_logits(), wide_noise(), 0.0), wide_noise())


@pytest.mark.parametrize("cfg_weight", [1.0, 5.0])
def test_guidance_of_two_shapes_is_refused_with_both_named(cfg_weight: float) -> None:
    with pytest.raises(SamplingError, match=r"\(2, 4\).*\(1, 4\)"):
        guide(torch.zeros(2, 4), torch.zeros(1, 4), cfg_weight)


def test_what_the_prompt_rules_out_guidance_cannot_bring_back() -> None:
    """The third token is unlikely with the prompt, and yet guidance alone would make it the likeliest."""
    cond, uncond = log_of(0.6, 0.38, 0.02), log_of(0.6, 0.3995, 0.0005)

    assert guide(cond, uncond, 5.0).argmax().item() == 2
    guided = guide(keep_min_p(cond, 0.1), uncond, 5.0)
    assert kept(guided) == [0, 1]
    assert torch.equal(guided[:, :2], guide(cond, uncond, 5.0)[:, :2])


@pytest.mark.parametrize("weight", [0.5, 1.0, 5.0])
def test_masked_conditional_logits_stay_masked_at_any_weight(weight: float) -> None:
    guided = guide(keep_top_k(wide_logits(), 7), wide_noise(), weight)

    assert (guided > -math.inf).sum(dim=-1).tolist() == [7, 7, 7]
    assert not guided.isnan().any()


def test_a_min_p_of_zero_leaves_guidance_as_it_was() -> None:
    cond, uncond = wide_logits(), wide_noise()

    assert torch.equal(guide(keep_min_p(cond, 0.0), uncond, 5.0), guide(cond, uncond, 5.0))


# penalise_repetition


def test_penalty_divides_positive_and_multiplies_other_logits_of_seen_tokens() -> None:
    logits = torch.tensor([[3.0, -1.0, 3.0, -1.0]])
    seen = torch.tensor([[True, True, False, False]])

    assert penalise_repetition(logits, seen, 2.0).tolist() == [[1.5, -2.0, 3.0, -1.0]]


def test_penalty_looks_at_each_row_alone() -> None:
    seen = torch.tensor([[True, False], [False, True]])

    assert penalise_repetition(torch.ones(2, 2), seen, 2.0).tolist() == [[0.5, 1.0], [1.0, 0.5]]


def test_penalty_of_one_changes_nothing() -> None:
    logits = wide_logits()

    assert torch.equal(penalise_repetition(logits, torch.ones_like(logits, dtype=torch.bool), 1.0), logits)


# scale_temperature


@pytest.mark.parametrize(("value", "expected"), [(0.5, [2.0, -4.0]), (1.0, [1.0, -2.0]), (2.0, [0.5, -1.0])])
def test_temperature_divides_the_logits(value: float, expected: list[float]) -> None:
    assert scale_temperature(torch.tensor([[1.0, -2.0]]), value).tolist() == [expected]


# keep_top_k


@pytest.mark.parametrize(("k", "expected"), [(1, [1]), (2, [0, 1]), (3, [0, 1, 3])])
def test_top_k_keeps_the_likeliest(k: int, expected: list[int]) -> None:
    assert kept(keep_top_k(log_of(0.3, 0.4, 0.1, 0.2), k)) == expected


@pytest.mark.parametrize("k", [0, 4, 5])
def test_top_k_of_zero_or_everything_changes_nothing(k: int) -> None:
    logits = log_of(0.3, 0.4, 0.1, 0.2)

    assert torch.equal(keep_top_k(logits, k), logits)


@pytest.mark.parametrize("k", [2, 3])
def test_top_k_keeps_all_that_tie_for_the_last_place(k: int) -> None:
    assert kept(keep_top_k(torch.tensor([[1.0, 2.0, 1.0, 0.0]]), k)) == [0, 1, 2]


# keep_top_p


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.0, [1]),
        (0.39, [1]),
        (0.41, [0, 1]),
        (0.69, [0, 1]),
        (0.71, [0, 1, 3]),
        (0.89, [0, 1, 3]),
        (0.91, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_up_to_the_token_that_crosses_p(p: float, expected: list[int]) -> None:
    assert kept(keep_top_p(log_of(0.3, 0.4, 0.1, 0.2), p)) == expected


def test_top_p_of_one_changes_nothing() -> None:
    logits = torch.tensor([[0.0, -50.0, -200.0, -math.inf]])

    assert torch.equal(keep_top_p(logits, 1.0), logits)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_top_p_keeps_all_that_tie_with_the_crossing_token(order: list[int]) -> None:
    logits = log_of(0.4, 0.25, 0.25, 0.1)[:, order]

    assert kept(keep_top_p(logits, 0.5)) == [place for place, token in enumerate(order) if token != 3]


def test_top_p_leaves_masked_tokens_masked() -> None:
    assert kept(keep_top_p(torch.tensor([[1.0, -math.inf, 0.0, -math.inf]]), 0.999)) == [0, 2]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.95])
def test_top_p_keeps_the_smallest_set_that_holds_p(p: float) -> None:
    logits = wide_logits(rows=1)

    survivors = logits.double().softmax(dim=-1)[keep_top_p(logits, p) > -math.inf]

    assert survivors.sum() - survivors.min() < p <= survivors.sum()


# keep_min_p


@pytest.mark.parametrize(
    ("p", "expected"), [(0.2, [0, 1, 2, 3]), (0.3, [0, 1, 3]), (0.6, [0, 1]), (0.8, [1]), (1.0, [1])]
)
def test_min_p_keeps_tokens_near_the_likeliest(p: float, expected: list[int]) -> None:
    assert kept(keep_min_p(log_of(0.3, 0.4, 0.1, 0.2), p)) == expected


def test_min_p_of_zero_changes_nothing() -> None:
    logits = torch.tensor([[0.0, -50.0, -200.0, -math.inf]])

    assert torch.equal(keep_min_p(logits, 0.0), logits)


def test_min_p_of_one_keeps_equals() -> None:
    assert kept(keep_min_p(torch.tensor([[1.0, 1.0, 0.5]]), 1.0)) == [0, 1]


# all three filters


@filters
def test_filters_only_mask(keep: Callable[[Tensor], Tensor]) -> None:
    logits = wide_logits()

    filtered = keep(logits)

    assert (filtered == -math.inf).any()
    assert ((filtered == logits) | (filtered == -math.inf)).all()


@filters
@pytest.mark.parametrize("logits", [[1e4, -1e4, 0.0], [-math.inf, -math.inf, 5.0], [0.0, 0.0, 0.0]])
def test_filters_keep_the_likeliest_token(keep: Callable[[Tensor], Tensor], logits: list[float]) -> None:
    assert keep(torch.tensor([logits])).max().item() == max(logits)


@filters
def test_filters_look_at_each_row_alone(keep: Callable[[Tensor], Tensor]) -> None:
    logits = wide_logits()

    assert torch.equal(keep(logits), torch.cat([keep(row[None]) for row in logits]))


# pick


def test_pick_takes_the_largest_sum_of_logit_and_noise() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0]])
    noise = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.5, 3.0]])

    assert pick(logits, noise).tolist() == [1, 2]


def test_pick_never_takes_a_masked_token() -> None:
    assert pick(torch.tensor([[-math.inf, -1e4]]), torch.tensor([[22.9, -2.9]])).tolist() == [1]


# next_tokens


def chi_square(tokens: Tensor, probabilities: list[float]) -> float:
    expected = torch.tensor(probabilities) * len(tokens)
    observed = torch.bincount(tokens, minlength=len(probabilities))
    return ((observed - expected) ** 2 / expected).sum().item()


def draw_noise(axis: str) -> Tensor:
    if axis == "positions":
        return gumbel_noise([7], range(DRAWS), 4, "cpu")[0]
    return gumbel_noise(range(DRAWS), [7], 4, "cpu")[:, 0]


@pytest.mark.parametrize("axis", ["positions", "seeds"])
def test_draws_follow_the_softmax(axis: str) -> None:
    logits = log_of(0.4, 0.3, 0.2, 0.1).expand(DRAWS, -1)

    tokens = next_tokens(logits, temperature=1.0, noise=draw_noise(axis))

    assert chi_square(tokens, [0.4, 0.3, 0.2, 0.1]) < CHI_SQUARE_LIMIT[3]


@pytest.mark.parametrize("axis", ["positions", "seeds"])
def test_draws_follow_the_softmax_at_half_the_temperature_and_within_top_p(axis: str) -> None:
    logits = log_of(0.4, 0.3, 0.2, 0.1).expand(DRAWS, -1)

    tokens = next_tokens(logits, temperature=0.5, top_p=0.9, noise=draw_noise(axis))

    # squares 16 : 9 : 4 : 1, of which the first two hold 25 / 30 and the first three 29 / 30
    assert tokens.max() == 2
    assert chi_square(tokens, [16 / 29, 9 / 29, 4 / 29]) < CHI_SQUARE_LIMIT[2]


def test_temperature_zero_is_greedy() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])

    assert next_tokens(logits, temperature=0.0, noise=None).tolist() == [1, 0]


def test_greedy_takes_the_first_of_equals_whatever_the_noise() -> None:
    noise = torch.tensor([[9.0, 0.0, 9.0]])

    assert next_tokens(torch.tensor([[0.0, 1.0, 1.0]]), temperature=0.0, noise=noise).tolist() == [1]


def test_a_draw_without_noise_is_refused() -> None:
    with pytest.raises(SamplingError, match=r"temperature 0\.7.*\(2, 4\)"):
        next_tokens(torch.zeros(2, 4), temperature=0.7, noise=None)


def test_top_k_one_equals_greedy() -> None:
    logits = wide_logits()

    drawn = next_tokens(logits, temperature=1.0, top_k=1, noise=wide_noise())

    assert torch.equal(drawn, next_tokens(logits, temperature=0.0, noise=None))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p", "expected"),
    [
        pytest.param(1.0, 0, 1.0, 0.0, 0, id="all off"),
        pytest.param(1.0, 3, 1.0, 0.0, 1, id="top_k alone"),
        pytest.param(1.0, 0, 0.6, 0.0, 2, id="top_p alone"),
        pytest.param(1.0, 0, 1.0, 0.6, 2, id="min_p alone"),
        pytest.param(0.5, 0, 0.8, 0.0, 2, id="temperature before top_p: 25 / 30 instead of 0.7"),
        pytest.param(1.0, 2, 0.5, 0.0, 3, id="top_k before top_p: 4 / 7 instead of 0.4"),
    ],
)
def test_each_number_reaches_its_filter_in_order(
    temperature: float, top_k: int, top_p: float, min_p: float, expected: int
) -> None:
    noise = torch.tensor([[9.0, 6.0, 3.0, 0.0]])  # lets the least likely survivor win
    logits = log_of(0.1, 0.2, 0.3, 0.4)

    tokens = next_tokens(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, noise=noise)

    assert tokens.tolist() == [expected]


# all of them


@verbs
def test_bfloat16_is_taken_as_its_float32_values(verb: Callable[[Tensor], Tensor]) -> None:
    logits = wide_logits().bfloat16()

    torch.testing.assert_close(verb(logits), verb(logits.float()), rtol=0, atol=0)


@verbs
def test_logits_stay_unchanged(verb: Callable[[Tensor], Tensor]) -> None:
    logits = wide_logits()

    verb(logits)

    assert torch.equal(logits, wide_logits())


def test_noise_stays_unchanged() -> None:
    noise = wide_noise()

    next_tokens(wide_logits(), temperature=0.8, top_k=50, top_p=0.9, min_p=0.01, noise=noise)

    assert torch.equal(noise, wide_noise())
