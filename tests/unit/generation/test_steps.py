"""What every decoder does, streamed or static, with sequences that a prefill left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import Janus
from janus_core.generation.prefill import pad_left, prefill, shared_words
from janus_core.generation.static_decoder import StaticDecoder
from janus_core.generation.steps import Decoder, Sequences, StreamedDecoder
from janus_core.inputs.prompting import PromptPlan, plan_drawing
from janus_core.model.language_model import LanguageModel

CPU = torch.device("cpu")
PROMPTS = ("a cat", "a red house beside the river", "it")
SYSTEM = tuple(range(20, 40))
STEPS = 5
DECODERS: dict[str, Callable[[LanguageModel, Sequences, torch.dtype], Decoder]] = {
    "streamed": StreamedDecoder,
    "static": StaticDecoder,
}
Begin = Callable[[Sequence[PromptPlan]], tuple[Tensor, Decoder]]


@pytest.fixture(params=DECODERS)
def begin(request: pytest.FixtureRequest, janus: Janus) -> Begin:
    """Return a function of prompts: the hidden states after them, and a decoder that goes on from there."""

    @torch.inference_mode()
    def begin(plans: Sequence[PromptPlan]) -> tuple[Tensor, Decoder]:
        sequences = filled(janus, plans)
        model = janus.model.language.language_model
        return sequences.hidden, DECODERS[request.param](model, sequences, torch.float32)

    return begin


def filled(janus: Janus, plans: Sequence[PromptPlan], new_tokens: int = STEPS) -> Sequences:
    prompts = pad_left(plans, janus.tokenizer.special.pad, CPU, shared=shared_words(plans))
    return prefill(janus.model.language, prompts, None, new_tokens=new_tokens, compute=janus.compute)


@pytest.fixture(scope="session")
def plans(janus: Janus) -> list[PromptPlan]:
    return [plan_drawing(prompt, janus.tokenizer) for prompt in PROMPTS]


def plan(*token_ids: int) -> PromptPlan:
    return PromptPlan(token_ids=token_ids, is_image=(False,) * len(token_ids), num_images=0)


def word(janus: Janus, *token_ids: int) -> Tensor:
    embedded: Tensor = janus.model.language.language_model.embed_tokens(torch.tensor(token_ids))
    return embedded


def go(janus: Janus, decoder: Decoder, rows: Sequence[int]) -> list[Tensor]:
    """Feed each row words of its own; return the hidden states of every step."""
    found = []
    for step in range(STEPS):
        decoder.prepare(step)
        found.append(decoder.step(word(janus, *(50 + row + step for row in rows))))
    return found


@pytest.mark.parametrize("row", range(3))
@torch.inference_mode()
def test_what_follows_a_prompt_among_others_equals_what_follows_it_alone(
    janus: Janus, plans: list[PromptPlan], begin: Begin, row: int
) -> None:
    _, alone = begin([plans[row]])
    _, together = begin(plans)
    for single, several in zip(go(janus, alone, [row]), go(janus, together, range(3)), strict=True):
        assert_close(several[row], single[0])


@pytest.mark.parametrize("row", range(3))
@torch.inference_mode()
def test_prompts_that_share_words_go_on_as_they_would_alone(janus: Janus, begin: Begin, row: int) -> None:
    plans = [plan(*SYSTEM, *end) for end in ((1, 2, 3), (4,), (5, 6))]
    first, alone = begin([plans[row]])
    hidden, together = begin(plans)
    assert_close(hidden[row], first[0])
    for single, several in zip(go(janus, alone, [row]), go(janus, together, range(3)), strict=True):
        assert_close(several[row], single[0])


@torch.inference_mode()
def test_steps_equal_one_pass_over_all_tokens(janus: Janus, begin: Begin) -> None:
    _, decoder = begin([plan(*SYSTEM)])
    whole = filled(janus, [plan(*SYSTEM, *range(50, 50 + STEPS))])
    assert_close(go(janus, decoder, [0])[-1], whole.hidden)


@pytest.mark.parametrize("rows", [[2], [1, 0, 2], [0, 0, 2, 1, 1]], ids=["drop", "reorder", "repeat"])
@pytest.mark.parametrize("done", [0, 2])
@torch.inference_mode()
def test_selected_rows_go_on_as_they_were(
    janus: Janus, plans: list[PromptPlan], begin: Begin, rows: list[int], done: int
) -> None:
    (_, everything), (_, selected) = begin(plans), begin(plans)
    for step in range(done):
        for decoder in (everything, selected):
            decoder.prepare(step)
            decoder.step(word(janus, 60, 61, 62))
    selected = selected.select(rows)
    everything.prepare(done)
    selected.prepare(done)
    expected = everything.step(word(janus, 50, 51, 52))[rows]
    assert_close(selected.step(word(janus, *(50 + row for row in rows))), expected)


@torch.inference_mode()
def test_selected_rows_have_memory_of_their_own(janus: Janus, plans: list[PromptPlan], begin: Begin) -> None:
    _, decoder = begin(plans)
    _, expected = begin(plans)
    go(janus, decoder.select([1, 1]), [7, 8])
    for found, wanted in zip(go(janus, decoder, range(3)), go(janus, expected, range(3)), strict=True):
        assert_close(found, wanted)


@torch.inference_mode()
def test_what_is_fed_stays_as_it_was(janus: Janus, plans: list[PromptPlan], begin: Begin) -> None:
    embeddings = word(janus, 50, 51, 52)
    before = embeddings.clone()
    begin(plans)[1].step(embeddings)
    assert torch.equal(embeddings, before)


# sequences


@pytest.mark.parametrize("rows", [[2], [1, 0, 2], [0, 0, 2, 1, 1]], ids=["drop", "reorder", "repeat"])
@torch.inference_mode()
def test_selected_sequences_go_on_as_they_were(
    janus: Janus, plans: list[PromptPlan], rows: list[int]
) -> None:
    model = janus.model.language.language_model
    whole = StreamedDecoder(model, filled(janus, plans), torch.float32)
    some = StreamedDecoder(model, filled(janus, plans).select(rows), torch.float32)
    expected = whole.step(word(janus, 50, 51, 52))[rows]
    assert_close(some.step(word(janus, *(50 + row for row in rows))), expected)


def test_selecting_all_rows_copies_nothing(janus: Janus, plans: list[PromptPlan]) -> None:
    sequences = filled(janus, plans)
    assert sequences.select([0, 1, 2]) is sequences
