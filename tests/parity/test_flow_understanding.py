from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import TextOptions, Turn
from janus_core.generation.prefill import PaddedPrompts, pad_left
from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values
from janus_core.inputs.prompting import Role
from janus_core.janus_flow import JanusFlow
from janus_core.loading import load_janus

ATOL = 1e-4
CASES = ("one_image", "text_only", "multi_turn")
IMAGES = ("landscape", "tiny")
GREEDY = TextOptions(temperature=0.0, max_new_tokens=20)
FOLDER = Path(__file__).parent / "golden" / "janusflow-tiny"


def equal(found: Tensor, expected: Tensor) -> None:
    assert_close(found, expected, atol=ATOL, rtol=0)


class Conversations:
    """The golden conversations, ready to be asked."""

    def __init__(self, janus: JanusFlow, facts: dict[str, Any], pictures: dict[str, Path]) -> None:
        self.janus = janus
        self.facts = facts
        self.pictures = pictures

    def images(self, case: str) -> list[Path]:
        return [self.pictures[image] for image in self.facts["cases"][case]["images"]]

    def turns(self, case: str) -> list[Turn]:
        said, images, turns = self.facts["cases"][case]["messages"][:-1], self.images(case), []
        for message in said:
            count = message["content"].count("<image_placeholder>")
            role: Role = "user" if message["role"] == "User" else "assistant"
            turns.append(Turn(role=role, text=message["content"], images=tuple(images[:count])))
            images = images[count:]
        return turns

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

    def greedy(self, *cases: str) -> list[list[int]]:
        answers = self.janus.answer([self.turns(case) for case in cases], options=GREEDY)
        return [list(answer.token_ids) for answer in answers]


@pytest.fixture(scope="module")
def janus_flow() -> JanusFlow:
    loaded = load_janus(FOLDER, dtype="float32", device="cpu")
    assert isinstance(loaded, JanusFlow)
    loaded.bring_all()
    return loaded


@pytest.fixture(scope="module")
def conversations(
    janus_flow: JanusFlow, flow_facts: dict[str, Any], pictures: dict[str, Path]
) -> Conversations:
    return Conversations(janus_flow, flow_facts, pictures)


# --- seeing ---


@pytest.mark.parametrize("image", IMAGES)
def test_pixel_values_equal_the_golden_ones(
    janus_flow: JanusFlow, flow_golden: dict[str, Tensor], pictures: dict[str, Path], image: str
) -> None:
    found = to_pixel_values(read_picture(pictures[image]), janus_flow.config.preprocess)
    equal(found, flow_golden[f"preprocess.{image}.pixel_values"])


@torch.inference_mode()
def test_image_features_equal_the_golden_ones(
    janus_flow: JanusFlow, flow_golden: dict[str, Tensor], flow_facts: dict[str, Any]
) -> None:
    pixels = torch.stack(
        [flow_golden[f"preprocess.{image}.pixel_values"] for image in flow_facts["image_order"]]
    )
    equal(janus_flow.model.seeing.vision_tower(pixels), flow_golden["vision.last_hidden"])


def test_image_embeddings_are_the_learned_one_and_the_golden_ones(
    janus_flow: JanusFlow,
    flow_golden: dict[str, Tensor],
    flow_facts: dict[str, Any],
    pictures: dict[str, Path],
) -> None:
    found = janus_flow.see([pictures[image] for image in flow_facts["image_order"]])
    equal(found[:, 1:], flow_golden["vision.aligner_out"])
    equal(found[:, :1], flow_golden["vision.beg_of_und_embed"].expand(len(found), 1, -1))


# --- conversations ---


def test_every_golden_case_is_tested(flow_facts: dict[str, Any]) -> None:
    assert tuple(flow_facts["cases"]) == CASES


@pytest.mark.parametrize("case", CASES)
def test_prompts_equal_the_golden_ones(
    conversations: Conversations, flow_golden: dict[str, Tensor], case: str
) -> None:
    padded = conversations.padded(case)
    assert torch.equal(padded.token_ids, flow_golden[f"und.{case}.input_ids"])
    assert torch.equal(padded.is_image, flow_golden[f"und.{case}.images_seq_mask"])
    assert padded.attended is None
    assert bool(flow_golden[f"und.{case}.attention_mask"].all())
    assert padded.is_image.sum() == flow_golden[f"und.{case}.images_emb_mask"].sum()


@pytest.mark.parametrize("case", CASES)
def test_logits_of_the_last_positions_equal_the_golden_ones(
    conversations: Conversations, flow_golden: dict[str, Tensor], case: str
) -> None:
    equal(conversations.logits(case)[:, -16:], flow_golden[f"und.{case}.logits_last16"])


@pytest.mark.parametrize("case", CASES)
def test_greedy_tokens_equal_the_golden_ones(
    conversations: Conversations, flow_golden: dict[str, Tensor], case: str
) -> None:
    assert conversations.greedy(case) == flow_golden[f"und.{case}.greedy_ids"].tolist()


@pytest.mark.parametrize("case", CASES)
def test_the_greedy_answer_reads_as_the_golden_text(
    conversations: Conversations, flow_facts: dict[str, Any], case: str
) -> None:
    [answer] = conversations.janus.answer([conversations.turns(case)], options=GREEDY)
    assert answer.text == flow_facts["cases"][case]["greedy_text_skip_special"].strip()


def test_a_batch_of_different_length_equals_the_golden_one(
    conversations: Conversations, flow_golden: dict[str, Tensor], flow_facts: dict[str, Any]
) -> None:
    order = flow_facts["batch"]["order"]
    padded, attended = conversations.padded(*order), flow_golden["und.batch.attention_mask"].bool()
    assert padded.attended is not None
    assert torch.equal(padded.token_ids, flow_golden["und.batch.input_ids"])
    assert torch.equal(padded.attended, attended)
    assert torch.equal(padded.is_image, flow_golden["und.batch.images_seq_mask"])
    used = flow_golden["und.batch.images_emb_mask"].sum(dim=(1, 2))
    assert torch.equal(padded.is_image.sum(dim=1), used)
    found, expected = conversations.logits(*order)[:, -16:], flow_golden["und.batch.logits_last16"]
    equal(found[attended[:, -16:]], expected[attended[:, -16:]])
    assert conversations.greedy(*order) == flow_golden["und.batch.greedy_ids"].tolist()
