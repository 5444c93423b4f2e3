from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from janus_core import Janus, PromptError, TextOptions, Turn

GREEDY = TextOptions(temperature=0.0, max_new_tokens=12)
SAMPLED = TextOptions(temperature=1.0, top_p=1.0, max_new_tokens=12)
QUESTIONS = (
    "Who?",
    "What is in this picture, and why?",
    "Is it night?",
    "Where?",
    "How many people are there?",
)

Say = Callable[..., None]


class StoppedByTestError(Exception):
    """Raised by callbacks, as a host does to interrupt."""


def asked(question: str, *images: Image.Image) -> list[Turn]:
    return [Turn(role="user", text=question, images=images)]


def answers(
    janus: Janus, questions: Sequence[str], options: TextOptions = SAMPLED, seed: int = 0
) -> list[tuple[int, ...]]:
    found = janus.answer([asked(question) for question in questions], options=options, seed=seed)
    return [answer.token_ids for answer in found]


def answer(janus: Janus, question: str, options: TextOptions = SAMPLED, seed: int = 0) -> tuple[int, ...]:
    return answers(janus, [question], options, seed)[0]


@torch.inference_mode()
def greedy_without_cache(janus: Janus, turns: list[Turn], count: int) -> tuple[int, ...]:
    """Answer greedily in the plainest way: the whole sequence again for every token."""
    plan, language = janus.plan_conversation(turns), janus.model.language
    model = language.language_model
    images = [image for turn in turns for image in turn.images]
    embeddings = language.embed_prompt(
        torch.tensor([plan.token_ids]),
        torch.tensor([plan.is_image]),
        janus.see(images) if images else None,
        torch.float32,
    )
    chosen: list[int] = []
    for _ in range(count):
        hidden = model(embeddings, torch.arange(embeddings.shape[1])[None])
        chosen.append(int(model.lm_head(hidden[:, -1]).argmax()))
        embeddings = torch.cat((embeddings, model.embed_tokens(torch.tensor([chosen[-1:]]))), dim=1)
    return tuple(chosen)


# greedy


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_with_a_cache_equals_one_without(janus: Janus, question: str) -> None:
    assert answer(janus, question, GREEDY) == greedy_without_cache(janus, asked(question), 12)


def test_an_answer_about_pictures_with_a_cache_equals_one_without(
    janus: Janus, pictures: list[Image.Image]
) -> None:
    turns = asked("Which is brighter?", *pictures[:2])
    [found] = janus.answer([turns], options=GREEDY)
    assert found.token_ids == greedy_without_cache(janus, turns, 12)


@pytest.mark.parametrize("narrowest", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}], ids=str)
def test_temperature_zero_equals_the_narrowest_choice(janus: Janus, narrowest: dict[str, Any]) -> None:
    only = replace(SAMPLED, **narrowest)
    assert answer(janus, "Who?", GREEDY, seed=3) == answer(janus, "Who?", only, seed=4)


def test_pictures_of_several_turns_are_seen_in_their_order(janus: Janus, pictures: list[Image.Image]) -> None:
    turns = [*asked("Who?", pictures[0]), Turn(role="assistant", text="Me."), *asked("And?", pictures[1])]
    [found] = janus.answer([turns], options=GREEDY)
    assert found.token_ids == greedy_without_cache(janus, turns, 12)


def test_pictures_change_the_answer(janus: Janus, pictures: list[Image.Image]) -> None:
    first, second = janus.answer([asked("Who?", picture) for picture in pictures[:2]], options=GREEDY)
    assert first.token_ids != second.token_ids


# batches


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_batch_of_questions_of_different_length_equals_single_ones(
    janus: Janus, options: TextOptions
) -> None:
    singles = [answer(janus, question, options, seed=7 + row) for row, question in enumerate(QUESTIONS)]
    assert answers(janus, QUESTIONS, options, seed=7) == singles


def test_a_batch_with_different_numbers_of_pictures_equals_single_ones(
    janus: Janus, pictures: list[Image.Image]
) -> None:
    conversations = [asked("Who?", *pictures[:2]), asked("Where is it?"), asked("Why?", pictures[2])]
    singles = [janus.answer([turns], options=GREEDY)[0] for turns in conversations]
    assert janus.answer(conversations, options=GREEDY) == singles


def test_each_row_draws_its_own_noise(janus: Janus) -> None:
    assert len(set(answers(janus, ["Who?"] * 5))) == 5


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_end_of_one_answer_leaves_the_others_as_they_are_alone(
    janus: Janus, options: TextOptions
) -> None:
    free = answers(janus, QUESTIONS[:3], options)
    tokenizer = copy.copy(janus.tokenizer)
    tokenizer.special = replace(tokenizer.special, eos=free[1][2])
    ending = replace(janus, tokenizer=tokenizer)
    together = answers(ending, QUESTIONS[:3], options)
    singles = [answer(ending, question, options, seed=row) for row, question in enumerate(QUESTIONS[:3])]
    assert together == singles
    assert together[1] == free[1][:3]
    assert max(len(tokens) for tokens in together) == 12


def test_finished_rows_are_no_longer_computed(janus: Janus, say: Say, rows_run: list[int]) -> None:
    say("I", "I am", "I am here now")
    lengths = [len(janus.tokenizer.encode(text)) for text in ("I", "I am", "I am here now")]
    janus.answer([asked(question) for question in QUESTIONS[:3]])
    expected = [sum(length > step for length in lengths) for step in range(lengths[-1])]
    assert rows_run == [1, 3, *expected]  # the system text once, then the questions


