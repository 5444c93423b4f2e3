from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import Compute
from janus_core.checkpoints.load import assign_weights
from janus_core.flow.flow_checkpoint import FlowCheckpoint, read_flow_checkpoint
from janus_core.flow.flow_model import JanusFlowModel
from janus_core.flow.flow_network import Encoded
from janus_core.flow.flow_prompts import FlowPlan, plan_flow_pictures
from janus_core.flow.solvers import integrate
from janus_core.flow.velocity import GuidedVelocity, PreparedRows, embed_rows, prepare_rows

ATOL = 1e-4
PROMPTS = ("0", "1")
TIMES = ("t0", "t250", "t433")
COMPUTE = Compute(device=torch.device("cpu"), dtype=torch.float32)
FOLDER = Path(__file__).parent / "golden" / "janusflow-tiny"


def equal(found: Tensor, expected: Tensor) -> None:
    assert_close(found, expected, atol=ATOL, rtol=0)


class Drawn:
    """One golden drawing: its rows, and what the model computes of them."""

    def __init__(
        self, model: JanusFlowModel, checkpoint: FlowCheckpoint, facts: dict[str, Any], z0: Tensor
    ) -> None:
        self.model = model
        self.times = facts["t_exact"]
        self.z0 = z0
        self.plans = plan_flow_pictures([facts["text"]], "", range(len(z0)), checkpoint.tokenizer)
        self.latent_tokens = checkpoint.config.num_latent_tokens

    @property
    def velocity(self) -> GuidedVelocity:
        return GuidedVelocity(self.model, self.plans, 2.0, latent_tokens=self.latent_tokens, compute=COMPUTE)

    def rows(self) -> PreparedRows:
        plans: list[FlowPlan] = self.plans
        rows = [plan.cond for plan in plans] + [plan.uncond for plan in plans]
        return prepare_rows(self.model, rows, self.latent_tokens, COMPUTE)

    def encoded(self, t: float) -> Encoded:
        return self.model.flow.encode(self.z0, torch.full((len(self.z0),), t)).repeated(2)

    def time(self, name: str) -> float:
        return float(self.times[TIMES.index(name)]) / 1000


@pytest.fixture(scope="module")
def loaded() -> tuple[FlowCheckpoint, JanusFlowModel]:
    checkpoint, model = read_flow_checkpoint(FOLDER)
    assign_weights(model, checkpoint.state_dict)
    return checkpoint, model


@pytest.fixture(scope="module", params=PROMPTS)
def prompt(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def drawn(
    loaded: tuple[FlowCheckpoint, JanusFlowModel],
    flow_golden: dict[str, Tensor],
    flow_facts: dict[str, Any],
    prompt: str,
) -> Drawn:
    checkpoint, model = loaded
    return Drawn(model, checkpoint, flow_facts["generation"][prompt], flow_golden[f"flow.{prompt}.z0"])


def test_every_golden_prompt_is_tested(flow_facts: dict[str, Any]) -> None:
    assert tuple(flow_facts["generation"]) == PROMPTS


def test_prompt_ids_equal_the_golden_ones_but_for_the_dropped_last(
    drawn: Drawn, flow_golden: dict[str, Tensor], prompt: str
) -> None:
    golden_rows = flow_golden[f"flow.{prompt}.prompt_ids"][: len(drawn.z0)].tolist()
    assert [[*plan.cond.token_ids] for plan in drawn.plans] == [row[:-1] for row in golden_rows]


def test_what_an_unconditional_row_attends_to_equals_the_golden_mask(
    drawn: Drawn, flow_golden: dict[str, Tensor], prompt: str
) -> None:
    ids, mask = flow_golden[f"flow.{prompt}.prompt_ids"], flow_golden[f"flow.{prompt}.attention_mask"]
    row = drawn.plans[0].uncond
    seen = mask[-1].nonzero().flatten().tolist()  # positions: they count the hidden ones, too
    expected = [*range(len(row.token_ids)), *range(row.time_position, row.time_position + 17)]
    assert seen == expected
    assert list(row.token_ids) == ids[-1, : len(row.token_ids)].tolist()
    assert bool(mask[0].all())


def test_rows_of_one_drawing_are_padded_on_the_left(drawn: Drawn) -> None:
    plan = drawn.plans[0]
    padded = embed_rows(drawn.model.language, [plan.cond, plan.uncond], COMPUTE)
    assert padded.attended is not None
    assert padded.attended.sum(dim=1).tolist() == [len(plan.cond.token_ids), 1]
    assert padded.time_positions.flatten().tolist() == [plan.cond.time_position] * 2


@torch.inference_mode()
@pytest.mark.parametrize("time", TIMES)
def test_velocities_of_both_rows_equal_the_golden_ones(
    drawn: Drawn, flow_golden: dict[str, Tensor], prompt: str, time: str
) -> None:
    cond, uncond = drawn.velocity.both(drawn.z0, drawn.time(time))
    assert uncond is not None
    equal(cond, flow_golden[f"flow.{prompt}.{time}.v_cond"])
    equal(uncond, flow_golden[f"flow.{prompt}.{time}.v_uncond"])


@torch.inference_mode()
@pytest.mark.parametrize("time", TIMES)
def test_guided_velocities_equal_the_golden_ones(
    drawn: Drawn, flow_golden: dict[str, Tensor], prompt: str, time: str
) -> None:
    equal(drawn.velocity(drawn.z0, drawn.time(time)), flow_golden[f"flow.{prompt}.{time}.v_cfg"])


@torch.inference_mode()
def test_what_the_encoder_makes_equals_the_golden_tensors(
    drawn: Drawn, flow_golden: dict[str, Tensor], prompt: str
) -> None:
    encoded = drawn.encoded(250)
    equal(encoded.features, flow_golden[f"flow.{prompt}.t250.enc"])
    equal(encoded.time, flow_golden[f"flow.{prompt}.t250.t_emb"])


@torch.inference_mode()
def test_what_the_language_model_says_equals_the_golden_tensors(
    drawn: Drawn, flow_golden: dict[str, Tensor], prompt: str
) -> None:
    encoded = drawn.encoded(250)
    hidden = drawn.rows().hidden(encoded)
    equal(hidden, flow_golden[f"flow.{prompt}.t250.llm_last"])
    equal(drawn.model.flow.joined_input(hidden, encoded), flow_golden[f"flow.{prompt}.t250.dec_in"])


@torch.inference_mode()
def test_euler_steps_equal_the_golden_ones(drawn: Drawn, flow_golden: dict[str, Tensor], prompt: str) -> None:
    states: list[Tensor] = []
    integrate(drawn.velocity, drawn.z0, steps=4, on_latents=lambda _, latents: states.append(latents))
    equal(states[0], flow_golden[f"flow.{prompt}.traj.z1"])
    equal(states[1], flow_golden[f"flow.{prompt}.traj.z2"])
    equal(states[2], flow_golden[f"flow.{prompt}.traj.z3"])
    equal(states[3], flow_golden[f"flow.{prompt}.traj.z4"])
