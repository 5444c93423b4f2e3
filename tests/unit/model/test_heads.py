from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.testing import assert_close

from janus_core.model.config import AlignerConfig, GenerationHeadConfig
from janus_core.model.heads import Aligner, GenerationHead


def filled(module: nn.Module) -> dict[str, Tensor]:
    """Give a module seeded weights and return them."""
    generator = torch.Generator().manual_seed(3)
    weights = {name: torch.randn(old.shape, generator=generator) for name, old in module.state_dict().items()}
    module.load_state_dict(weights)
    return weights


def aligner(depth: int) -> Aligner:
    return Aligner(AlignerConfig(depth=depth, input_width=3, output_width=5), nn)


@pytest.mark.parametrize(("depth", "places"), [(1, [0]), (2, [0, 2]), (3, [0, 2, 4])])
def test_layers_of_an_aligner_carry_the_published_numbers(depth: int, places: list[int]) -> None:
    expected = {f"layers.{place}.{name}" for place in places for name in ("weight", "bias")}
    assert set(aligner(depth).state_dict()) == expected


def test_an_aligner_of_one_layer_is_linear() -> None:
    module, x = aligner(1), torch.arange(6.0).reshape(2, 3)
    w = filled(module)
    assert_close(module(x), x @ w["layers.0.weight"].T + w["layers.0.bias"])


def test_an_aligner_of_two_layers_has_an_exact_gelu_between_them() -> None:
    module, x = aligner(2), torch.arange(6.0).reshape(2, 3) / 6
    w = filled(module)
    inner = gelu(x @ w["layers.0.weight"].T + w["layers.0.bias"], approximate="none")
    assert_close(module(x), inner @ w["layers.2.weight"].T + w["layers.2.bias"])


def test_the_generation_head_has_an_exact_gelu_between_its_layers() -> None:
    module = GenerationHead(GenerationHeadConfig(input_width=3, inner_width=4, codebook_size=7), nn)
    w, x = filled(module), torch.arange(6.0).reshape(2, 3) / 6
    inner = gelu(x @ w["inner.weight"].T + w["inner.bias"], approximate="none")
    assert_close(module(x), inner @ w["output.weight"].T + w["output.bias"])
