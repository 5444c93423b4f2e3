from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import Janus
from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values

ATOL = 1e-4
IMAGES = ("landscape", "portrait", "tiny")


@pytest.fixture(scope="module")
def pixel_values(golden: dict[str, Tensor]) -> Tensor:
    return torch.stack([golden[f"preprocess.{image}.pixel_values"] for image in IMAGES])


@pytest.mark.parametrize("image", IMAGES)
def test_pixel_values_equal_the_golden_ones(
    janus: Janus, golden: dict[str, Tensor], pictures: dict[str, Path], image: str
) -> None:
    found = to_pixel_values(read_picture(pictures[image]), janus.config.preprocess)
    assert_close(found, golden[f"preprocess.{image}.pixel_values"], atol=ATOL, rtol=0)


def test_pixel_values_without_normalisation_equal_the_golden_ones(
    janus: Janus, golden: dict[str, Tensor], pictures: dict[str, Path]
) -> None:
    config = replace(janus.config.preprocess, do_normalize=False)
    found = to_pixel_values(read_picture(pictures["landscape"]), config)
    assert_close(found, golden["preprocess_not_normalized.landscape.pixel_values"], atol=ATOL, rtol=0)


@torch.inference_mode()
def test_image_features_equal_the_golden_ones(
    janus: Janus, golden: dict[str, Tensor], pixel_values: Tensor
) -> None:
    found = janus.model.seeing.vision_tower(pixel_values)
    assert_close(found, golden["vision.last_hidden"], atol=ATOL, rtol=0)


@torch.inference_mode()
def test_image_embeddings_equal_the_golden_ones(
    janus: Janus, golden: dict[str, Tensor], pixel_values: Tensor
) -> None:
    assert_close(janus.model.seeing(pixel_values), golden["vision.aligner_out"], atol=ATOL, rtol=0)


def test_seeing_picture_files_gives_the_golden_embeddings(
    janus: Janus, golden: dict[str, Tensor], facts: dict[str, Any], pictures: dict[str, Path]
) -> None:
    found = janus.see([pictures[image] for image in facts["image_order"]])
    assert_close(found, golden["vision.aligner_out"], atol=ATOL, rtol=0)
