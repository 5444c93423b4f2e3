"""Muon and AdamW side by side: which parameters go where, and what they remember."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from janus_training.optimiser import Optimiser, hidden_matrices, orthogonal
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


@pytest.mark.parametrize("shape", [(2, 12, 12), (2, 8, 24), (3, 24, 8)])
def test_matrices_are_made_orthogonal_each_for_itself(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonal(matrices)
    assert found.shape == shape
    for one, other in zip(found, matrices, strict=True):
        sizes = torch.linalg.svdvals(one)
        assert 0.5 < sizes.min() <= sizes.max() < 1.5
        torch.testing.assert_close(orthogonal(other[None])[0], one, atol=1e-4, rtol=1e-3)


def test_muon_takes_the_step_of_torchs_own_but_for_its_rounding() -> None:
    ours, theirs = matrix(16, 32, 1), matrix(16, 32, 1)
    reference = torch.optim.Muon([theirs], lr=RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    optimiser = Optimiser([ours], {ours}, weight_decay=0.1)
    before = ours.detach().clone()
    for step in range(3):
        ours.grad = theirs.grad = torch.randn(16, 32, generator=torch.Generator().manual_seed(step))
        optimiser.step(RATE)
        reference.step()
    way, other = ours.detach() - before, theirs.detach() - before
    assert (way - other).norm() < 0.03 * other.norm()


def test_without_bfloat16_the_iteration_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr("janus_training.optimiser.choose_dtype", lambda *_: torch.float32)
    exact = orthogonal(matrices)
    monkeypatch.setattr("janus_training.optimiser.choose_dtype", lambda *_: torch.bfloat16)
    rough = orthogonal(matrices)
    assert exact.dtype == rough.dtype == torch.float32
    assert torch.equal(rough, rough.bfloat16().float())
    assert not torch.equal(exact, exact.bfloat16().float())
