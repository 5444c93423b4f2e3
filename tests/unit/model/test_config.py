from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from janus_core import ConfigError, JanusConfig
from janus_core.model.config import (
    AlignerConfig,
    GenerationHeadConfig,
    LanguageConfig,
    PreprocessConfig,
    VisionConfig,
    VQConfig,
)

PARTS = (
    VisionConfig,
    AlignerConfig,
    LanguageConfig,
    GenerationHeadConfig,
    VQConfig,
    PreprocessConfig,
    JanusConfig,
)


def changed(config: JanusConfig, part: str, **values: Any) -> JanusConfig:
    return replace(config, **{part: replace(getattr(config, part), **values)})


@pytest.mark.parametrize("part", PARTS)
def test_no_number_of_the_architecture_has_a_default(part: type[Any]) -> None:
    with pytest.raises(TypeError, match=fields(part)[-1].name):
        part()


@pytest.mark.parametrize("part", PARTS)
def test_configurations_cannot_be_changed(config: JanusConfig, part: type[Any]) -> None:
    parts = [config, *vars(config).values()]
    held = next(value for value in parts if isinstance(value, part))
    with pytest.raises(FrozenInstanceError):
        setattr(held, fields(part)[0].name, 1)


def test_a_configuration_can_be_hashed_and_compared(config: JanusConfig) -> None:
    assert {config, replace(config)} == {config}


def test_the_grid_is_the_picture_over_the_stride(config: JanusConfig) -> None:
    assert (config.vq.stride, config.grid_side, config.num_image_tokens) == (4, 4, 16)


def test_patches_fill_the_picture(config: JanusConfig) -> None:
    assert config.vision.num_patches == 16


def test_the_mlp_width_is_truncated(config: JanusConfig) -> None:
    wide = replace(config.vision, width=1152, heads=16, mlp_ratio=3.7362)
    assert wide.mlp_width == 4304


@pytest.mark.parametrize(
    ("part", "values", "numbers"),
    [
        ("understanding_aligner", {"input_width": 31}, (32, 31)),
        ("understanding_aligner", {"output_width": 33}, (33, 32)),
        ("generation_aligner", {"output_width": 34}, (34, 32)),
        ("generation_aligner", {"input_width": 9}, (9, 8)),
        ("generation_head", {"input_width": 35}, (35, 32)),
        ("generation_head", {"codebook_size": 65}, (65, 64)),
        ("preprocess", {"image_size": 17}, (16, 17)),
        ("vision", {"image_size": 20}, (20, 16)),
        ("vq", {"codebook_size": 63}, (64, 63)),
        ("language", {"hidden_size": 40}, (32, 40)),
    ],
)
def test_a_contradiction_between_parts_names_both_numbers(
    config: JanusConfig, part: str, values: dict[str, int], numbers: tuple[int, int]
) -> None:
    with pytest.raises(ConfigError, match=rf"\b{numbers[0]}\b.*\b{numbers[1]}\b"):
        changed(config, part, **values)


@pytest.mark.parametrize(
    ("part", "values", "numbers"),
    [
        ("vision", {"patch_size": 5}, (16, 5)),
        ("vision", {"heads": 5}, (32, 5)),
        ("vision", {"heads": 0}, (32, 0)),
        ("language", {"num_key_value_heads": 3}, (4, 3)),
        ("language", {"head_dim": 7}, (7, 2)),
        ("vq", {"base_channels": 48}, (48, 32)),
        ("vq", {"channel_multipliers": (1, 1, 1, 1, 1, 1)}, (16, 32)),
    ],
)
def test_what_cannot_be_divided_names_both_numbers(
    config: JanusConfig, part: str, values: dict[str, Any], numbers: tuple[int, int]
) -> None:
    with pytest.raises(ConfigError, match=rf"{numbers[0]} is not divisible by {numbers[1]}\."):
        changed(config, part, **values)
