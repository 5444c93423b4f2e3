from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from janus_core import Janus
from janus_core.model.vision_tower import VisionTower


@pytest.fixture
def tower(janus: Janus) -> VisionTower:
    return janus.model.seeing.vision_tower


@pytest.fixture
def pixel_values() -> Tensor:
    return torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(1)) * 2 - 1


def without_blocks(tower: VisionTower) -> VisionTower:
    bare = VisionTower(replace(tower.config, layers=0), nn)
    bare.load_state_dict({k: v for k, v in tower.state_dict().items() if not k.startswith("blocks.")})
    return bare.requires_grad_(False)


def test_there_is_one_feature_per_patch(tower: VisionTower, pixel_values: Tensor) -> None:
    assert tower(pixel_values).shape == (3, 16, 32)


def test_a_batch_equals_single_pictures(tower: VisionTower, pixel_values: Tensor) -> None:
    singles = torch.cat([tower(picture[None]) for picture in pixel_values])
    assert_close(tower(pixel_values), singles)


def test_patches_are_numbered_row_by_row(tower: VisionTower, pixel_values: Tensor) -> None:
    bare, other = without_blocks(tower), pixel_values.clone()
    other[:, :, 4:8, 8:12] += 1  # row 1, column 2 of 4
    changed = (bare(other) != bare(pixel_values)).any(dim=-1).any(dim=0)
    assert changed.nonzero().flatten().tolist() == [6]


def test_every_patch_sees_every_other(tower: VisionTower, pixel_values: Tensor) -> None:
    other = pixel_values.clone()
    other[:, :, -4:, -4:] += 1
    assert bool((tower(other) != tower(pixel_values)).any(dim=-1).all())


def test_equal_patches_differ_by_their_place(tower: VisionTower) -> None:
    features = tower(torch.zeros(1, 3, 16, 16))[0]
    assert len(features.unique(dim=0)) == 16


def test_a_tower_with_its_own_normalisation_equals_normalised_input(
    tower: VisionTower, pixel_values: Tensor
) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    normalising = VisionTower(replace(tower.config, pixel_mean=mean, pixel_std=std), nn)
    normalising.load_state_dict(tower.state_dict())
    by_hand = (pixel_values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert_close(normalising(pixel_values), tower(by_hand))


def test_norms_use_the_trained_epsilon(tower: VisionTower) -> None:
    norms = [module for module in tower.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}
    assert len(norms) == 2 * tower.config.layers + 1
