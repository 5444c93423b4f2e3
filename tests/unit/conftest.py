"""A model small enough for every test: seeded random weights round the tokenizer of the tiny checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from janus_core import Compute, Janus, JanusConfig, build_model
from janus_core.checkpoints.load import assign_weights
from janus_core.inputs.image_tokens import codebook_identity
from janus_core.inputs.text_tokenizer import TextTokenizer, read_tokenizer
from janus_core.model.config import (
    AlignerConfig,
    GenerationHeadConfig,
    LanguageConfig,
    PreprocessConfig,
    VisionConfig,
    VQConfig,
)

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
HALVES = (0.5, 0.5, 0.5)
CPU = torch.device("cpu")
Say = Callable[..., None]

# Four query heads share two key heads; 4 × 4 image tokens of 4 × 4 pixels.
TINY = JanusConfig(
    vision=VisionConfig(
        image_size=16,
        patch_size=4,
        width=32,
        layers=2,
        heads=4,
        mlp_ratio=2.0,
        pixel_mean=None,
        pixel_std=None,
    ),
    understanding_aligner=AlignerConfig(depth=2, input_width=32, output_width=32),
    language=LanguageConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        vocab_size=416,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
    ),
    generation_aligner=AlignerConfig(depth=2, input_width=8, output_width=32),
    generation_head=GenerationHeadConfig(input_width=32, inner_width=32, codebook_size=64),
    vq=VQConfig(
        codebook_size=64,
        code_width=8,
        base_channels=32,
        channel_multipliers=(1, 2, 1),
        num_res_blocks=1,
        latent_channels=16,
        norm_groups=32,
    ),
    preprocess=PreprocessConfig(
        image_size=16,
        min_size=4,
        image_mean=HALVES,
        image_std=HALVES,
        rescale_factor=1 / 255,
        do_normalize=True,
    ),
    old_roles=False,
)


def random_weights(config: JanusConfig) -> dict[str, Tensor]:
    """Draw weights that keep activations near unit size, so that every choice has a clear winner."""
    generator = torch.Generator().manual_seed(20_25)
    weights = {}
    for name, parameter in build_model(config).state_dict().items():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("embedding.weight") or "embed_tokens" in name or "codebook" in name:
            weights[name] = noise
        elif noise.ndim > 1:
            weights[name] = noise / noise[0].numel() ** 0.5
        else:
            weights[name] = noise * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    # Louder heads: a draw then depends on the prompt, and a greedy choice has no near-tie.
    for head in ("language.language_model.lm_head.weight", "language.generation_head.output.weight"):
        weights[head] *= 4
    return weights


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # the model is tiny: several threads mostly wait for each other


@pytest.fixture(scope="session")
def config() -> JanusConfig:
    return TINY


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return read_tokenizer(GOLDEN / "janus-tiny-bin")


@pytest.fixture(scope="session")
def weights(config: JanusConfig) -> dict[str, Tensor]:
    return random_weights(config)


@pytest.fixture(scope="session")
def make_janus(
    config: JanusConfig, tokenizer: TextTokenizer, weights: dict[str, Tensor]
) -> Callable[[torch.dtype], Janus]:
    """Return a function of a dtype: the tiny model with all weights and all arithmetic in it."""

    def make(dtype: torch.dtype) -> Janus:
        model = build_model(config)
        assign_weights(model, {name: tensor.to(dtype) for name, tensor in weights.items()})
        identity = codebook_identity(model.vq_tokenizer.codebook.weight)
        compute = Compute(device=CPU, dtype=dtype)
        return Janus(model=model, tokenizer=tokenizer, codebook=identity, compute=compute, vq_dtype=dtype)

    return make


@pytest.fixture(scope="session")
def janus(make_janus: Callable[[torch.dtype], Janus]) -> Janus:
    return make_janus(torch.float32)


@pytest.fixture
def fresh(make_janus: Callable[[torch.dtype], Janus]) -> Janus:
    """Return a model of its own, for a test that does something to it."""
    return make_janus(torch.float32)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(7)
    return [Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.fixture
def rows_run(janus: Janus) -> Iterator[list[int]]:
    """Record how many rows each pass of the decoder has."""
    rows: list[int] = []
    decoder = janus.model.language.language_model
    hook = decoder.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    yield rows
    hook.remove()


@pytest.fixture
def say(janus: Janus) -> Iterator[Say]:
    """Return a function of texts: from then on row i of an answer says text i, whatever the model thinks."""
    hooks = []

    def script(*texts: str) -> None:
        tokenizer = janus.tokenizer
        rows = [[*tokenizer.encode(text), tokenizer.special.eos] for text in texts]
        step = 0

        def speak(_module: object, _inputs: object, logits: Tensor) -> Tensor:
            nonlocal step
            active = [row for row in rows if len(row) > step]  # the others have said their EOS
            active = active[len(active) - len(logits) :]  # a stop text ends a first row one step earlier
            scripted = torch.zeros_like(logits)
            for place, row in enumerate(active):
                scripted[place, row[step]] = 1000.0
            step += 1
            return scripted

        hooks.append(janus.model.language.language_model.lm_head.register_forward_hook(speak))

    yield script
    for hook in hooks:
        hook.remove()
