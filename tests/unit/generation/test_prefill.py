from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from janus_core import Janus, JanusConfig, PromptError
from janus_core.generation.prefill import PaddedPrompts, check_context, pad_left, prefill, shared_words
from janus_core.generation.steps import Sequences
from janus_core.inputs.prompting import PromptPlan, plan_drawing

CPU = torch.device("cpu")
PROMPTS = ("a cat", "a red house beside the river", "it")


def plan(*token_ids: int, images: tuple[int, ...] = ()) -> PromptPlan:
    is_image = tuple(token in images for token in token_ids)
    return PromptPlan(token_ids=token_ids, is_image=is_image, num_images=len(images))


@pytest.fixture
def padded() -> PaddedPrompts:
    return pad_left([plan(1, 2, 3, images=(2,)), plan(4)], 9, CPU)


@pytest.fixture(scope="session")
def plans(janus: Janus) -> list[PromptPlan]:
    return [plan_drawing(prompt, janus.tokenizer) for prompt in PROMPTS]


def begin(janus: Janus, plans: list[PromptPlan], new_tokens: int = 4) -> Sequences:
    prompts = pad_left(plans, janus.tokenizer.special.pad, CPU, shared=shared_words(plans))
    return prefill(janus.model.language, prompts, None, new_tokens=new_tokens, compute=janus.compute)


# padding


def test_shorter_prompts_are_padded_on_the_left(padded: PaddedPrompts) -> None:
    assert padded.token_ids.tolist() == [[1, 2, 3], [9, 9, 4]]


def test_places_of_pictures_move_with_their_prompt(padded: PaddedPrompts) -> None:
    assert padded.is_image.tolist() == [[False, True, False], [False, False, False]]


def test_positions_count_real_tokens_from_zero(padded: PaddedPrompts) -> None:
    assert padded.positions.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_padding_is_not_attended_to(padded: PaddedPrompts) -> None:
    assert padded.attended is not None
    assert padded.attended.tolist() == [[True, True, True], [False, False, True]]


def test_prompts_of_one_length_need_no_padding() -> None:
    prompts = pad_left([plan(1, 2), plan(3, 4)], 9, CPU)
    assert prompts.attended is None
    assert prompts.positions.tolist() == [[0, 1], [0, 1]]


# what prompts share

SYSTEM = tuple(range(20, 40))


def sharing(*ends: tuple[int, ...]) -> list[PromptPlan]:
    return [plan(*SYSTEM, *end) for end in ends]


def test_what_all_prompts_begin_with_stays_on_the_left_of_the_padding() -> None:
    prompts = pad_left(sharing((1, 2, 3), (4,)), 9, CPU, shared=20)
    assert prompts.token_ids.tolist() == [[*SYSTEM, 1, 2, 3], [*SYSTEM, 9, 9, 4]]
    assert prompts.positions.tolist() == [list(range(23)), [*range(20), 20, 20, 20]]
    assert prompts.attended is not None
    assert prompts.attended[:, 20:].tolist() == [[True, True, True], [False, False, True]]
    assert prompts.attended[:, :20].all()


def test_equal_prompts_keep_a_token_of_their_own() -> None:
    assert shared_words(sharing((), ())) == 19


@pytest.mark.parametrize(
    "plans",
    [sharing((1, 2)), [plan(1, 2, 3), plan(1, 2, 4)], [plan(*SYSTEM, 1, images=SYSTEM)] * 2],
    ids=["a single prompt", "a few tokens", "pictures"],
)
def test_nothing_is_shared_where_it_would_not_pay(plans: list[PromptPlan]) -> None:
    assert shared_words(plans) == 0


def test_a_picture_ends_what_is_shared() -> None:
    plans = [plan(*SYSTEM, 1, 2, images=(SYSTEM[17],)), plan(*SYSTEM, 3, images=(SYSTEM[17],))]
    assert shared_words(plans) == 17


def test_shared_words_are_computed_once(janus: Janus, rows_run: list[int]) -> None:
    begin(janus, sharing((1, 2, 3), (4,), (5, 6)))
    assert rows_run == [1, 3]


# the context


def test_a_prompt_that_just_fits_is_accepted(config: JanusConfig) -> None:
    check_context([plan(*range(240))], config.language, 16)


@pytest.mark.parametrize(("length", "needed", "over"), [(241, 16, 1), (300, 1, 45)])
def test_a_prompt_that_does_not_fit_says_how_many_tokens_over(
    config: JanusConfig, length: int, needed: int, over: int
) -> None:
    with pytest.raises(PromptError, match=rf"is {over} tokens too long.*fit into 256\b"):
        check_context([plan(1), plan(*range(length))], config.language, needed)


# sequences


@pytest.mark.parametrize("row", range(3))
def test_a_prompt_among_others_equals_the_prompt_alone(
    janus: Janus, plans: list[PromptPlan], row: int
) -> None:
    alone, together = begin(janus, [plans[row]]), begin(janus, plans)
    assert_close(together.hidden[row], alone.hidden[0])
