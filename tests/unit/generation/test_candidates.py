"""Several fills of one mask: how they are resampled, and that the one comes out that suits what is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from janus_core import DrawOptions, ImageTokens, Janus, RedrawOptions, SamplingError
from janus_core.generation import drawing
from janus_core.generation.candidates import resampled
from janus_core.generation.drawing import DrawingStep
from janus_core.generation.noise import branch_seeds, gumbel_noise, uniform_number
from janus_core.generation.sampling import keep_min_p

from .test_drawing import CELLS, image_logits, rows
from .test_keeping_the_best import drawer, log_likelihood  # noqa: F401 - `drawer` is a fixture

SIDE, SIZE = 4, 16
MASK = torch.zeros(SIZE, SIZE)
MASK[0:12, 0:8] = 1.0  # cells 0, 1, 4, 5, 8, 9
REDRAWN = [0, 1, 4, 5, 8, 9]
DRAWING = DrawOptions(cfg_weight=1.5, top_k=40)


def source_of(janus: Janus, count: int = 1) -> ImageTokens:
    return janus.draw("a house", num_images=count, seed=50, options=DRAWING).tokens


def redrawn(
    janus: Janus, candidates: int, mask: Tensor = MASK, *, count: int = 1, seed: int = 3, **how: Any
) -> list[list[int]]:
    options = RedrawOptions(candidates=candidates, drawing=DRAWING)
    tokens = janus.redraw(source_of(janus, count), mask, "a cat", seed=seed, options=options, **how).tokens
    found: list[list[int]] = tokens.grid.flatten(1).tolist()
    return found


# resampling, by hand


@pytest.mark.parametrize(
    ("weights", "number", "expected"),
    [
        ([1, 1, 1, 1], 0.5, [0, 1, 2, 3]),
        ([0, 0, 1, 0], 0.3, [2, 2, 2, 2]),
        ([2, 0, 1, 1], 0.5, [0, 0, 2, 3]),
        ([0, 3, 1, 0], 0.5, [1, 1, 2, 1]),  # points 0.5, 1.5, 2.5 and 3.5 of 4
        ([3, 5], 0.2, [0, 1]),  # points 0.8 and 4.8 of 8
        ([3, 5], 0.8, [1, 1]),  # points 3.2 and 7.2
        ([7], 0.9, [0]),
    ],
)
def test_fills_go_on_as_often_as_their_weights_say(
    weights: list[float], number: float, expected: list[int]
) -> None:
    logs = [float(torch.tensor(weight, dtype=torch.float64).clamp(min=1e-300).log()) for weight in weights]
    assert resampled(logs, number) == expected
    assert resampled([log - 500 for log in logs], number) == expected


def test_over_many_numbers_shares_are_the_weights() -> None:
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    counts: Counter[int] = Counter()
    for number in range(1000):
        counts.update(resampled(weights.log().tolist(), (number + 0.5) / 1000))
    shares = [counts[fill] / 4000 for fill in range(4)]
    assert shares == pytest.approx(weights.tolist(), abs=1e-3)


def test_branches_begin_with_the_seed_and_share_no_noise() -> None:
    seeds = branch_seeds(7, 64)
    assert seeds[0] == 7
    assert branch_seeds(7, 4) == seeds[:4]
    assert len({*seeds, *branch_seeds(8, 64), *range(1000)}) == 1000 + 63 + 63
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_random_numbers_depend_on_seed_and_position() -> None:
    numbers = {uniform_number(seed, position) for seed in range(20) for position in range(20)}
    assert len(numbers) == 400
    assert 0.4 < sum(numbers) / 400 < 0.6
    assert uniform_number(2**64 + 5, 3) == uniform_number(5, 3)


# what comes out


@torch.inference_mode()
def by_hand(janus: Janus, source: list[int], cells: list[int], candidates: int, seed: int) -> list[int]:
    """Do it in the plainest way: every cell of every fill from nothing, with lists."""
    cond, uncond = rows(janus, "a cat")
    seeds = branch_seeds(seed, candidates)
    fills: list[list[int]] = [[] for _ in seeds]
    weights = [0.0] * candidates
    for cell in range(CELLS):
        for fill, of in enumerate(seeds):
            logits = image_logits(janus, cond, fills[fill])
            token = source[cell]
            if cell in cells:
                away = image_logits(janus, uncond, fills[fill])
                guided = away + 1.5 * (logits - away)
                noise = gumbel_noise([of], [cell], len(logits), torch.device("cpu")).flatten()
                threshold = guided.topk(40).values[-1]
                token = int((guided.masked_fill(guided < threshold, -torch.inf) + noise).argmax())
            else:
                weights[fill] += float(logits.log_softmax(-1)[token])
            fills[fill] = [*fills[fill], token]
        if (cell + 1) % SIDE == 0 and any(other > cell for other in cells):
            chosen = resampled(weights, uniform_number(seed, cell + 1))
            fills, weights = [fills[fill] for fill in chosen], [0.0] * candidates
    return fills[max(range(candidates), key=lambda fill: weights[fill])]


@pytest.mark.parametrize("candidates", [2, 5])
@pytest.mark.parametrize("seed", [3, 4])
def test_fills_are_filtered_as_by_hand(drawer: Janus, candidates: int, seed: int) -> None:  # noqa: F811
    [source] = source_of(drawer).grid.flatten(1).tolist()
    expected = by_hand(drawer, source, REDRAWN, candidates, seed)
    assert redrawn(drawer, candidates, seed=seed) == [expected]


def test_more_candidates_suit_what_is_kept_better(janus: Janus) -> None:
    cond, _ = rows(janus, "a cat")
    kept = [cell for cell in range(CELLS) if cell not in REDRAWN]

    def likelihood(candidates: int) -> float:
        total = 0.0
        for seed in range(0, 400, 50):
            [drawn] = redrawn(janus, candidates, seed=seed)
            total += sum(
                log_likelihood(janus, cond, drawn[: cell + 1]) - log_likelihood(janus, cond, drawn[:cell])
                for cell in kept
                if cell
            )
        return total

    one, four, sixteen = (likelihood(candidates) for candidates in (1, 4, 16))
    assert one < four < sixteen


def test_kept_cells_keep_their_tokens(drawer: Janus) -> None:  # noqa: F811
    [source] = source_of(drawer).grid.flatten(1).tolist()
    [found] = redrawn(drawer, 4)
    assert [found[cell] for cell in range(CELLS) if cell not in REDRAWN] == [
        source[cell] for cell in range(CELLS) if cell not in REDRAWN
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_batch_size_does_not_change_pictures(drawer: Janus, batch_size: int) -> None:  # noqa: F811
    masks = torch.stack([MASK, MASK.T, MASK.flip(0)])
    assert redrawn(drawer, 3, masks, count=3, batch_size=batch_size) == redrawn(drawer, 3, masks, count=3)


def test_a_pull_to_the_source_goes_with_candidates(drawer: Janus) -> None:  # noqa: F811
    source = source_of(drawer)
    options = RedrawOptions(candidates=3, strength=0.01, drawing=DrawOptions(min_p=0.2))
    tokens = drawer.redraw(source, MASK, "a cat", options=options).tokens
    assert torch.equal(tokens.grid, source.grid)


# both ends


def test_a_full_mask_equals_a_draw(janus: Janus, rows_run: list[int]) -> None:
    whole = janus.draw("a cat", seed=3, options=DRAWING).tokens.grid.flatten(1).tolist()
    source = source_of(janus)
    rows_run.clear()
    options = RedrawOptions(candidates=4, drawing=DRAWING)
    found = janus.redraw(source, torch.ones(SIZE, SIZE), "a cat", seed=3, options=options)
    assert found.tokens.grid.flatten(1).tolist() == whole
    assert max(rows_run) == 2  # nothing is kept that fills could be told apart by


def test_an_empty_mask_draws_nothing(janus: Janus, rows_run: list[int]) -> None:
    source = source_of(janus)
    rows_run.clear()
    found = janus.redraw(source, torch.zeros(SIZE, SIZE), "a cat", options=RedrawOptions(candidates=4))
    assert torch.equal(found.tokens.grid, source.grid)
    assert rows_run == []


def test_one_candidate_is_a_plain_redraw(drawer: Janus) -> None:  # noqa: F811
    plain = RedrawOptions(drawing=DRAWING)
    expected = drawer.redraw(source_of(drawer), MASK, "a cat", seed=3, options=plain).tokens
    assert redrawn(drawer, 1) == expected.grid.flatten(1).tolist()


@pytest.mark.parametrize("number", [0, 65, 1.5])
def test_candidates_have_a_range(number: Any) -> None:
    with pytest.raises(SamplingError, match="candidates"):
        RedrawOptions(candidates=number)


# on a GPU


def test_resampling_leaves_every_buffer_where_it_is(
    drawer: Janus,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reorder = DrawingStep.reorder
    moved: list[bool] = []

    def watched(self: DrawingStep, places: list[int], scores: list[float]) -> None:
        def held() -> list[int]:
            tensors = [self.tokens, self._last, self._cell, self._is_finite, self.scores]
            attention = getattr(self._decoder, "_attention", None)
            if attention is not None:
                place = attention._place
                tensors += [attention._mask, place.cache.both, place.slot, place.positions]
            return [tensor.data_ptr() for tensor in tensors if tensor is not None]

        before = held()
        reorder(self, places, scores)
        moved.append(held() != before)

    monkeypatch.setattr(DrawingStep, "reorder", watched)
    redrawn(drawer, 4)
    assert moved
    assert not any(moved)


# min_p


@pytest.mark.parametrize(("candidates", "stated", "used"), [(1, None, 0.3), (4, None, 0.0), (4, 0.2, 0.2)])
def test_only_a_single_fill_takes_the_recommended_min_p(
    janus: Janus, monkeypatch: pytest.MonkeyPatch, candidates: int, stated: float | None, used: float
) -> None:
    recommending = replace(janus, guidance=replace(janus.guidance, min_p=0.3))
    source, seen = source_of(janus), set[float]()

    def noted(logits: Tensor, p: float) -> Tensor:
        seen.add(p)
        return keep_min_p(logits, p)

    monkeypatch.setattr(drawing, "keep_min_p", noted)
    options = RedrawOptions(candidates=candidates, drawing=replace(DRAWING, min_p=stated))
    recommending.redraw(source, MASK, "a cat", options=options)
    assert seen == {used}
