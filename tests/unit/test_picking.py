"""Choosing among given answers, and scoring by yes and no, against the plainest way of computing both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from janus_core import Compute, Janus, PromptError, SamplingError, Score, Task, Turn, best_first
from janus_core.generation import scoring
from janus_core.generation.answering import Prompts
from janus_core.generation.choosing import _chosen, checked_choices
from janus_core.generation.prefill import pad_left, prefill
from janus_core.generation.scoring import read_scores, score_question, verdict_tree
from janus_core.generation.spelling import Spelling, SpellingTree, spellings
from janus_core.model.kv_cache import kv_cache_bytes
from janus_core.residency.memory import answer_bytes, spell_bytes

from .conftest import CPU, TINY

CHOICES = ["red", "a red house", "a", "blue and green", "a red"]
QUESTION = "Which?"
Tree = tuple[Sequence[Spelling], Sequence[Spelling]]


class StoppedByTestError(Exception):
    """Raised by callbacks, as a host does to interrupt."""


@torch.inference_mode()
def plain_logarithms(janus: Janus, turns: list[Turn], tokens: Sequence[int]) -> torch.Tensor:
    """Return log probabilities (t, v) of what follows a prompt and each of `tokens` but the last.

    One row, no cache, no padding, no tree.
    """
    language = janus.model.language
    plan = janus.plan_conversation(turns)
    images = [image for turn in turns for image in turn.images]
    ids = torch.tensor([[*plan.token_ids, *tokens[:-1]]])
    is_image = torch.tensor([[*plan.is_image, *[False] * (len(tokens) - 1)]])
    seen = janus.see(images) if images else None
    embeddings = language.embed_prompt(ids, is_image, seen, torch.float32)
    hidden = language.language_model(embeddings, torch.arange(ids.shape[1])[None])
    scores = language.language_model.lm_head(hidden)[0, len(plan) - 1 :].double()
    return scores.log_softmax(-1)


def plain_probability(janus: Janus, turns: list[Turn], before: Spelling, texts: Sequence[Spelling]) -> float:
    """Return how probable it is that one of some spellings follows a prompt and what is written already."""
    whole = 0.0
    for spelling in texts:
        rows = plain_logarithms(janus, turns, (*before, *spelling))[len(before) :]
        whole += math.exp(sum(float(row[token]) for row, token in zip(rows, spelling, strict=True)))
    return whole


def asked(picture: Image.Image, question: str = QUESTION) -> list[Turn]:
    return [Turn(role="user", text=question, images=(picture,))]


def plain_choice(janus: Janus, picture: Image.Image, choices: Sequence[str]) -> list[float]:
    eos = (janus.tokenizer.special.eos,)
    whole = [
        plain_probability(
            janus, asked(picture), (), [one + eos for one in spellings(choice, janus.tokenizer)]
        )
        for choice in choices
    ]
    return [one / sum(whole) for one in whole]


def plain_score(janus: Janus, picture: Image.Image, tree: Tree, most: float = 0.5) -> Score:
    """Write greedily, and read yes and no at the first position where they have most of the probability."""
    turns, written = asked(picture), list[int]()
    for position in range(scoring.SCORE_TOKENS):
        yes, no = (plain_probability(janus, turns, tuple(written), texts) for texts in tree)
        score = Score(probability=yes / (yes + no), share=yes + no, position=position)
        if position == 0:
            first = score
        if score.share > most:
            return score
        written.append(int(plain_logarithms(janus, turns, (*written, 0))[-1].argmax()))
        if written[-1] == janus.tokenizer.special.eos:
            break
    return first


def greedy(janus: Janus, picture: Image.Image, count: int) -> Spelling:
    written: Spelling = ()
    for _ in range(count):
        written += (int(plain_logarithms(janus, asked(picture), (*written, 0))[-1].argmax()),)
    return written


def same(found: Sequence[float], expected: Sequence[float]) -> None:
    assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-5, rtol=1e-3)


# trees


def test_spellings_begin_behind_a_blank_or_without_one(janus: Janus) -> None:
    assert [janus.tokenizer.decode(one) for one in spellings("red", janus.tokenizer)] == [" red", "red"]


def test_a_tree_holds_what_spellings_share_once() -> None:
    tree = SpellingTree([[(1, 2, 3)], [(1, 2)], [(4,), (1, 5, 6)]])
    assert tree.tokens == [1, 2, 5]  # what ends a spelling is followed by nothing
    assert tree.firsts == [1, 4]
    assert tree.depth == 3


@pytest.mark.parametrize("count", [1, 3], ids=["one", "several"])
def test_a_tree_reads_what_each_spelling_gets_alone(janus: Janus, count: int) -> None:
    # more places than are scored together, spellings within others, and one longer than the rest
    texts: list[list[Spelling]] = [
        [(7, 9, 11)], [(7, 9)], [(7,), (9, 7)], [(8, 8, 8, 8, 8, 8)], [(30,)], [(7, 9, 12, 13), (40, 41, 42)],
    ]  # fmt: skip
    questions = ["Who?", "What is in this picture, and why?", "Is it night?"][:count]  # of different length
    turns = [[Turn(role="user", text=question)] for question in questions]
    plans = [janus.plan_conversation(one) for one in turns]
    tree = SpellingTree(texts)
    with torch.inference_mode():
        padded = pad_left(plans, janus.tokenizer.special.pad, CPU)
        sequences = prefill(
            janus.model.language, padded, None, new_tokens=len(tree.tokens), compute=janus.compute
        )
        found = [tree.read(janus.model.language.language_model, sequences, janus.compute) for _ in range(2)]
    for row, one in enumerate(turns):
        expected = [plain_probability(janus, one, (), text) for text in texts]
        same(found[0][row].exp().tolist(), expected)
    assert torch.equal(*found)  # reading leaves nothing behind


# choosing


def test_probabilities_are_those_of_whole_answers(janus: Janus, pictures: list[Image.Image]) -> None:
    [found] = janus.choose(pictures[0], QUESTION, CHOICES)
    expected = plain_choice(janus, pictures[0], CHOICES)
    same(found.probabilities, expected)
    assert found.index == max(range(len(CHOICES)), key=expected.__getitem__)
    assert found.text == CHOICES[found.index]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_batch_chooses_as_each_picture_alone(
    janus: Janus, pictures: list[Image.Image], batch_size: int
) -> None:
    together = janus.choose(pictures, QUESTION, CHOICES, batch_size=batch_size)
    for picture, found in zip(pictures, together, strict=True):
        [alone] = janus.choose(picture, QUESTION, CHOICES)
        assert (found.text, found.index) == (alone.text, alone.index)
        same(found.probabilities, alone.probabilities)


def test_the_order_of_the_choices_only_orders_the_result(janus: Janus, pictures: list[Image.Image]) -> None:
    [found] = janus.choose(pictures[0], QUESTION, CHOICES)
    [turned] = janus.choose(pictures[0], QUESTION, CHOICES[::-1])
    assert turned.text == found.text
    assert turned.index == len(CHOICES) - 1 - found.index
    assert sum(found.probabilities) == pytest.approx(1)


def test_a_temperature_draws_by_probability() -> None:
    whole = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64).log() - 50
    drawn = Counter(_chosen(whole.expand(4000, -1), 1.0, 0))
    assert [drawn[index] / 4000 for index in range(3)] == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    assert Counter(_chosen(whole.expand(100, -1), 0.0, 0)) == {0: 100}


def test_seeds_of_a_batch_count_on(janus: Janus, pictures: list[Image.Image]) -> None:
    # a picture's own seed decides, whichever batch it is in
    many = [pictures[0]] * 12
    whole = [one.index for one in janus.choose(many, QUESTION, CHOICES, temperature=2, seed=5, batch_size=5)]
    alone = [
        janus.choose(pictures[0], QUESTION, CHOICES, temperature=2, seed=5 + row)[0].index
        for row in range(12)
    ]
    assert whole == alone
    assert len(set(whole)) > 1


def test_the_temperature_leaves_the_probabilities_alone(janus: Janus, pictures: list[Image.Image]) -> None:
    [cold], [hot] = (
        janus.choose(pictures[0], QUESTION, CHOICES, temperature=temperature) for temperature in (0, 2)
    )
    assert cold.probabilities == hot.probabilities


def test_half_precision_chooses(make_janus: Callable[..., Janus], pictures: list[Image.Image]) -> None:
    half = make_janus(torch.bfloat16)
    found = half.choose(pictures, QUESTION, CHOICES)
    assert all(sum(one.probabilities) == pytest.approx(1) for one in found)


BAD_CHOICES = {
    "none": ([], "There are no choices"),
    "one": (["red"], "There is 1 choice"),
    "an empty one": (["red", " ", "blue"], "Choice 2 is empty"),
    "the same twice": (["red", "blue", " red"], '"red" comes 2 times'),
}


@pytest.mark.parametrize(("choices", "message"), BAD_CHOICES.values(), ids=BAD_CHOICES)
def test_choices_that_are_none_are_refused(choices: list[str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        checked_choices(choices)


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a batch of none": ({"batch_size": 0}, "batch_size is 0"),
    "too hot": ({"temperature": 2.5}, "temperature is 2.5"),
    "half a seed": ({"seed": 0.5}, "seed is 0.5"),
}


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_options_out_of_range_are_refused(
    janus: Janus, pictures: list[Image.Image], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SamplingError, match=message):
        janus.choose(pictures, QUESTION, CHOICES, **options)


def test_a_choice_that_does_not_fit_into_the_context_is_refused(
    janus: Janus, pictures: list[Image.Image]
) -> None:
    with pytest.raises(PromptError, match="too long"):
        janus.choose(pictures, QUESTION, ["red", "1" * 250])


# scoring


@pytest.mark.parametrize("depth", [1, 3], ids=lambda depth: f"{depth} tokens")
@pytest.mark.parametrize("start", [0, 4], ids=lambda start: f"written at {start}")
def test_a_score_is_read_at_the_first_position_where_yes_and_no_have_most(
    janus: Janus,
    pictures: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    start: int,
    depth: int,
) -> None:
    # what the model is going to write takes the place of yes, so that it comes late and in several tokens
    written = greedy(janus, pictures[0], start + depth)
    tree: Tree = ([written[start:]], [(7, 9), (9,)])
    monkeypatch.setattr(scoring, "verdict_tree", lambda tokenizer: SpellingTree(tree))
    monkeypatch.setattr(scoring, "_MOST", 0.1)  # random weights are not sure of three tokens on end
    for found, picture in zip(janus.score(pictures[:2], "", question=QUESTION), pictures, strict=False):
        expected = plain_score(janus, picture, tree, most=0.1)
        assert found.position == expected.position
        same([found.probability, found.share], [expected.probability, expected.share])
        assert found.is_verdict == (expected.share > 0.1)


def test_a_late_verdict_is_found(
    janus: Janus, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = greedy(janus, pictures[0], 16)
    chances = plain_logarithms(janus, asked(pictures[0]), written).exp()  # (t, v)
    late = next(
        place
        for place in range(2, 16)
        if chances[place, written[place]] > 0.3 and (chances[:place, written[place]] < 0.2).all()
    )
    monkeypatch.setattr(
        scoring, "verdict_tree", lambda tokenizer: SpellingTree([[(written[late],)], [(7, 9)]])
    )
    monkeypatch.setattr(scoring, "_MOST", 0.25)
    [found] = janus.score(pictures[0], "", question=QUESTION)
    assert found.is_verdict
    assert found.position == late


def test_without_a_verdict_the_first_token_is_read(janus: Janus, pictures: list[Image.Image]) -> None:
    words = [
        [one for word in spoken for one in spellings(word, janus.tokenizer)]
        for spoken in (("yes", "Yes", "YES"), ("no", "No", "NO"))
    ]
    for found, picture in zip(janus.score(pictures, "", question=QUESTION), pictures, strict=True):
        yes, no = (plain_probability(janus, asked(picture), (), texts) for texts in words)
        assert not found.is_verdict
        assert found.position == 0
        same([found.probability, found.share], [yes / (yes + no), yes + no])


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_batch_scores_as_each_picture_alone(
    janus: Janus, pictures: list[Image.Image], batch_size: int
) -> None:
    together = janus.score(pictures, "a cat", batch_size=batch_size)
    for picture, found in zip(pictures, together, strict=True):
        [alone] = janus.score(picture, "a cat")
        assert found.position == alone.position
        same([found.probability, found.share], [alone.probability, alone.share])


def test_a_prompt_that_leaves_little_room_is_scored(janus: Janus, pictures: list[Image.Image]) -> None:
    depth = verdict_tree(janus.tokenizer).depth
    room = TINY.language.max_position_embeddings - len(janus.plan_conversation(asked(pictures[0], "1")))
    fits = "1" * (room - depth + 1)
    assert janus.score(pictures[0], "", question=fits)[0].position == 0
    with pytest.raises(PromptError, match="is 1 tokens too long"):
        janus.score(pictures[0], "", question=fits + "1")


def test_pictures_are_counted_and_a_callback_may_interrupt(janus: Janus, pictures: list[Image.Image]) -> None:
    steps: list[tuple[int, int]] = []
    janus.choose(pictures, QUESTION, CHOICES, batch_size=2, on_step=lambda *step: steps.append(step))
    assert steps == [(2, 3), (3, 3)]
    steps.clear()
    janus.score(pictures, "a cat", batch_size=2, on_step=lambda *step: steps.append(step))
    assert list(dict.fromkeys(steps)) == [(0, 3), (2, 3), (3, 3)]
    assert len(steps) > 6  # between tokens too

    def interrupt(done: int, total: int) -> None:
        raise StoppedByTestError

    with pytest.raises(StoppedByTestError):
        janus.score(pictures, "a cat", on_step=interrupt)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_name_their_picture(
    janus: Janus, pictures: list[Image.Image], value: float
) -> None:
    seeing, seen = janus.model.seeing, list[int]()

    def spoil(_: object, __: object, embeddings: torch.Tensor) -> torch.Tensor:
        seen.append(len(embeddings))
        if len(seen) == 2:  # the second batch
            embeddings = embeddings.clone()
            embeddings[0] = value
        return embeddings

    for call in (
        lambda: janus.choose(pictures, QUESTION, CHOICES, batch_size=2),
        lambda: janus.score(pictures, "a cat", batch_size=2),
    ):
        seen.clear()
        hook = seeing.register_forward_hook(spoil)
        try:
            with pytest.raises(SamplingError) as caught:
                call()
        finally:
            hook.remove()
        assert caught.value.rows == (2,)


def test_scores_that_break_late_name_their_row(janus: Janus, pictures: list[Image.Image]) -> None:
    head, calls = janus.model.language.language_model.lm_head, list[int]()

    def spoil(_: object, __: object, logits: torch.Tensor) -> torch.Tensor:
        calls.append(len(logits))
        if len(calls) > 4:
            logits = logits.clone()
            logits[1:] = math.nan
        return logits

    hook = head.register_forward_hook(spoil)
    try:
        with pytest.raises(SamplingError) as caught:
            janus.score(pictures, "a cat")
    finally:
        hook.remove()
    assert caught.value.rows == (1, 2)


# questions and ranks


@pytest.mark.parametrize(
    ("prompt", "question", "asked_for"),
    [
        ("a cat", scoring.SCORE_QUESTION, "Does this picture show a cat?"),
        (" A cat. ", scoring.SCORE_QUESTION, "Does this picture show A cat?"),
        ("{red}", "Is {prompt} there, {prompt}?", "Is {red} there, {red}?"),
        ("", "Is it sharp?", "Is it sharp?"),
    ],
)
def test_the_prompt_stands_in_the_question(prompt: str, question: str, asked_for: str) -> None:
    assert score_question(prompt, question) == asked_for


BAD_QUESTIONS = {
    "no prompt": ("", scoring.SCORE_QUESTION, "There is no prompt to score by"),
    "a full stop": (".", scoring.SCORE_QUESTION, "There is no prompt to score by"),
    "no place": ("a cat", "Is it there?", "has no place for the prompt"),
    "no question": ("a cat", " ", "The question is empty"),
}


@pytest.mark.parametrize(("prompt", "question", "message"), BAD_QUESTIONS.values(), ids=BAD_QUESTIONS)
def test_questions_and_prompts_that_do_not_fit_are_refused(
    janus: Janus, pictures: list[Image.Image], prompt: str, question: str, message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        janus.score(pictures, prompt, question=question)


def scored(*probabilities: float) -> list[Score]:
    return [Score(probability=one, share=1.0, position=0) for one in probabilities]


@pytest.mark.parametrize(
    ("keep_best", "kept"), [(0, [1, 3, 0, 2]), (1, [1]), (3, [1, 3, 0]), (4, [1, 3, 0, 2]), (9, [1, 3, 0, 2])]
)
def test_the_best_come_first_and_equals_in_their_order(keep_best: int, kept: list[int]) -> None:
    assert best_first(scored(0.5, 0.9, 0.1, 0.9), keep_best) == kept


@pytest.mark.parametrize("keep_best", [-1, 1.5, True])
def test_a_number_to_keep_that_is_none_is_refused(keep_best: Any) -> None:
    with pytest.raises(SamplingError, match="keep_best is"):
        best_first(scored(0.5), keep_best)


# memory


def test_weights_and_memory_are_asked_for_once_a_batch(janus: Janus, pictures: list[Image.Image]) -> None:
    asked_for: list[tuple[tuple[str, ...], int]] = []

    class Owner:
        def ready(self, *tasks: Task, memory_required: int) -> Compute:
            asked_for.append((tasks, memory_required))
            return janus.compute

    owned = replace(janus, owner=Owner())
    owned.choose(pictures, QUESTION, CHOICES, batch_size=2)
    owned.score(pictures, "a cat", batch_size=2)
    assert [tasks for tasks, _ in asked_for] == [("see", "answer")] * 4
    two, one = asked_for[0][1], asked_for[1][1]
    assert two > one > kv_cache_bytes(TINY.language, 1, 60, torch.float32)


def test_a_tree_counts_in_memory() -> None:
    small, large = (spell_bytes(TINY, 2, 50, tokens, 10, torch.float32) for tokens in (4, 400))
    kept = 2 * 4 * TINY.language.hidden_size * torch.float32.itemsize
    assert small > answer_bytes(TINY, 2, 50, 14, torch.float32)
    assert large - small > 396 * kept


def test_read_scores_needs_no_picture(janus: Janus) -> None:
    plans = [janus.plan_conversation([Turn(role="user", text="Is water wet?")])]
    with torch.inference_mode():
        [found] = read_scores(
            janus.model.language,
            Prompts(plans=plans, image_embeddings=None),
            janus.tokenizer,
            compute=janus.compute,
        )
    assert 0 < found.probability < 1
