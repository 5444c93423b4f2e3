"""Drawings of which the best are kept: where others are given up, by what, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from janus_core import DrawOptions, Janus, PromptError, RedrawOptions, SamplingError
from janus_core.generation import static_decoder
from janus_core.generation.pruning import Cut, best_of, cuts_of
from janus_core.generation.static_decoder import StaticDecoder
from janus_core.inputs.prompting import PromptPlan

from .test_drawing import CELLS, StoppedByTestError, rows

OPTIONS = DrawOptions(cfg_weight=1.5, top_k=40)
AWAY = DrawOptions(cfg_weight=0.1)  # scores fall from cell to cell


@pytest.fixture(params=["streamed", "static"])
def drawer(
    request: pytest.FixtureRequest,
    make_janus: Callable[[torch.dtype], Janus],
    monkeypatch: pytest.MonkeyPatch,
) -> Janus:
    """The model with either decoder; the static one reads layers that nobody has packed."""
    made = make_janus(torch.float32)
    if request.param == "static":
        monkeypatch.setattr(static_decoder, "may_capture", lambda model, compute: True)
        monkeypatch.setattr("janus_core.painting.pack_for_drawing", lambda language: None)
    return made


def fit(janus: Janus, prompt: str, drawn: Sequence[int], negative: str = "") -> float:
    """Score a picture in the plainest way: all of it in one pass, with the prompt and without it."""
    cond, uncond = rows(janus, prompt)
    if negative:
        uncond = rows(janus, negative)[0]
    return log_likelihood(janus, cond, drawn) - log_likelihood(janus, uncond, drawn)


@torch.inference_mode()
def log_likelihood(janus: Janus, row: PromptPlan, drawn: Sequence[int]) -> float:
    language, tokens = janus.model.language, torch.tensor(drawn)
    words = language.language_model.embed_tokens(torch.tensor([row.token_ids]))
    embeddings = torch.cat((words, language.embed_image_tokens(tokens[None], torch.float32)), dim=1)
    hidden = language.language_model(embeddings, torch.arange(embeddings.shape[1])[None])
    logits = language.generation_head(hidden[0, len(row.token_ids) - 1 : -1])  # (cells, v)
    return float(logits.log_softmax(-1).gather(1, tokens[:, None]).sum())


def kept_by_the_rule(
    janus: Janus, prompt: str, seeds: Sequence[int], keep: int, options: DrawOptions
) -> list[int]:
    """Return the seeds that go on through every cut, from whole pictures drawn alone."""
    whole = {seed: alone(janus, prompt, seed, options) for seed in seeds}
    for cells, count in (
        (4, max(keep, -(-len(seeds) // 2))),
        (8, max(keep, -(-len(seeds) // 4))),
        (16, keep),
    ):
        scores = {seed: fit(janus, prompt, whole[seed][:cells]) for seed in seeds}
        seeds = sorted(seeds, key=lambda seed: -scores[seed])[:count]
    return list(seeds)


def alone(janus: Janus, prompt: str, seed: int, options: DrawOptions) -> list[int]:
    [found] = janus.draw(prompt, seed=seed, options=options).tokens.grid.flatten(1).tolist()
    assert isinstance(found, list)
    return found


# the rule


@pytest.mark.parametrize(
    ("drawn", "keep", "side", "cuts"),
    [
        (16, 4, 24, [(6, 8), (12, 4), (24, 4)]),
        (16, 1, 24, [(6, 8), (12, 4), (24, 1)]),
        (16, 12, 24, [(6, 12), (24, 12)]),
        (16, 6, 24, [(6, 8), (12, 6), (24, 6)]),
        (8, 2, 8, [(2, 4), (4, 2), (8, 2)]),
        (5, 1, 10, [(3, 3), (5, 2), (10, 1)]),
        (2, 1, 4, [(1, 1), (4, 1)]),
        (4, 4, 24, [(24, 4)]),
        (1, 1, 1, [(1, 1)]),
    ],
)
def test_half_go_on_after_a_quarter_and_a_quarter_after_half(
    drawn: int, keep: int, side: int, cuts: list[tuple[int, int]]
) -> None:
    assert cuts_of(drawn, keep, side) == [Cut(cells=rows * side, keep=left) for rows, left in cuts]


def test_the_best_of_each_group_come_first_and_ties_keep_their_order() -> None:
    assert best_of([1.0, 3.0, 2.0, 3.0], [0, 0, 0, 0], 3) == [1, 3, 2]
    assert best_of([1.0, 3.0, 5.0, 4.0, 9.0], [7, 7, 2, 2, 7], 2) == [4, 1, 2, 3]
    assert best_of([7.12301, 7.12302, 7.125], [0, 0, 0], 2) == [2, 0]  # rounding decides nothing


# what is kept


@pytest.mark.parametrize("keep", [1, 3, 6])
@pytest.mark.parametrize("batch_size", [16, 3])
@pytest.mark.parametrize("options", [OPTIONS, AWAY], ids=["towards", "away"])
def test_the_pictures_kept_are_those_of_the_rule(
    drawer: Janus, options: DrawOptions, keep: int, batch_size: int
) -> None:
    keeping = replace(options, keep_best=keep)
    drawn = drawer.draw("a cat", num_images=6, seed=30, options=keeping, batch_size=batch_size)
    assert list(drawn.seeds) == kept_by_the_rule(drawer, "a cat", range(30, 36), keep, options)


@pytest.mark.parametrize("how", [{}, {"negative_prompt": "grey and blurred"}], ids=["plain", "negative"])
@pytest.mark.parametrize(
    "options",
    [OPTIONS, DrawOptions(cfg_weight=1.0), DrawOptions(min_p=0.3)],
    ids=["guided", "unguided", "narrowed"],
)
def test_a_kept_picture_equals_the_one_drawn_alone(
    drawer: Janus, options: DrawOptions, how: dict[str, Any]
) -> None:
    drawn = drawer.draw(
        "a cat", num_images=9, seed=30, options=replace(options, keep_best=2), batch_size=16, **how
    )
    assert len(set(drawn.seeds)) == 2
    for seed, grid, image in zip(drawn.seeds, drawn.tokens.grid, drawn.images, strict=True):
        single = drawer.draw("a cat", seed=seed, options=options, **how)
        assert torch.equal(single.tokens.grid[0], grid)
        torch.testing.assert_close(single.images[0], image)


def test_scores_are_those_of_the_whole_picture_and_fall(drawer: Janus) -> None:
    drawn = drawer.draw("a cat", num_images=8, options=replace(OPTIONS, keep_best=4), batch_size=8)
    expected = [fit(drawer, "a cat", grid) for grid in drawn.tokens.grid.flatten(1).tolist()]
    assert drawn.scores == pytest.approx(expected, abs=1e-3)
    assert list(drawn.scores) == sorted(drawn.scores, reverse=True)


def test_a_negative_prompt_is_what_pictures_are_judged_against(janus: Janus) -> None:
    options = replace(OPTIONS, keep_best=2)
    drawn = janus.draw("a cat", num_images=2, negative_prompt="a red house", options=options)
    expected = [fit(janus, "a cat", grid, "a red house") for grid in drawn.tokens.grid.flatten(1).tolist()]
    assert drawn.scores == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 16])
def test_the_batch_size_changes_nothing(drawer: Janus, batch_size: int) -> None:
    options = replace(OPTIONS, keep_best=3)

    def drawn(together: int) -> tuple[list[list[int]], tuple[int, ...]]:
        found = drawer.draw("a cat", num_images=8, seed=3, options=options, batch_size=together)
        return found.tokens.grid.flatten(1).tolist(), found.seeds

    assert drawn(batch_size) == drawn(8)


@pytest.mark.parametrize("batch_size", [4, 16])
def test_the_best_of_every_prompt_are_kept(drawer: Janus, batch_size: int) -> None:
    options = replace(OPTIONS, keep_best=2)
    prompts = ["a cat", "a red house beside the river"]
    drawn = drawer.draw(prompts, num_images=5, seed=3, options=options, batch_size=batch_size)
    single = [drawer.draw(prompt, num_images=5, seed=3, options=options) for prompt in prompts]
    assert drawn.seeds == single[0].seeds + single[1].seeds
    assert torch.equal(drawn.tokens.grid, torch.cat([one.tokens.grid for one in single]))


def test_without_keeping_there_are_no_scores(janus: Janus) -> None:
    assert janus.draw("a cat", num_images=2).scores == ()


# what it costs


def test_rows_are_given_up_in_place(janus: Janus, rows_run: list[int]) -> None:
    janus.draw("a cat", num_images=16, options=replace(OPTIONS, keep_best=4), batch_size=16)
    assert rows_run == [2, *[32] * 3, *[16] * 4, *[8] * 8]
    full = 32 * (CELLS - 1)
    assert sum(rows_run[1:]) <= 0.6 * full


def test_static_steps_give_rows_up_too(
    make_janus: Callable[[torch.dtype], Janus], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_decoder, "may_capture", lambda model, compute: True)
    monkeypatch.setattr("janus_core.painting.pack_for_drawing", lambda language: None)
    seen: list[int] = []
    step = StaticDecoder.step
    monkeypatch.setattr(
        StaticDecoder, "step", lambda self, rows: (seen.append(len(rows)), step(self, rows))[1]
    )
    options = replace(OPTIONS, keep_best=4)
    make_janus(torch.float32).draw("a cat", num_images=16, options=options, batch_size=16)
    assert seen == [*[32] * 3, *[16] * 4, *[8] * 8]


# callbacks


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_steps_are_counted_up_to_their_total(janus: Janus, batch_size: int) -> None:
    steps: list[tuple[int, int]] = []
    options = replace(OPTIONS, keep_best=2)
    janus.draw(
        "a cat", num_images=8, options=options, batch_size=batch_size,
        on_step=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total in steps} == {len(steps)}


def test_raising_in_a_step_leaves_the_model_usable(drawer: Janus) -> None:
    options = replace(OPTIONS, keep_best=2)
    before = drawer.draw("a cat", num_images=8, options=options)

    def interrupt(done: int, total: int) -> None:
        if done == 6:
            raise StoppedByTestError

    with pytest.raises(StoppedByTestError):
        drawer.draw("a cat", num_images=8, options=options, batch_size=8, on_step=interrupt)
    after = drawer.draw("a cat", num_images=8, options=options)
    assert torch.equal(after.tokens.grid, before.tokens.grid)


# what cannot be kept


def test_more_than_are_drawn_cannot_be_kept(janus: Janus, rows_run: list[int]) -> None:
    with pytest.raises(SamplingError, match=r"keep_best is 5, but only 4 of a prompt are drawn"):
        janus.draw("a cat", num_images=4, options=replace(OPTIONS, keep_best=5))
    assert rows_run == []


@pytest.mark.parametrize(("prompt", "negative"), [("", ""), ("a cat", "a cat"), (["a cat", " "], "")])
def test_without_a_prompt_nothing_can_be_judged(janus: Janus, prompt: Any, negative: str) -> None:
    with pytest.raises(PromptError, match="keep_best keeps the pictures that fit the prompt best"):
        janus.draw(prompt, num_images=4, negative_prompt=negative, options=replace(OPTIONS, keep_best=2))


@pytest.mark.parametrize("number", [-1, 1.5, True])
def test_how_many_to_keep_is_a_whole_number(number: Any) -> None:
    with pytest.raises(SamplingError, match="keep_best"):
        DrawOptions(keep_best=number)


def test_redrawing_keeps_all(janus: Janus) -> None:
    with pytest.raises(SamplingError, match="keep_best is for drawing"):
        RedrawOptions(drawing=DrawOptions(keep_best=1))
