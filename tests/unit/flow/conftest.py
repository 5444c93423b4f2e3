"""A JanusFlow small enough for every test: seeded random weights, more blocks than the golden one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from janus_core import Compute
from janus_core.checkpoints.load import assign_weights
from janus_core.flow.flow_config import FlowConfig, JanusFlowConfig
from janus_core.flow.flow_model import JanusFlowModel, build_flow_model
from janus_core.inputs.text_tokenizer import TextTokenizer, read_tokenizer
from janus_core.model.config import AlignerConfig

from ..conftest import GOLDEN, TINY

FLOW_TINY = JanusFlowConfig(
    vision=replace(TINY.vision, image_size=32, patch_size=8),
    understanding_aligner=AlignerConfig(depth=1, input_width=32, output_width=32),
    language=TINY.language,
    flow=FlowConfig(latent_channels=4, channels=16, encoder_blocks=2, decoder_blocks=2, norm_eps=1e-6),
    preprocess=replace(TINY.preprocess, image_size=32),
)
COMPUTE = Compute(device=torch.device("cpu"), dtype=torch.float32)


def random_flow_model(config: JanusFlowConfig = FLOW_TINY) -> JanusFlowModel:
    model = build_flow_model(config)
    made = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(tensor.shape, generator=made) * 0.1 + (1.0 if "norm" in name else 0.0)
        for name, tensor in model.state_dict().items()
    }
    assign_weights(model, weights)
    return model


@pytest.fixture(scope="session")
def flow_model() -> JanusFlowModel:
    return random_flow_model()


@pytest.fixture(scope="session")
def flow_tokenizer() -> TextTokenizer:
    return read_tokenizer(GOLDEN / "janusflow-tiny")
