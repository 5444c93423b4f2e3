from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import DrawOptions, Janus, PromptError
from janus_core.generation.drawing import DrawingStep
from janus_core.generation.plans import DrawPlan
from janus_core.inputs.prompting import PromptPlan, plan_drawing, unconditional

GREEDY = DrawOptions(temperature=0.0)
SAMPLED = DrawOptions(temperature=1.0)
PROMPTS = ("a cat", "a red house beside the river, oil painting", "it")
CELLS = 16


class StoppedByTestError(Exception):
    """Raised by callbacks, as a host does to interrupt."""


def grids(
    janus: Janus,
    prompt: str | Sequence[str],
    options: DrawOptions = SAMPLED,
    *,
    num_images: int = 1,
    seed: int = 0,
    negative_prompt: str = "",
    batch_size: int = 16,
) -> list[list[int]]:
    """Draw and return the image tokens of each picture."""
    drawn = janus.draw(
        prompt,
        num_images=num_images,
        seed=seed,
        negative_prompt=negative_prompt,
        options=options,
        batch_size=batch_size,
    )
    found: list[list[int]] = drawn.tokens.grid.flatten(1).tolist()
    return found


@torch.inference_mode()
def image_logits(janus: Janus, row: PromptPlan, drawn: Sequence[int]) -> Tensor:
    """Return the next cell's logits (v,) of one row in the plainest way: everything again, without cache."""
    language = janus.model.language
    words = language.language_model.embed_tokens(torch.tensor([row.token_ids]))
    cells = language.embed_image_tokens(torch.tensor([drawn], dtype=torch.int64), torch.float32)
    embeddings = torch.cat((words, cells), dim=1)
    hidden = language.language_model(embeddings, torch.arange(embeddings.shape[1])[None])
    logits: Tensor = language.generation_head(hidden[0, -1])
    return logits


def greedy_without_cache(janus: Janus, cond: PromptPlan, uncond: PromptPlan, cfg_weight: float) -> list[int]:
    drawn: list[int] = []
    for _ in range(CELLS):
        away = image_logits(janus, uncond, drawn)
        logits = away + cfg_weight * (image_logits(janus, cond, drawn) - away)
        drawn.append(int(logits.argmax()))
    return drawn


def rows(janus: Janus, prompt: str) -> tuple[PromptPlan, PromptPlan]:
    cond = plan_drawing(prompt, janus.tokenizer)
    return cond, unconditional(cond, janus.tokenizer)


# greedy, against the plainest computation


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("cfg_weight", [0.5, 1.0, 5.0])
def test_a_drawing_with_a_cache_equals_one_without(janus: Janus, prompt: str, cfg_weight: float) -> None:
    options = replace(GREEDY, cfg_weight=cfg_weight)
    assert grids(janus, prompt, options) == [greedy_without_cache(janus, *rows(janus, prompt), cfg_weight)]


def test_a_negative_prompt_of_another_length_equals_a_row_of_its_own(janus: Janus) -> None:
    cond, away = (plan_drawing(prompt, janus.tokenizer) for prompt in PROMPTS[:2])
    found = grids(janus, PROMPTS[0], GREEDY, negative_prompt=PROMPTS[1])
    assert found == [greedy_without_cache(janus, cond, away, 5.0)]


