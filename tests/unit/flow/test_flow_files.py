"""JanusFlow's configuration and its list of tensors, built on the meta device."""

from __future__ import annotations

import copy
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from janus_core import CheckpointError, ConfigError, read_checkpoint
from janus_core.checkpoints.layout import CheckpointFiles
from janus_core.checkpoints.load import to_our_names
from janus_core.checkpoints.names import is_unused, published_names
from janus_core.flow.flow_checkpoint import read_flow_checkpoint
from janus_core.flow.flow_config import JanusFlowConfig
from janus_core.flow.flow_files import parse_janusflow
from janus_core.flow.flow_model import build_flow_model

PARITY = Path(__file__).parents[2] / "parity"
TINY = PARITY / "golden" / "janusflow-tiny"
POSITIONS = "vision_und_enc_model.vision_tower.pos_embed"
NETWORK = {
    "block_out_channels": [768],
    "layers_in_middle": 2,
    "hidden_size": 2048,
    "norm_eps": 1e-6,
    "use_bias": True,
    "use_mid_block": True,
}
PUBLISHED: dict[str, Any] = {
    "model_type": "multi_modality",
    "vision_und_enc_config": {
        "cls": "CLIPVisionTower",
        "params": {
            "image_size": 384,
            "model_name": "siglip_large_patch16_384",
            "select_feature": "same",
            "select_layer": -1,
        },
    },
    "vision_gen_enc_config": {
        "cls": "ShallowUViTEncoder",
        "params": {
            **NETWORK,
            "input_channels": 4,
            "stride": 2,
            "kernel_size": 2,
            "padding": 0,
            "elementwize_affine": True,
            "num_extra_tensors": 5,
        },
    },
    "vision_gen_dec_config": {
        "cls": "ShallowUViTDecoder",
        "params": {
            **NETWORK,
            "in_channels": 768,
            "out_channels": 4,
            "upsamples": 1,
            "elementwise_affine": True,
        },
    },
    "language_config": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "num_key_value_heads": 16,
        "max_position_embeddings": 16384,
        "vocab_size": 102400,
    },
}


@cache
def published_config() -> JanusFlowConfig:
    return parse_janusflow(PUBLISHED, {})


@cache
def our_shapes() -> dict[str, torch.Size]:
    return {name: t.shape for name, t in build_flow_model(published_config()).state_dict().items()}


@cache
def published_shapes() -> dict[str, torch.Size]:
    listed = json.loads((PARITY / "janus-state-dict-shapes.json").read_text())["JanusFlow-1.3B"]["keys"]
    shapes: dict[str, torch.Size] = {}
    for key, value in listed.items():
        layers = range(value["layers"]) if isinstance(value, dict) else (0,)
        shape = value["shape"] if isinstance(value, dict) else value
        shapes |= {key.replace("{i}", str(layer)): torch.Size(shape) for layer in layers}
    return shapes


# --- the published model ---


def test_a_published_picture_is_48_by_48_latents_and_576_tokens() -> None:
    config = published_config()
    assert (config.latent_side, config.num_latent_tokens, config.vision.num_patches) == (48, 576, 576)


def test_the_published_list_has_the_published_length() -> None:
    assert len(published_shapes()) == 587


def test_each_published_tensor_is_read_once_or_belongs_to_the_pooling_head() -> None:
    read = Counter(name for key in our_shapes() for name in published_names(key, "janusflow"))
    unused = Counter(name for name in published_shapes() if is_unused(name))
    assert read + unused == Counter(list(published_shapes()))
    assert len(unused) == 13
    assert all(".attn_pool." in name for name in unused)


def test_each_published_tensor_has_our_shape() -> None:
    theirs = published_shapes()
    theirs = {**theirs, POSITIONS: theirs[POSITIONS][1:]}  # stored as a batch of one
    assert {key: theirs[published_names(key, "janusflow")[0]] for key in our_shapes()} == our_shapes()


def test_the_reader_accepts_the_published_tensors() -> None:
    on_meta = {n: torch.empty(s, dtype=torch.bfloat16, device="meta") for n, s in published_shapes().items()}
    files = CheckpointFiles(folder=Path("published"), layout="janusflow", config={}, weights=())
    renamed = to_our_names(on_meta, build_flow_model(published_config()), files)
    assert {name: tensor.shape for name, tensor in renamed.items()} == our_shapes()


# --- what is refused ---


def changed(section: str, **values: Any) -> dict[str, Any]:
    config = copy.deepcopy(PUBLISHED)
    config[section]["params"] |= values
    return config


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("vision_gen_enc_config", {"stride": 4}, "sets vision_gen_enc_config.params.stride to 4: only pat"),
        ("vision_gen_enc_config", {"padding": 1}, "only patches without padding are computed"),
        ("vision_gen_enc_config", {"use_bias": False}, "only layers with biases are computed"),
        ("vision_gen_dec_config", {"use_mid_block": False}, "only networks with a middle block"),
        ("vision_gen_dec_config", {"upsamples": 2}, "only one doubling is computed"),
        ("vision_gen_dec_config", {"elementwise_affine": False}, "only norms with weights are computed"),
        ("vision_gen_enc_config", {"block_out_channels": [64, 64]}, "is [64, 64]; networks of one resol"),
        ("vision_gen_dec_config", {"in_channels": 512}, "in_channels is 512, not 768"),
        ("vision_gen_enc_config", {"input_channels": 16}, "input_channels is 16, not 4"),
        ("vision_gen_dec_config", {"hidden_size": 1024}, "hidden_size is 1024, not 2048"),
        ("vision_gen_dec_config", {"norm_eps": 1e-5}, "norm_eps is 1e-06 in the flow encoder and 1e-05"),
        ("vision_gen_enc_config", {"layers_in_middle": 0}, "layers_in_middle is 0, not a whole number"),
        ("vision_und_enc_config", {"image_size": 392, "patch_size": 14}, "not divisible by 16, the pixels"),
    ],
)
def test_arithmetic_that_janusflow_does_not_have_is_refused(
    section: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_janusflow(changed(section, **values), {})
    assert said in str(caught.value)


def test_an_odd_number_of_channels_is_refused() -> None:
    config = changed("vision_gen_enc_config", block_out_channels=[767])
    config["vision_gen_dec_config"]["params"] |= {"block_out_channels": [767], "in_channels": 767}
    with pytest.raises(ConfigError, match="767 channels; the time embedding needs an even number"):
        parse_janusflow(config, {})


def test_each_reader_sends_the_other_kind_away() -> None:
    with pytest.raises(CheckpointError, match="is a JanusFlow model, which draws by rectified flow"):
        read_checkpoint(TINY)
    with pytest.raises(CheckpointError, match="is an autoregressive Janus, and a JanusFlow model is wanted"):
        read_flow_checkpoint(PARITY / "golden" / "janus-tiny-bin")


def test_a_damaged_configuration_names_its_folder(tmp_path: Path) -> None:
    for path in TINY.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((TINY / "config.json").read_text())
    config["vision_gen_dec_config"]["params"]["upsamples"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as caught:
        read_flow_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)
