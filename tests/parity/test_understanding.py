from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import Answer, Janus, TextOptions, Turn
from janus_core.generation.prefill import PaddedPrompts, pad_left
from janus_core.inputs.prompting import Role

ATOL = 1e-4
CASES = ("one_image", "two_images", "text_only", "multi_turn")
GREEDY = TextOptions(temperature=0.0, max_new_tokens=30)
PLACEHOLDER = "<image_placeholder>"


class Cases:
    """The golden conversations, ready to be asked of one model."""

    def __init__(self, janus: Janus, facts: dict[str, Any], pictures: dict[str, Path]) -> None:
        self.janus = janus
        self.facts = facts
        self.pictures = pictures

    def turns(self, case: str) -> list[Turn]:
        said, images = self.facts["cases"][case]["messages"][:-1], self.images(case)
        turns = []
        for message in said:
            text, count = message["content"], message["content"].count(PLACEHOLDER)
            role: Role = "user" if "User" in message["role"] else "assistant"
            turns.append(Turn(role=role, text=text, images=tuple(images[:count])))
            images = images[count:]
        return turns

    def images(self, case: str) -> list[Path]:
        return [self.pictures[image] for image in self.facts["cases"][case]["images"]]

    def padded(self, *cases: str) -> PaddedPrompts:
        plans = [self.janus.plan_conversation(self.turns(case)) for case in cases]
        return pad_left(plans, self.janus.tokenizer.special.pad, torch.device("cpu"))

    @torch.inference_mode()
    def logits(self, *cases: str) -> Tensor:
        prompts, images = self.padded(*cases), [image for case in cases for image in self.images(case)]
        seen = self.janus.see(images) if images else None
        language = self.janus.model.language
        embeddings = language.embed_prompt(prompts.token_ids, prompts.is_image, seen, torch.float32)
        model = language.language_model
        logits: Tensor = model.lm_head(model(embeddings, prompts.positions, attended=prompts.attended))
        return logits

    def answers(self, *cases: str) -> list[Answer]:
        return self.janus.answer([self.turns(case) for case in cases], options=GREEDY)


@pytest.fixture(scope="session")
def cases(janus: Janus, facts: dict[str, Any], pictures: dict[str, Path]) -> Cases:
    return Cases(janus, facts, pictures)


def test_every_golden_case_is_tested(facts: dict[str, Any]) -> None:
    assert tuple(facts["cases"]) == CASES


@pytest.mark.parametrize("case", CASES)
def test_prompt_ids_equal_the_golden_ones(cases: Cases, golden: dict[str, Tensor], case: str) -> None:
    assert torch.equal(cases.padded(case).token_ids, golden[f"und.{case}.input_ids"])


@pytest.mark.parametrize("case", CASES)
def test_places_of_image_features_equal_the_golden_ones(
    cases: Cases, golden: dict[str, Tensor], case: str
) -> None:
    assert torch.equal(cases.padded(case).is_image, golden[f"und.{case}.images_seq_mask"])


@pytest.mark.parametrize("case", CASES)
def test_a_lone_prompt_is_attended_to_everywhere(cases: Cases, golden: dict[str, Tensor], case: str) -> None:
    assert cases.padded(case).attended is None
    assert bool(golden[f"und.{case}.attention_mask"].all())


@pytest.mark.parametrize("case", CASES)
def test_the_number_of_image_features_equals_the_golden_one(
    cases: Cases, golden: dict[str, Tensor], case: str
) -> None:
    used = golden[f"und.{case}.images_emb_mask"].sum()
    assert cases.padded(case).is_image.sum() == used


@pytest.mark.parametrize("case", CASES)
def test_logits_of_the_last_positions_equal_the_golden_ones(
    cases: Cases, golden: dict[str, Tensor], case: str
) -> None:
    assert_close(cases.logits(case)[:, -16:], golden[f"und.{case}.logits_last16"], atol=ATOL, rtol=0)


def test_logits_of_all_positions_equal_the_golden_ones(cases: Cases, golden: dict[str, Tensor]) -> None:
    assert_close(cases.logits("one_image"), golden["und.one_image.logits"], atol=ATOL, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_greedy_tokens_equal_the_golden_ones(cases: Cases, golden: dict[str, Tensor], case: str) -> None:
    assert list(cases.answers(case)[0].token_ids) == golden[f"und.{case}.greedy_ids"][0].tolist()


@pytest.mark.parametrize("case", CASES)
def test_the_greedy_answer_reads_as_the_golden_text(cases: Cases, facts: dict[str, Any], case: str) -> None:
    assert cases.answers(case)[0].text == facts["cases"][case]["greedy_text_skip_special"].strip()


# the left-padded batch


@pytest.fixture
def batch(facts: dict[str, Any]) -> list[str]:
    order: list[str] = facts["batch"]["order"]
    return order


def test_batched_prompts_are_padded_on_the_left_like_the_golden_ones(
    cases: Cases, golden: dict[str, Tensor], batch: list[str]
) -> None:
    assert torch.equal(cases.padded(*batch).token_ids, golden["und.batch.input_ids"])


def test_batched_prompts_attend_where_the_golden_ones_do(
    cases: Cases, golden: dict[str, Tensor], batch: list[str]
) -> None:
    attended = cases.padded(*batch).attended
    assert attended is not None
    assert torch.equal(attended, golden["und.batch.attention_mask"].bool())


def test_batched_prompts_place_image_features_where_the_golden_ones_do(
    cases: Cases, golden: dict[str, Tensor], batch: list[str]
) -> None:
    assert torch.equal(cases.padded(*batch).is_image, golden["und.batch.images_seq_mask"])


def test_each_row_of_a_batch_uses_as_many_image_features_as_the_golden_one(
    cases: Cases, golden: dict[str, Tensor], batch: list[str]
) -> None:
    used = golden["und.batch.images_emb_mask"].sum(dim=(1, 2))
    assert torch.equal(cases.padded(*batch).is_image.sum(dim=1), used)


def test_batched_logits_equal_the_golden_ones_where_attended(
    cases: Cases, golden: dict[str, Tensor], batch: list[str]
) -> None:
    attended = golden["und.batch.attention_mask"][:, -16:].bool()
    found, expected = cases.logits(*batch)[:, -16:], golden["und.batch.logits_last16"]
    assert_close(found[attended], expected[attended], atol=ATOL, rtol=0)


def test_batched_greedy_tokens_equal_the_golden_ones(
    cases: Cases, golden: dict[str, Tensor], batch: list[str]
) -> None:
    found = [list(answer.token_ids) for answer in cases.answers(*batch)]
    assert found == golden["und.batch.greedy_ids"].tolist()