def test_no_conversation_gives_no_answer(janus: Janus) -> None:
    assert janus.answer([]) == []


# seeds


def test_the_same_seed_gives_the_same_answer(janus: Janus) -> None:
    assert answer(janus, "Who?", seed=5) == answer(janus, "Who?", seed=5)


def test_another_seed_gives_another_answer(janus: Janus) -> None:
    assert answer(janus, "Who?", seed=5) != answer(janus, "Who?", seed=6)


@pytest.mark.parametrize("row", range(5))
def test_each_member_of_a_batch_equals_the_answer_of_its_seed(janus: Janus, row: int) -> None:
    assert answers(janus, ["Who?"] * 5, seed=40)[row] == answer(janus, "Who?", seed=40 + row)


def test_seeds_count_modulo_two_to_the_64(janus: Janus) -> None:
    assert answer(janus, "Who?", seed=-1) == answer(janus, "Who?", seed=2**64 - 1)


def test_a_longer_answer_extends_a_shorter_one(janus: Janus) -> None:
    short = answer(janus, "Who?", replace(SAMPLED, max_new_tokens=5), seed=5)
    assert answer(janus, "Who?", seed=5)[:5] == short


def test_an_answer_goes_on_past_the_noise_computed_in_one_block(
    janus: Janus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answers(janus, QUESTIONS[:2], seed=5)
    monkeypatch.setattr("janus_core.generation.writing.block_words", lambda rows: 5)
    assert answers(janus, QUESTIONS[:2], seed=5) == whole


# length


def test_an_answer_tells_the_length_of_its_prompt(janus: Janus) -> None:
    found = janus.answer([asked(question) for question in QUESTIONS], options=GREEDY)
    expected = [len(janus.plan_conversation(asked(question))) for question in QUESTIONS]
    assert [one.prompt_tokens for one in found] == expected


@pytest.mark.parametrize("count", [1, 5, 12])
def test_an_answer_has_at_most_the_tokens_allowed(janus: Janus, count: int) -> None:
    assert len(answer(janus, "Who?", replace(GREEDY, max_new_tokens=count))) == count


# interruption and progress


def test_steps_are_counted(janus: Janus) -> None:
    steps: list[tuple[int, int]] = []
    janus.answer([asked("Who?")], options=GREEDY, on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 12) for done in range(1, 13)]


def test_raising_in_a_step_stops_at_once(janus: Janus, rows_run: list[int]) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise StoppedByTestError

    with pytest.raises(StoppedByTestError):
        janus.answer([asked("Who?")], options=GREEDY, on_step=interrupt)
    assert len(rows_run) == 3


def test_a_model_is_usable_after_an_interruption(janus: Janus) -> None:
    before = answer(janus, "Who?")

    def interrupt(row: int, text: str) -> None:
        raise StoppedByTestError

    with pytest.raises(StoppedByTestError):
        janus.ask("Who?", on_text=interrupt)
    assert answer(janus, "Who?") == before


# the repetition penalty


def test_a_strong_penalty_keeps_tokens_from_coming_back(janus: Janus) -> None:
    options = TextOptions(max_new_tokens=60)
    free = answer(janus, "Who?", options)
    penalised = answer(janus, "Who?", replace(options, repetition_penalty=10.0))
    assert len(set(free)) < 60
    assert len(set(penalised)) == 60


def test_a_penalty_leaves_the_first_token_alone(janus: Janus) -> None:
    penalised = replace(GREEDY, repetition_penalty=10.0)
    assert answer(janus, "Who?", penalised)[0] == answer(janus, "Who?", GREEDY)[0]


def test_a_penalty_counts_each_row_for_itself(janus: Janus) -> None:
    options = TextOptions(max_new_tokens=20, repetition_penalty=10.0)
    assert answers(janus, QUESTIONS, options) == [answer(janus, question, options) for question in QUESTIONS]


def test_a_penalty_stays_with_its_row_when_an_earlier_one_ends(janus: Janus) -> None:
    options = TextOptions(max_new_tokens=60, repetition_penalty=10.0)
    tokenizer = copy.copy(janus.tokenizer)
    tokenizer.special = replace(tokenizer.special, eos=answer(janus, "Who?", options)[15])
    first, *others = answers(replace(janus, tokenizer=tokenizer), QUESTIONS, options)
    assert len(first) == 16
    assert max(len(tokens) for tokens in others) > 40
    assert all(len(set(tokens)) == len(tokens) for tokens in others)


# the context


def long_question(janus: Janus, length: int) -> str:
    """Return a question whose prompt has exactly `length` tokens."""
    words = length - len(janus.plan_conversation(asked("1")))
    return "1" * (words + 1)


def test_a_prompt_that_fills_the_context_says_how_many_tokens_over(janus: Janus) -> None:
    with pytest.raises(PromptError, match=r"is 5 tokens too long"):
        janus.ask(long_question(janus, 260))


def test_the_context_ends_an_answer(janus: Janus) -> None:
    assert len(answer(janus, long_question(janus, 250), GREEDY)) == 6


def test_a_long_neighbour_does_not_shorten_an_answer(janus: Janus) -> None:
    questions = [long_question(janus, 250), "Who?"]
    singles = [answer(janus, question, GREEDY) for question in questions]
    assert answers(janus, questions, GREEDY) == singles
