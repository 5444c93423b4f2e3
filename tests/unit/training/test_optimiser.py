"""Muon and AdamW side by side: which parameters go where, and what they remember."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from janus_core.errors import ConfigError
from janus_training.optimiser import Optimiser, hidden_matrices
from janus_training.recipe import find_recipe
from janus_training.weights import new_model

RATE = 0.01


def matrix(rows: int, columns: int, seed: int) -> nn.Parameter:
    parameter = nn.Parameter(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))
    parameter.grad = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed + 1))
    return parameter


def change(parameter: nn.Parameter, is_hidden: bool) -> Tensor:
    before = parameter.detach().clone()
    Optimiser([parameter], {parameter} if is_hidden else set(), weight_decay=0.0).step(RATE)
    return before - parameter.detach()


def test_a_hidden_matrix_changes_along_all_its_directions_alike() -> None:
    sizes = torch.linalg.svdvals(change(matrix(16, 16, 1), is_hidden=True))
    assert sizes.max() / sizes.min() < 3
    assert torch.linalg.svdvals(matrix(16, 16, 1).grad).max() > 10 * sizes.max()  # type: ignore[arg-type]


def test_both_change_by_about_the_same_size() -> None:
    muon, adamw = (change(matrix(64, 64, 1), is_hidden).square().mean().sqrt() for is_hidden in (True, False))
    assert 0.1 < muon / adamw < 1


def test_other_parameters_change_by_the_learning_rate_at_first() -> None:
    assert torch.allclose(change(matrix(4, 4, 1), is_hidden=False).abs(), torch.tensor(RATE), rtol=1e-3)


@pytest.mark.parametrize("is_hidden", [True, False])
def test_moments_put_back_lead_to_the_same_step(is_hidden: bool) -> None:
    going, resumed = matrix(8, 8, 1), matrix(8, 8, 1)
    first = Optimiser([going], {going} if is_hidden else set(), weight_decay=0.1)
    first.step(RATE)
    resumed.data.copy_(going.data)
    second = Optimiser([resumed], {resumed} if is_hidden else set(), weight_decay=0.1)
    second.set_moments(resumed, {name: value.clone() for name, value in first.moments(going).items()})

    first.step(RATE)
    second.step(RATE)

    assert torch.equal(going, resumed)


def test_what_needs_no_gradient_is_left_out() -> None:
    still = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    assert Optimiser([still], {still}, weight_decay=0.0).parameters == []


def test_hidden_are_the_matrices_inside_blocks_of_decoder_and_tower() -> None:
    model = new_model(find_recipe("micro").model.to_config(), 1)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[parameter] for parameter in hidden_matrices(model)}
    assert "language.language_model.layers.1.mlp.down_proj.weight" in found
    assert "seeing.vision_tower.blocks.0.attention.qkv.weight" in found
    assert not any(word in name for name in found for word in ("embed", "head", "aligner", "norm", "bias"))
    assert len(found) == 2 * 7 + 1 * 4


def test_an_old_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    parameter = matrix(2, 2, 1)
    with pytest.raises(ConfigError, match=r"torch 2\.9 or newer"):
        Optimiser([parameter], {parameter}, weight_decay=0.0)
