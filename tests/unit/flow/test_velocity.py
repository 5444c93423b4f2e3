from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import PromptError, SamplingError
from janus_core.flow.flow_model import JanusFlowModel
from janus_core.flow.flow_noise import normal_noise
from janus_core.flow.flow_prompts import FlowRow, plan_flow_pictures, prompt_row
from janus_core.flow.solvers import integrate
from janus_core.flow.velocity import GuidedVelocity, PreparedRows, embed_rows, rows_of_one_length
from janus_core.inputs.text_tokenizer import TextTokenizer

from .conftest import COMPUTE, FLOW_TINY, random_flow_model

TOKENS = FLOW_TINY.num_latent_tokens
SIDE = FLOW_TINY.latent_side
PROMPTS = ("a red circle", "three green triangles above a blue square")

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients() -> object:
    with torch.inference_mode():
        yield


def start(*seeds: int) -> Tensor:
    return normal_noise(seeds, (4, SIDE, SIDE))


class Flow:
    """Makes guided velocities of one model."""

    def __init__(self, model: JanusFlowModel, tokenizer: TextTokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def guided(self, prompts: tuple[str, ...], negative: str = "", cfg_weight: float = 2.0) -> GuidedVelocity:
        plans = plan_flow_pictures(prompts, negative, [0], self.tokenizer)
        return GuidedVelocity(self.model, plans, cfg_weight, latent_tokens=TOKENS, compute=COMPUTE)


@pytest.fixture
def flow(flow_model: JanusFlowModel, flow_tokenizer: TextTokenizer) -> Flow:
    return Flow(flow_model, flow_tokenizer)


def at_once(model: JanusFlowModel, row: FlowRow, latents: Tensor, t: float) -> Tensor:
    """Compute a row's velocity in one pass without a cache, hidden pads in their places: the authors' way."""
    ids = [*row.token_ids, *[7] * (row.time_position - len(row.token_ids))]
    encoded = model.flow.encode(latents, torch.tensor([t * 1000]))
    decoder = model.language.language_model
    words = decoder.embed_words(torch.tensor([ids]), torch.float32)
    sequence = torch.cat((words, encoded.embeddings), dim=1)
    attended = torch.ones(1, sequence.shape[1], dtype=torch.bool)
    attended[:, len(row.token_ids) : len(ids)] = False
    hidden = decoder(sequence, torch.arange(sequence.shape[1])[None], attended=attended)
    return model.flow.decode(hidden[:, len(ids) + 1 :], encoded)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.9])
def test_prompts_kept_from_step_to_step_equal_recomputing_everything(flow: Flow, t: float) -> None:
    velocity, z = flow.guided(PROMPTS[:1]), start(1)
    velocity(start(9), 0.1)  # what an earlier step stored is not looked at
    cond, uncond = velocity.both(z, t)
    [plan] = plan_flow_pictures(PROMPTS[:1], "", [0], flow.tokenizer)
    assert uncond is not None
    assert_close(cond, at_once(flow.model, plan.cond, z, t), atol=1e-5, rtol=0)
    assert_close(uncond, at_once(flow.model, plan.uncond, z, t), atol=1e-5, rtol=0)


def test_pictures_drawn_together_equal_pictures_drawn_alone(flow: Flow) -> None:
    together = integrate(flow.guided(PROMPTS), start(1, 2), steps=3)
    alone = [
        integrate(flow.guided((prompt,)), start(seed), steps=3)
        for prompt, seed in zip(PROMPTS, (1, 2), strict=True)
    ]
    assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_guidance_of_1_is_the_prompts_own_velocity(flow: Flow) -> None:
    cond, _ = flow.guided(PROMPTS[:1]).both(start(1), 0.3)
    assert_close(flow.guided(PROMPTS[:1], cfg_weight=1.0)(start(1), 0.3), cond)


def test_guidance_of_0_is_the_velocity_without_the_prompt(flow: Flow) -> None:
    _, uncond = flow.guided(PROMPTS[:1]).both(start(1), 0.3)
    assert uncond is not None
    assert_close(flow.guided(PROMPTS[:1], cfg_weight=0.0)(start(1), 0.3), uncond)


def test_without_guidance_half_the_rows_are_computed(flow: Flow) -> None:
    rows: list[int] = []
    hook = flow.model.flow.decoder.register_forward_hook(lambda _m, _i, output: rows.append(len(output)))
    try:
        flow.guided(PROMPTS)(start(1, 2), 0.0)
        flow.guided(PROMPTS, cfg_weight=1.0)(start(1, 2), 0.0)
    finally:
        hook.remove()
    assert rows == [4, 2]


def test_an_empty_prompt_draws_unconditionally(flow: Flow) -> None:
    row = prompt_row("  ", flow.tokenizer)
    assert row.token_ids == (flow.tokenizer.special.bos,)
    cond, uncond = flow.guided(("",)).both(start(1), 0.3)
    assert uncond is None
    assert_close(cond, at_once(flow.model, row, start(1), 0.3), atol=1e-5, rtol=0)


def test_a_negative_prompt_is_a_row_of_its_own(flow: Flow) -> None:
    cond, uncond = flow.guided(PROMPTS[:1], negative=PROMPTS[1]).both(start(1), 0.3)
    other, _ = flow.guided(PROMPTS[1:]).both(start(1), 0.3)
    assert uncond is not None
    assert_close(uncond, other, atol=1e-5, rtol=0)
    assert float((cond - uncond).abs().max()) > 1e-3


def test_rows_of_one_length_need_no_mask_and_equal_padded_ones(flow: Flow) -> None:
    row, encoded = (
        prompt_row(PROMPTS[0], flow.tokenizer),
        flow.model.flow.encode(start(1), torch.full((1,), 300.0)),
    )
    words = embed_rows(flow.model.language, [row], COMPUTE).words
    prepared = PreparedRows(flow.model, rows_of_one_length(words, row.time_position), TOKENS, COMPUTE)
    cond, _ = flow.guided(PROMPTS[:1]).both(start(1), 0.3)
    assert_close(prepared.velocities(encoded), cond, atol=1e-5, rtol=0)


def test_the_language_model_reads_latents_in_order(flow: Flow) -> None:
    changed = start(1).clone()
    changed[:, :, -2:, -2:] += 1  # the last token
    encoded = [flow.model.flow.encode(z, torch.zeros(1)).embeddings for z in (start(1), changed)]
    assert_close(encoded[0][:, 0], encoded[1][:, 0])  # the time comes first
    decoder, positions = flow.model.language.language_model, torch.arange(1 + TOKENS)[None]
    first, second = (decoder(x, positions) for x in encoded)
    last = (encoded[0] - encoded[1]).abs().amax(dim=(0, 2)).nonzero().flatten()[0]
    assert_close(first[:, :last], second[:, :last])
    assert float((first[:, last:] - second[:, last:]).abs().max()) > 1e-3


def test_a_prompt_that_leaves_no_room_is_refused(flow: Flow) -> None:
    with pytest.raises(
        PromptError, match="tokens too long: with 4 tokens of the picture it must fit into 256"
    ):
        flow.guided(("word " * 300,))


def test_numbers_that_are_not_finite_are_an_error_that_names_the_dtype(flow_tokenizer: TextTokenizer) -> None:
    model = random_flow_model()
    model.flow.decoder.unpatch_conv.bias.fill_(torch.nan)
    with pytest.raises(SamplingError, match=r"not finite, computing in float32\. Choose the dtype"):
        Flow(model, flow_tokenizer).guided(PROMPTS)(start(1, 2), 0.0)
