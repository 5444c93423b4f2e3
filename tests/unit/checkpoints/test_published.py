"""The published models, by their configuration files and lists of tensors, built on the meta device.

The configurations are written out as far as they are known; Janus-Pro-7B's leaves its language sizes to
Llama's defaults. The lists of tensors come from the authors' classes
(tests/parity/janus-state-dict-shapes.json).
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from janus_core.checkpoints.config_files import parse_authors, parse_transformers
from janus_core.checkpoints.config_writing import write_authors
from janus_core.checkpoints.layout import CheckpointFiles, Layout, find_files
from janus_core.checkpoints.load import read_config, to_our_names
from janus_core.checkpoints.names import is_unused, published_names
from janus_core.model.config import JanusConfig
from janus_core.model.model import build_model

PARITY = Path(__file__).parents[2] / "parity"
GOLDEN = PARITY / "golden"
MODELS = ("Janus-1.3B and Janus-Pro-1B", "Janus-Pro-7B")
LAYOUTS: tuple[Layout, ...] = ("authors", "transformers")
POSITIONS = "vision_model.vision_tower.pos_embed"


# --- the published files ---


def authors_config(width: int, language: dict[str, Any]) -> dict[str, Any]:
    aligner = {"depth": 2, "n_embed": width, "projector_type": "mlp_gelu"}
    return {
        "model_type": "multi_modality",
        "torch_dtype": "bfloat16",
        "vision_config": {
            "cls": "CLIPVisionTower",
            "model_type": "vision",
            "params": {
                "image_size": 384,
                "model_name": "siglip_large_patch16_384",
                "select_feature": "same",
                "select_layer": -1,
            },
        },
        "aligner_config": {"cls": "MlpProjector", "params": {**aligner, "input_dim": 1024}},
        "gen_vision_config": {"cls": "VQ-16", "params": {"image_token_size": 16384, "n_embed": 8}},
        "gen_aligner_config": {"cls": "MlpProjector", "params": {**aligner, "input_dim": 8}},
        "gen_head_config": {
            "cls": "vision_head",
            "params": {"image_token_embed": width, "image_token_size": 16384, "n_embed": width},
        },
        "language_config": {
            "model_type": "llama",
            "max_position_embeddings": 16384,
            "torch_dtype": "bfloat16",
            "vocab_size": 102400,
            **language,
        },
    }


LANGUAGE_1B = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
}
AUTHORS = {
    MODELS[0]: authors_config(2048, LANGUAGE_1B),
    MODELS[1]: authors_config(4096, {"num_hidden_layers": 30}),
}
PREPROCESSOR = {
    "background_color": [127, 127, 127],
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "VLMImageProcessor",
    "image_size": 384,
    "image_std": [0.5, 0.5, 0.5],
    "min_size": 14,
    "processor_class": "VLChatProcessor",
    "rescale_factor": 0.00392156862745098,
}
PROCESSOR = {
    "add_special_token": False,
    "ignore_id": -100,
    "image_tag": "<image_placeholder>",
    "mask_prompt": True,
    "num_image_tokens": 576,
    "processor_class": "VLChatProcessor",
    "sft_format": "deepseek",
}


def native_config(width: int, language: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "janus",
        "image_token_id": 100581,
        "text_config": {
            "model_type": "llama",
            "vocab_size": 102400,
            "max_position_embeddings": 16384,
            **language,
        },
        "vision_config": {
            "model_type": "janus_vision_model",
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 16,
            "mlp_ratio": 4.0,
            "projection_dim": width,
            "depth": 2,
        },
        "vq_config": {
            "model_type": "janus_vqgan",
            "embed_dim": 8,
            "num_embeddings": 16384,
            "latent_channels": 256,
            "base_channels": 128,
            "channel_multiplier": [1, 1, 2, 2, 4],
            "num_res_blocks": 2,
            "projection_dim": width,
            "num_hidden_layers": 2,
            "image_token_embed_dim": width,
        },
    }


LANGUAGE_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 30,
    "num_key_value_heads": 32,
}
NATIVE = {MODELS[0]: native_config(2048, LANGUAGE_1B), MODELS[1]: native_config(4096, LANGUAGE_7B)}
TINY_NATIVE: dict[str, Any] = json.loads((GOLDEN / "janus-tiny-hf" / "config.json").read_text())
NATIVE_AND_TINY = {**NATIVE, "janus-tiny-hf": TINY_NATIVE}


@cache
def published_config(model: str) -> JanusConfig:
    return parse_authors(AUTHORS[model], PREPROCESSOR, PROCESSOR)


@cache
def our_shapes(config: JanusConfig) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in build_model(config).state_dict().items()}


@cache
def published_shapes(model: str) -> dict[str, torch.Size]:
    listed = json.loads((PARITY / "janus-state-dict-shapes.json").read_text())[model]["keys"]
    shapes: dict[str, torch.Size] = {}
    for key, value in listed.items():
        if isinstance(value, dict):
            for layer in range(value["layers"]):
                shapes[key.replace("{i}", str(layer))] = torch.Size(value["shape"])
        else:
            shapes[key] = torch.Size(value)
    return shapes


def on_meta(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    return {n: torch.empty(s, dtype=torch.bfloat16, device="meta") for n, s in shapes.items()}


def a_folder(layout: Layout) -> CheckpointFiles:
    return CheckpointFiles(folder=Path("published"), layout=layout, config={}, weights=())


# --- configurations ---


def test_llamas_defaults_fill_what_janus_pro_7b_leaves_out() -> None:
    language = published_config("Janus-Pro-7B").language
    assert (language.hidden_size, language.intermediate_size) == (4096, 11008)
    assert (language.num_attention_heads, language.num_key_value_heads, language.head_dim) == (32, 32, 128)
    assert (language.rms_norm_eps, language.rope_theta) == (1e-6, 10000.0)


@pytest.mark.parametrize("model", MODELS)
def test_a_published_picture_is_576_image_tokens_and_576_patches(model: str) -> None:
    config = published_config(model)
    assert (config.num_image_tokens, config.vision.num_patches) == (576, 576)


@pytest.mark.parametrize("model", MODELS)
def test_both_layouts_of_one_model_give_one_configuration(model: str) -> None:
    assert parse_transformers(NATIVE[model], {}) == published_config(model)


def test_both_layouts_of_the_tiny_model_give_one_configuration() -> None:
    configs = [read_config(find_files(GOLDEN / name)) for name in ("janus-tiny-bin", "janus-tiny-hf")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    "config",
    [
        *map(published_config, MODELS),
        read_config(find_files(GOLDEN / "janus-tiny-bin")),
        read_config(find_files(GOLDEN / "janus-tiny-hf")),
    ],
    ids=["1B", "7B", "janus-tiny-bin", "janus-tiny-hf"],
)
def test_a_written_configuration_is_read_back_identical(config: JanusConfig) -> None:
    files = json.loads(json.dumps(write_authors(config)))
    assert parse_authors(*(files[name] for name in files)) == config


@pytest.mark.parametrize(("sft_format", "old"), [("deepseek", False), ("deepseek_old", True), (None, False)])
def test_role_words_follow_the_chat_format(sft_format: str | None, old: bool) -> None:
    assert parse_authors(AUTHORS[MODELS[0]], {}, {"sft_format": sft_format}).old_roles is old


def test_noise_of_resaved_configurations_is_ignored() -> None:
    noisy = {
        **AUTHORS[MODELS[0]],
        "_attn_implementation_autoset": True,
        "quantization_config": {"load_in_4bit": True},
        "auto_map": {"AutoModel": "modeling_janus.Janus"},
    }
    assert parse_authors(noisy, PREPROCESSOR, PROCESSOR) == published_config(MODELS[0])


# --- the authors' tensors ---


@pytest.mark.parametrize(("model", "tensors"), [(MODELS[0], 882), (MODELS[1], 936)])
def test_the_published_list_has_the_published_length(model: str, tensors: int) -> None:
    assert len(published_shapes(model)) == tensors


@pytest.mark.parametrize("model", MODELS)
def test_each_published_tensor_is_read_once_or_known_as_unused(model: str) -> None:
    ours = our_shapes(published_config(model))
    read = Counter(name for key in ours for name in published_names(key, "authors"))
    unused = Counter(name for name in published_shapes(model) if is_unused(name))
    assert read + unused == Counter(list(published_shapes(model)))


@pytest.mark.parametrize("model", MODELS)
def test_unused_are_the_pooling_head_and_the_codebook_counter(model: str) -> None:
    unused = {name for name in published_shapes(model) if is_unused(name)}
    pooling_head = {name for name in unused if ".attn_pool." in name}
    assert len(pooling_head) == 13
    assert unused - pooling_head == {"gen_vision_model.quantize.codebook_used"}


@pytest.mark.parametrize("model", MODELS)
def test_each_published_tensor_has_our_shape(model: str) -> None:
    theirs = published_shapes(model)
    theirs = {**theirs, POSITIONS: theirs[POSITIONS][1:]}  # stored as a batch of one
    ours = our_shapes(published_config(model))
    assert {key: theirs[published_names(key, "authors")[0]] for key in ours} == ours


@pytest.mark.parametrize("model", MODELS)
def test_the_reader_accepts_the_published_tensors(model: str) -> None:
    renamed = to_our_names(
        on_meta(published_shapes(model)), build_model(published_config(model)), a_folder("authors")
    )
    assert {name: tensor.shape for name, tensor in renamed.items()} == our_shapes(published_config(model))


# --- both tables ---


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("model", MODELS)
def test_no_two_of_our_tensors_share_a_published_name(model: str, layout: Layout) -> None:
    names = [name for key in our_shapes(published_config(model)) for name in published_names(key, layout)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("model", MODELS)
def test_native_files_store_queries_keys_and_values_apart(model: str) -> None:
    ours = our_shapes(published_config(model))
    names = [name for key in ours for name in published_names(key, "transformers")]
    qkv = 24 * 2  # weight and bias of 24 blocks
    assert len(names) == len(ours) + 2 * qkv


def test_a_name_that_is_not_ours_has_no_published_name() -> None:
    with pytest.raises(KeyError):
        published_names("language.language_model_head", "authors")


# --- transformers' tensors ---


@cache
def native_shapes(model: str) -> dict[str, torch.Size]:
    from transformers import JanusConfig as NativeConfig
    from transformers import JanusForConditionalGeneration

    with torch.device("meta"):
        native = JanusForConditionalGeneration(NativeConfig(**NATIVE_AND_TINY[model]))
    return {name: tensor.shape for name, tensor in native.state_dict().items()}


@pytest.mark.parametrize("model", NATIVE_AND_TINY)
def test_each_native_tensor_is_read_once_or_known_as_unused(model: str) -> None:
    ours = our_shapes(parse_transformers(NATIVE_AND_TINY[model], {}))
    read = Counter(name for key in ours for name in published_names(key, "transformers"))
    unused = Counter(name for name in native_shapes(model) if is_unused(name))
    assert read + unused == Counter(list(native_shapes(model)))


@pytest.mark.parametrize("model", NATIVE_AND_TINY)
def test_the_reader_accepts_the_native_tensors(model: str) -> None:
    config = parse_transformers(NATIVE_AND_TINY[model], {})
    renamed = to_our_names(on_meta(native_shapes(model)), build_model(config), a_folder("transformers"))
    assert {name: tensor.shape for name, tensor in renamed.items()} == our_shapes(config)
