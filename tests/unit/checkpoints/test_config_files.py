"""Configuration files of a model folder: contradictions, impossible values, arithmetic that Janus lacks."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from janus_core import ConfigError, Guidance, load_janus
from janus_core.checkpoints.config_files import parse_authors
from janus_core.checkpoints.config_writing import write_authors
from janus_core.checkpoints.layout import find_files
from janus_core.checkpoints.load import read_checkpoint, read_config
from janus_core.model.config import (
    AlignerConfig,
    GenerationHeadConfig,
    JanusConfig,
    LanguageConfig,
    PreprocessConfig,
    VisionConfig,
    VQConfig,
)

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
VISION = "vision_config.params"
ALIGNER = "aligner_config.params"
HEAD = "gen_head_config.params"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "janus-tiny-bin", tmp_path / "model"))


@pytest.fixture
def native_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "janus-tiny-hf", tmp_path / "native"))


def change(path: Path, changes: dict[str, Any]) -> None:
    """Set values of a JSON file, given by their dotted paths."""
    content = json.loads(path.read_text())
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[key] = value
    path.write_text(json.dumps(content))


def config_with(folder: Path, changes: dict[str, Any], file: str = "config.json") -> JanusConfig:
    change(folder / file, changes)
    return read_config(find_files(folder))


# --- from a configuration to files and back ---

# No number equals a fallback, or another number that it could be confused with.
UNUSUAL = JanusConfig(
    vision=VisionConfig(
        image_size=96,
        patch_size=12,
        width=72,
        layers=5,
        heads=6,
        mlp_ratio=3.7362,
        pixel_mean=(0.1, 0.2, 0.3),
        pixel_std=(0.4, 0.5, 0.6),
    ),
    understanding_aligner=AlignerConfig(depth=3, input_width=72, output_width=80),
    language=LanguageConfig(
        hidden_size=80,
        intermediate_size=112,
        num_hidden_layers=7,
        num_attention_heads=10,
        num_key_value_heads=5,
        head_dim=14,
        max_position_embeddings=2000,
        vocab_size=500,
        rms_norm_eps=1e-5,
        rope_theta=5e5,
    ),
    generation_aligner=AlignerConfig(depth=4, input_width=9, output_width=80),
    generation_head=GenerationHeadConfig(input_width=80, inner_width=81, codebook_size=82),
    vq=VQConfig(
        codebook_size=82,
        code_width=9,
        base_channels=64,
        channel_multipliers=(2, 1, 3),
        num_res_blocks=6,
        latent_channels=33,
        norm_groups=16,
    ),
    preprocess=PreprocessConfig(
        image_size=96,
        min_size=13,
        image_mean=(0.15, 0.25, 0.35),
        image_std=(0.45, 0.55, 0.65),
        rescale_factor=1 / 127,
        do_normalize=False,
    ),
    old_roles=True,
)


def test_an_unusual_configuration_is_written_and_read_back_identical() -> None:
    files = json.loads(json.dumps(write_authors(UNUSUAL)))
    assert parse_authors(*(files[name] for name in files)) == UNUSUAL


# --- values no file may have ---


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, True, "48", 1e400, float("nan"), 10**9, 10**400, "", [], {}, {"a": [1]}], ids=repr
)
@pytest.mark.parametrize("key", [f"{VISION}.width", "language_config.vocab_size", f"{ALIGNER}.depth"])
def test_an_impossible_size_is_named(folder: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{key} is .*, not a whole number from 1 to"):
        config_with(folder, {key: value})


def test_a_number_of_blocks_may_be_zero_and_no_less(folder: Path) -> None:
    key = "gen_vision_config.params.num_res_blocks"
    assert config_with(folder, {key: 0}).vq.num_res_blocks == 0
    with pytest.raises(ConfigError, match=rf"{key} is -1, not a whole number from 0 to 32"):
        config_with(folder, {key: -1})


@pytest.mark.parametrize("value", [0, -1e-6, 1e400, float("nan"), "1e-6", True, [1]], ids=repr)
def test_an_impossible_number_is_named(folder: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"language_config\.rms_norm_eps is .*, not a positive number"):
        config_with(folder, {"language_config.rms_norm_eps": value})


@pytest.mark.parametrize("value", [[], "22", 2, [1] * 17, {}], ids=repr)
def test_impossible_channel_multipliers_are_named(folder: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"ch_mult is .*, not a list of whole numbers"):
        config_with(folder, {"gen_vision_config.params.ch_mult": value})


@pytest.mark.parametrize("section", ["vision_config", "language_config", "gen_head_config"])
@pytest.mark.parametrize("value", [None, 3, "x", []], ids=repr)
def test_a_section_that_is_no_object_is_named(folder: Path, section: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"The configuration's {section} is .*, not an object"):
        config_with(folder, {section: value})


@pytest.mark.parametrize("key", [f"{VISION}.width", f"{HEAD}.n_embed", "aligner_config.params.input_dim"])
def test_a_missing_size_without_a_published_fallback_is_named(folder: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"The configuration lacks {key}"):
        config_with(folder, {key: None})


def test_a_message_stays_short_however_deep_the_value_is_nested(folder: Path) -> None:
    nested: Any = "x" * 10_000
    for _ in range(400):
        nested = {"a": [nested]}
    with pytest.raises(ConfigError) as raised:
        config_with(folder, {f"{VISION}.width": nested})
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("image_std", [0.5, 0, 0.5], "image_std is 0, not a positive number"),
        ("image_mean", [0.5, 0.5], r"image_mean is \[0.5, 0.5\], not three numbers"),
        ("image_mean", "grey", "image_mean is 'grey', not three numbers"),
        ("rescale_factor", 0, "rescale_factor is 0, not a positive number"),
        ("min_size", 65, "min_size is 65, not a whole number from 1 to 64"),
    ],
)
def test_an_impossible_preprocessor_is_named(folder: Path, key: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_with(folder, {key: value}, "preprocessor_config.json")


# --- contradictions ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({f"{VISION}.width": 32}, "vision width is 32, aligner input is 48"),
        ({"aligner_config.params.n_embed": 32}, "aligner output is 32, hidden_size is 64"),
        ({"gen_aligner_config.params.n_embed": 32}, "generation aligner output is 32, hidden_size is 64"),
        ({"gen_aligner_config.params.input_dim": 4}, "generation aligner input is 4, code width is 8"),
        ({f"{HEAD}.n_embed": 32}, "generation head input is 32, hidden_size is 64"),
        ({f"{HEAD}.image_token_size": 64}, "generation head is 64, codebook is 128"),
        ({f"{VISION}.heads": 5}, "48 is not divisible by 5"),
        ({f"{VISION}.image_size": 60}, "60 is not divisible by 16"),
        ({f"{VISION}.mlp_ratio": 1e-9}, "mlp_ratio 1e-09 leaves an MLP empty"),
        ({"language_config.num_attention_heads": 3}, "hidden_size 64 is not divisible by its 3 heads"),
        ({"language_config.num_key_value_heads": 3}, "4 is not divisible by 3"),
        ({"language_config.head_dim": 15}, "15 is not divisible by 2"),
        ({"gen_vision_config.params.ch": 16}, "16 is not divisible by 32"),
        ({"gen_vision_config.params.ch_mult": [1] * 8}, "64 is not divisible by 128"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_contradiction_gives_both_numbers(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_with(folder, changes)


@pytest.mark.parametrize(
    ("name", "file", "changes"),
    [
        ("janus-tiny-bin", "preprocessor_config.json", {"image_size": 32}),
        ("janus-tiny-hf", "processor_config.json", {"image_processor.size": {"height": 32, "width": 32}}),
    ],
)
def test_a_preprocessor_for_another_picture_size_is_refused(
    tmp_path: Path, name: str, file: str, changes: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(GOLDEN / name, tmp_path / name))
    with pytest.raises(ConfigError, match="vision image_size is 64, preprocessor's is 32"):
        config_with(folder, changes, file)


def test_sizes_beyond_any_computer_are_refused(folder: Path) -> None:
    huge = {f"{VISION}.image_size": 10**6, f"{VISION}.patch_size": 10**6, f"{VISION}.width": 10**6}
    others = {"aligner_config.params.input_dim": 10**6, "gen_vision_config.params.ch_mult": [1]}
    change(folder / "config.json", huge | others)
    change(folder / "preprocessor_config.json", {"image_size": 10**6})
    with pytest.raises(ConfigError, match=r"config\.json multiply to more than any computer can hold"):
        read_checkpoint(folder)


def test_the_message_names_the_folder(folder: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        config_with(folder, {f"{VISION}.width": 0})
    assert str(raised.value).startswith(f'Cannot load "{folder}": ')


# --- arithmetic that is not computed ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"language_config.rope_scaling": {"type": "linear", "factor": 2.0}}, "positions \\('linear'\\)"),
        ({"language_config.rope_scaling": {"factor": 2.0}}, "scales rotary positions"),
        (
            {"language_config.rope_scaling": {"type": "yarn", "factor": 1.0, "attention_factor": 1.2}},
            "scales rotary positions",
        ),
        ({"language_config.rope_scaling": {"type": "longrope", "factor": 1.0}}, "scales rotary positions"),
        ({"language_config.rope_scaling": "dynamic"}, "rope_scaling is 'dynamic', not an object"),
        ({"language_config.rope_parameters": {"rope_type": "yarn"}}, "positions \\('yarn'\\)"),
        ({"language_config.partial_rotary_factor": 0.5}, "only whole heads are rotated"),
        ({"language_config.rope_parameters": {"partial_rotary_factor": 0.5}}, "only whole heads are rotated"),
        ({"language_config.hidden_act": "gelu"}, "hidden_act to 'gelu': only SiLU"),
        ({"language_config.attention_bias": True}, "biases in attention are not supported"),
        ({"language_config.mlp_bias": True}, "biases in the MLP are not supported"),
        ({"aligner_config.params.projector_type": "low_high_mlp"}, "only an MLP with GELU is known"),
        ({f"{VISION}.select_feature": "cls_patch"}, "only the features of all patches"),
        ({f"{VISION}.select_layer": -3}, "select_layer is -3; −2 … 2 can be used"),
        ({f"{VISION}.select_layer": "last"}, "select_layer is 'last'"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_other_arithmetic_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_with(folder, changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_config.hidden_act": "gelu_pytorch_tanh"}, "only exact GELU"),
        ({"vision_config.use_qk_norm": True}, "normalised queries and keys are not supported"),
        ({"vision_config.layer_norm_eps": 1e-5}, "only 1e-06 is computed"),
        ({"vq_config.hidden_act": "relu"}, "only exact GELU"),
        ({"text_config.rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "scales rotary positions"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_other_arithmetic_is_refused_in_native_files(
    native_folder: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        config_with(native_folder, changes)


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_a_rotary_base_in_a_nested_object_is_read(folder: Path, key: str) -> None:
    config = config_with(folder, {f"language_config.{key}": {"rope_type": "default", "rope_theta": 5e5}})
    assert config.language.rope_theta == 5e5


def test_a_vision_tower_cut_short_has_fewer_layers(folder: Path) -> None:
    assert config_with(folder, {f"{VISION}.select_layer": -2}).vision.layers == 1


@pytest.mark.parametrize("select", [-1, 0, 2, 24])
def test_every_way_to_select_the_last_layer_of_the_tower_keeps_all(folder: Path, select: int) -> None:
    assert config_with(folder, {f"{VISION}.select_layer": select}).vision.layers == 2


def test_a_positive_select_layer_counts_layers(folder: Path) -> None:
    assert config_with(folder, {f"{VISION}.select_layer": 1}).vision.layers == 1


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", ["linear", "dynamic", "llama3", "yarn", None])
def test_rotary_scaling_of_factor_one_is_none(folder: Path, key: str, kind: str | None) -> None:
    scaling = {"factor": 1.0, **({"rope_type": kind} if kind else {})}
    assert config_with(folder, {f"language_config.{key}": scaling}) == config_with(folder, {})


def test_absent_processor_files_leave_the_published_values(folder: Path) -> None:
    before = read_config(find_files(folder))
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink()
    assert read_config(find_files(folder)).preprocess.image_mean == before.preprocess.image_mean
    assert read_config(find_files(folder)).preprocess.min_size == before.preprocess.min_size


# --- normalisation ---

NORMALISED_BY_THE_TOWER = {f"{VISION}.pixel_mean": [0.5, 0.4, 0.3], f"{VISION}.pixel_std": [0.5, 0.25, 0.125]}


def test_do_normalize_false_is_treated_as_true_with_one_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(folder / "preprocessor_config.json", {"do_normalize": False})
    with caplog.at_level(logging.WARNING, "janus"):
        config = load_janus(folder, dtype="float32", device="cpu").config
    assert config.preprocess.do_normalize
    assert [record.message[:60] for record in caplog.records] == [
        "Janus: preprocessor_config.json says do_normalize false, as "
    ]


def test_do_normalize_false_is_honoured_where_the_tower_normalises(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(folder / "preprocessor_config.json", {"do_normalize": False})
    with caplog.at_level(logging.WARNING, "janus"):
        config = config_with(folder, NORMALISED_BY_THE_TOWER)
    assert not config.preprocess.do_normalize
    assert not caplog.records


def test_the_tower_normalises_by_its_own_mean_and_deviation(folder: Path) -> None:
    pixels = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    plain = load_janus(folder, dtype="float32", device="cpu").model.seeing.float()
    change(folder / "config.json", NORMALISED_BY_THE_TOWER)
    normalising = load_janus(folder, dtype="float32", device="cpu").model.seeing.float()
    mean, std = (torch.tensor(values)[:, None, None] for values in NORMALISED_BY_THE_TOWER.values())
    torch.testing.assert_close(normalising(pixels), plain((pixels - mean) / std), atol=1e-5, rtol=0)


def test_a_mean_without_a_deviation_changes_nothing(folder: Path) -> None:
    before = read_config(find_files(folder))
    assert config_with(folder, {f"{VISION}.pixel_mean": [0.5, 0.5, 0.5]}) == before


# how a folder recommends to draw


def recommending(folder: Path, written: dict[str, Any]) -> Path:
    (folder / "generation_config.json").write_text(json.dumps(written), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({}, Guidance()),
        ({"guidance_scale": None, "min_p": None}, Guidance()),
        ({"guidance_scale": 0}, Guidance()),
        ({"guidance_scale": 0.0, "min_p": 0}, Guidance()),
        ({"guidance_scale": 3}, Guidance(cfg_weight=3.0)),
        ({"min_p": 0.1}, Guidance(min_p=0.1)),
        ({"guidance_scale": 2, "min_p": 0.1}, Guidance(cfg_weight=2.0, min_p=0.1)),
    ],
)
def test_a_folder_may_recommend_how_to_draw(
    folder: Path, caplog: pytest.LogCaptureFixture, written: dict[str, Any], expected: Guidance
) -> None:
    with caplog.at_level(logging.WARNING, logger="janus"):
        assert read_checkpoint(recommending(folder, written)).guidance == expected
    assert load_janus(folder, device="cpu").guidance == expected
    assert caplog.text == ""


def test_a_folder_may_recommend_nothing(folder: Path) -> None:
    assert not (folder / "generation_config.json").exists()
    assert read_checkpoint(folder).guidance == Guidance(cfg_weight=5.0, min_p=0.0)


@pytest.mark.parametrize("written", ["5", True, False, [5], float("nan"), -1, 101])
def test_a_recommended_weight_that_is_none_is_passed_over_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture, written: Any
) -> None:
    with caplog.at_level(logging.WARNING, logger="janus"):
        found = read_checkpoint(recommending(folder, {"guidance_scale": written, "min_p": 0.1})).guidance
    assert found == Guidance(min_p=0.1)
    assert "it must be above 0 and at most 100. Drawing takes 5 instead" in caplog.text


@pytest.mark.parametrize("written", ["0.1", True, [0.1], float("nan"), -1, 1.5])
def test_a_recommended_min_p_that_is_none_is_passed_over_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture, written: Any
) -> None:
    with caplog.at_level(logging.WARNING, logger="janus"):
        found = read_checkpoint(recommending(folder, {"guidance_scale": 3, "min_p": written})).guidance
    assert found == Guidance(cfg_weight=3.0)
    assert "it must be between 0 and 1. Drawing takes 0 instead" in caplog.text