@pytest.mark.parametrize("narrowest", [{"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_temperature_zero_equals_the_narrowest_choice(janus: Janus, narrowest: dict[str, Any]) -> None:
    only = replace(SAMPLED, **narrowest)
    assert grids(janus, "a cat", GREEDY, seed=3) == grids(janus, "a cat", only, seed=4)


def test_prompts_give_different_pictures(janus: Janus) -> None:
    first, second, third = grids(janus, PROMPTS, GREEDY)
    assert first != second != third != first


# guidance


@pytest.mark.parametrize("cfg_weight", [1.0, 5.0])
def test_only_the_likeliest_of_the_prompt_alone_is_left_by_the_largest_min_p(
    janus: Janus, cfg_weight: float
) -> None:
    narrow = replace(SAMPLED, cfg_weight=cfg_weight, min_p=1.0)
    assert grids(janus, "a cat", narrow, seed=3) == grids(janus, "a cat", replace(GREEDY, cfg_weight=1.0))


def test_min_p_changes_nothing_when_greedy(janus: Janus) -> None:
    assert grids(janus, "a cat", replace(GREEDY, min_p=1.0)) == grids(janus, "a cat", GREEDY)


def test_guidance_of_one_runs_half_the_rows(janus: Janus, rows_run: list[int]) -> None:
    grids(janus, "a cat", replace(SAMPLED, cfg_weight=1.0), num_images=3)
    assert rows_run == [1] + [3] * (CELLS - 1)


def test_a_prompt_is_prefilled_once_and_expanded_over_its_pictures(janus: Janus, rows_run: list[int]) -> None:
    grids(janus, "a cat", num_images=3)
    assert rows_run == [2] + [6] * (CELLS - 1)


def test_guided_logits_are_float32_in_half_precision(make_janus: Callable[[torch.dtype], Janus]) -> None:
    half = make_janus(torch.bfloat16)
    cond, uncond = rows(half, "a cat")
    picture = DrawPlan(cond=cond, uncond=uncond, seed=0)
    step = DrawingStep(
        half.model.language,
        [picture],
        SAMPLED.decided(),
        num_image_tokens=CELLS,
        pad=402,
        compute=half.compute,
    )
    assert step.steered(step.image_logits(step.first)).dtype == torch.float32


@torch.inference_mode()
def test_guidance_sharpens_the_prompt_against_the_padding(janus: Janus) -> None:
    cond, uncond = rows(janus, "a cat")
    picture = DrawPlan(cond=cond, uncond=uncond, seed=0)
    step = DrawingStep(
        janus.model.language,
        [picture],
        SAMPLED.decided(),
        num_image_tokens=CELLS,
        pad=402,
        compute=janus.compute,
    )
    away = image_logits(janus, uncond, [])
    expected = away + 5.0 * (image_logits(janus, cond, []) - away)
    assert_close(step.steered(step.image_logits(step.first))[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("blank", [" ", "\n"])
def test_a_blank_negative_prompt_equals_none(janus: Janus, blank: str) -> None:
    assert grids(janus, "a cat", negative_prompt=blank) == grids(janus, "a cat")


def test_a_negative_prompt_changes_the_picture(janus: Janus) -> None:
    assert grids(janus, "a cat", GREEDY, negative_prompt="a dog") != grids(janus, "a cat", GREEDY)


def test_a_negative_prompt_that_equals_the_prompt_guides_nowhere(janus: Janus) -> None:
    unguided = grids(janus, "a cat", replace(GREEDY, cfg_weight=1.0))
    assert grids(janus, "a cat", GREEDY, negative_prompt=" a cat ") == unguided


@pytest.mark.parametrize("prompt", ["", "  "])
def test_an_empty_prompt_draws_the_unconditional_row(janus: Janus, prompt: str) -> None:
    row = plan_drawing("", janus.tokenizer)
    assert grids(janus, prompt, GREEDY) == [greedy_without_cache(janus, row, row, 1.0)]


def test_an_empty_prompt_runs_without_guidance(janus: Janus, rows_run: list[int]) -> None:
    grids(janus, "", num_images=2)
    assert rows_run == [1] + [2] * (CELLS - 1)


def test_an_empty_prompt_among_others_is_drawn_as_alone(janus: Janus) -> None:
    assert grids(janus, ["a cat", ""])[1] == grids(janus, "")[0]


def test_an_empty_prompt_can_still_be_guided_away_from_something(janus: Janus) -> None:
    assert grids(janus, "", GREEDY, negative_prompt="a cat") != grids(janus, "", GREEDY)


# batches


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("negative_prompt", ["", "grey and blurred"])
def test_prompts_of_different_length_in_one_call_equal_single_ones(
    janus: Janus, options: DrawOptions, negative_prompt: str
) -> None:
    singles = [grids(janus, p, options, seed=9, negative_prompt=negative_prompt)[0] for p in PROMPTS]
    assert grids(janus, PROMPTS, options, seed=9, negative_prompt=negative_prompt) == singles


def test_pictures_come_prompt_by_prompt(janus: Janus) -> None:
    together = grids(janus, PROMPTS, num_images=2, seed=9)
    singles = [grids(janus, prompt, seed=seed)[0] for prompt in PROMPTS for seed in (9, 10)]
    assert together == singles


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 16])
def test_the_batch_size_does_not_change_pictures(janus: Janus, batch_size: int) -> None:
    whole = grids(janus, PROMPTS[:2], num_images=3, seed=9)
    assert grids(janus, PROMPTS[:2], num_images=3, seed=9, batch_size=batch_size) == whole


# seeds


@pytest.mark.parametrize("picture", range(5))
def test_each_picture_of_a_batch_equals_the_picture_of_its_seed(janus: Janus, picture: int) -> None:
    together = grids(janus, "a cat", num_images=5, seed=20)
    assert together[picture] == grids(janus, "a cat", seed=20 + picture)[0]


def test_pictures_of_a_batch_differ(janus: Janus) -> None:
    assert len({tuple(grid) for grid in grids(janus, "a cat", num_images=5)}) == 5


def test_seeds_count_modulo_two_to_the_64(janus: Janus) -> None:
    assert grids(janus, "a cat", seed=-1) == grids(janus, "a cat", seed=2**64 - 1)


def test_the_seed_past_the_largest_is_zero(janus: Janus) -> None:
    assert grids(janus, "a cat", num_images=2, seed=2**64 - 1)[1] == grids(janus, "a cat", seed=0)[0]


def test_numbers_of_numpy_count_as_any_others(janus: Janus) -> None:
    usual = grids(janus, "a cat", num_images=2, seed=2**64 - 1)
    assert grids(janus, "a cat", num_images=np.int64(2), seed=2**64 - 1) == usual
    assert grids(janus, "a cat", num_images=np.uint8(2), seed=np.uint64(2**64 - 1)) == usual


def test_cells_draw_different_noise(janus: Janus, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = torch.zeros(1, janus.config.vq.codebook_size)
    monkeypatch.setattr(DrawingStep, "steered", lambda *_: flat)
    assert len(set(grids(janus, "a cat")[0])) > 8


@pytest.mark.parametrize("block", [1, 5, 100])
def test_the_block_of_noise_computed_together_does_not_matter(
    janus: Janus, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    whole = grids(janus, "a cat", seed=9)
    monkeypatch.setattr("janus_core.generation.drawing._NOISE_BLOCK", block)
    assert grids(janus, "a cat", seed=9) == whole


# callbacks


def test_tokens_are_handed_over_as_they_grow(janus: Janus) -> None:
    seen: list[Tensor] = []
    drawn = janus.draw("a cat", num_images=2, on_tokens=lambda tokens, _: seen.append(tokens.clone()))
    whole = drawn.tokens.grid.flatten(1)
    assert [tokens.shape[1] for tokens in seen] == list(range(1, CELLS + 1))
    assert all(torch.equal(tokens, whole[:, : tokens.shape[1]]) for tokens in seen)


def test_watching_does_not_change_the_picture(janus: Janus) -> None:
    watched = janus.draw("a cat", on_tokens=lambda tokens, _: None, on_step=lambda done, total: None)
    assert watched.tokens.grid.flatten(1).tolist() == grids(janus, "a cat")


def test_steps_are_counted_over_all_batches(janus: Janus) -> None:
    steps: list[tuple[int, int]] = []
    janus.draw("a cat", num_images=3, batch_size=2, on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 2 * CELLS) for done in range(1, 2 * CELLS + 1)]


def test_raising_in_a_step_stops_at_once(janus: Janus, rows_run: list[int]) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise StoppedByTestError

    with pytest.raises(StoppedByTestError):
        janus.draw("a cat", on_step=interrupt)
    assert len(rows_run) == 3


def test_a_model_is_usable_after_an_interruption(janus: Janus) -> None:
    before = grids(janus, "a cat")

    def interrupt(tokens: Tensor, pictures: Sequence[int]) -> None:
        raise StoppedByTestError

    with pytest.raises(StoppedByTestError):
        janus.draw("a cat", on_tokens=interrupt)
    assert grids(janus, "a cat") == before


# the context


def test_a_prompt_that_leaves_no_room_says_how_many_tokens_over(janus: Janus, rows_run: list[int]) -> None:
    room = janus.config.language.max_position_embeddings - CELLS - len(plan_drawing("1", janus.tokenizer))
    with pytest.raises(PromptError, match=r"is 3 tokens too long"):
        janus.draw("1" * (1 + room + 3))
    assert rows_run == []


def test_a_negative_prompt_that_leaves_no_room_is_refused_too(janus: Janus) -> None:
    with pytest.raises(PromptError, match=r"tokens too long"):
        janus.draw("a cat", negative_prompt="1" * 300)
