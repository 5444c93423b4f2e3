"""Answers by static steps and in blocks of tokens, on a CPU without graphs: the same as streamed ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from janus_core import Answer, Compute, Janus, TextOptions, Turn
from janus_core.generation import answering, static_decoder
from janus_core.generation.capturing import Pace
from janus_core.generation.static_decoder import StaticDecoder

QUESTIONS = (
    "Who?",
    "What is in this picture, and why?",
    "Is it night?",
    "Where?",
    "How many people are there?",
)
OPTIONS = {
    "greedy": TextOptions(max_new_tokens=40),
    "sampled": TextOptions(max_new_tokens=40, temperature=1.0, top_p=1.0),
    "filtered": TextOptions(max_new_tokens=20, temperature=0.9, top_k=30, top_p=0.9, min_p=0.01),
    "penalised": TextOptions(max_new_tokens=20, repetition_penalty=1.5),
    "stopped": TextOptions(max_new_tokens=40, temperature=1.0, top_p=1.0, stop=("e", "t")),
}


def answers(janus: Janus, options: TextOptions, images: Sequence[Image.Image] = ()) -> list[Answer]:
    turns = [[Turn(role="user", text=question)] for question in QUESTIONS]
    if images:
        turns[1] = [Turn(role="user", text=QUESTIONS[1], images=tuple(images))]
    return janus.answer(turns, options=options, seed=7)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a CPU take the way of a GPU, without graphs; returns the rows of every step."""
    rows: list[int] = []
    step = StaticDecoder.step

    def counted(self: StaticDecoder, embeddings: Tensor) -> Tensor:
        rows.append(len(embeddings))
        return step(self, embeddings)

    monkeypatch.setattr(StaticDecoder, "step", counted)
    monkeypatch.setattr(static_decoder, "may_capture", lambda model, compute: True)
    return rows


def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU look at its tokens as rarely as at those of a GPU."""

    monkeypatch.setattr(answering, "reads_in_blocks", lambda step, compute: True)


def ends_sometimes(janus: Janus) -> Janus:
    """Return a model for which a token that it often says is the end mark."""
    said = [token for answer in answers(janus, OPTIONS["greedy"]) for token in answer.token_ids[3:]]
    tokenizer = copy.copy(janus.tokenizer)
    tokenizer.special = replace(tokenizer.special, eos=max(set(said), key=said.count))
    return replace(janus, tokenizer=tokenizer)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("ends", [False, True], ids=["endless", "ending"])
@pytest.mark.parametrize("way", ["static", "in blocks"])
def test_the_answers_are_those_of_the_streamed_loop(
    janus: Janus, options: TextOptions, ends: bool, way: str, request: pytest.FixtureRequest
) -> None:
    model = ends_sometimes(janus) if ends else janus
    plain = answers(model, options)
    if way == "static":
        request.getfixturevalue("steps")
    else:
        in_blocks(request.getfixturevalue("monkeypatch"))
    assert answers(model, options) == plain


def test_pictures_among_the_prompts_change_nothing_of_it(
    janus: Janus, pictures: list[Image.Image], request: pytest.FixtureRequest
) -> None:
    plain = answers(janus, OPTIONS["greedy"], pictures[:2])
    request.getfixturevalue("steps")
    assert answers(janus, OPTIONS["greedy"], pictures[:2]) == plain


def test_finished_rows_leave_the_batch_once_enough_of_them_are(
    janus: Janus, request: pytest.FixtureRequest
) -> None:
    options = replace(OPTIONS["sampled"], stop=("k",))
    lengths = [len(answer.token_ids) for answer in answers(janus, options)]
    early = sum(length <= 16 for length in lengths)
    assert 2 <= early < len(lengths)
    assert max(lengths) > 33
    steps = request.getfixturevalue("steps")
    answers(janus, options)
    assert (
        steps[:31] == [5] * 31
    )  # the first token comes from the prefill; a second block was queued before a look
    assert steps[31] == 5 - sum(length <= 32 for length in lengths)


def test_a_block_reports_every_token(janus: Janus, steps: list[int]) -> None:
    done: list[int] = []
    texts: list[str] = []
    [answer] = janus.answer(
        [[Turn(role="user", text="Who?")]],
        options=TextOptions(max_new_tokens=20),
        on_step=lambda step, total: done.append(step),
        on_text=lambda row, text: texts.append(text),
    )
    assert done == list(range(1, len(answer.token_ids) + 1))
    assert len(texts) == len(answer.token_ids)
    assert texts[-1] == answer.text


def test_a_block_does_not_write_past_the_room_of_the_cache(janus: Janus, steps: list[int]) -> None:
    [answer] = janus.answer([[Turn(role="user", text="Who?")]], options=TextOptions(max_new_tokens=18))
    assert len(answer.token_ids) == 18
    assert len(steps) == 17


def test_no_more_than_one_block_is_queued_ahead(janus: Janus, steps: list[int]) -> None:
    """What an end mark makes needless is a block at most, and no row is written twice."""
    model = ends_sometimes(janus)
    steps.clear()
    [answer] = model.answer([[Turn(role="user", text="Who?")]], options=TextOptions(max_new_tokens=100))
    blocks = -(-len(answer.token_ids) // 16)
    assert blocks < 5
    assert len(steps) == 16 * (blocks + 1) - 1


@pytest.mark.parametrize(
    ("device", "is_resident", "rarely"),
    [("cuda", True, True), ("cuda", False, False), ("mps", True, False), ("cpu", True, False)],
)
def test_only_whole_models_on_cuda_are_looked_at_rarely(device: str, is_resident: bool, rarely: bool) -> None:
    class Step:
        can_be_captured = False

    compute = Compute(device=torch.device(device), dtype=torch.float32, is_resident=is_resident)
    assert answering.reads_in_blocks(Step(), compute) is rarely


def test_steps_under_way_end_before_an_error_goes_on(
    janus: Janus, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs may be dropped only then."""
    finished: list[int] = []

    def fail(*_: Any) -> Tensor:
        finished.clear()
        raise ValueError("no memory")

    monkeypatch.setattr(Pace, "finish", lambda _: finished.append(1))
    monkeypatch.setattr(StaticDecoder, "step", fail)
    with pytest.raises(ValueError, match="no memory"):
        answers(janus, OPTIONS["greedy"])
    assert finished == [1]
