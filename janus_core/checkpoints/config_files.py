"""Turn the published configuration files into one `JanusConfig`, and back into the authors' files.

What files leave out is filled from tables of published fallbacks: Llama's defaults and the presets that
configs name. Unknown keys are ignored, except a few that would change the arithmetic.
Source: the authors' config classes and siglip_vit.py; transformers' LlamaConfig.
"""

from __future__ import annotations

import logging
from typing import Any

from ..errors import ConfigError, shown
from ..model.config import (
    AlignerConfig,
    GenerationHeadConfig,
    JanusConfig,
    LanguageConfig,
    PreprocessConfig,
    VisionConfig,
    VQConfig,
)
from .config_sections import Section, three_numbers

log = logging.getLogger("janus.checkpoints")

_LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "vocab_size": 32000,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}

# `_TOWER_KEYS` of the towers that a `model_name` stands for.
_SIGLIP = {
    "siglip_large_patch16_384": (1024, 24, 16, 16, 4),
    "siglip_large_patch16_256": (1024, 24, 16, 16, 4),
    "siglip_so400m_patch14_384": (1152, 27, 16, 14, 3.7362),
    "siglip_so400m_patch14_224": (1152, 27, 16, 14, 3.7362),
}
_TOWER_KEYS = ("width", "layers", "heads", "patch_size", "mlp_ratio")

# `_VQ_KEYS` of the VQ tokenizers that a `cls` stands for.
_VQ = {"VQ-16": (128, (1, 1, 2, 2, 4), 2, 256)}
_NORM_GROUPS = 32  # constant in the authors' code; our own files may state another beside the other sizes
_VQ_KEYS = ("ch", "ch_mult", "num_res_blocks", "z_channels")

# Defaults of transformers' JanusVisionConfig and JanusVQVAEConfig, whose files leave them out.
_NATIVE_VISION = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 384,
    "patch_size": 16, "mlp_ratio": 4.0, "projection_dim": 2048, "depth": 2,
}  # fmt: skip
_NATIVE_VQ = {
    "embed_dim": 8, "num_embeddings": 16384, "latent_channels": 256, "base_channels": 128,
    "channel_multiplier": (1, 1, 2, 2, 4), "num_res_blocks": 2, "projection_dim": 2048,
    "num_hidden_layers": 2, "image_token_embed_dim": 2048,
}  # fmt: skip

# Kinds of rotary scaling that a factor of 1 switches off, unless attention is scaled as well.
_PLAIN_AT_ONE = ("linear", "dynamic", "llama3", "yarn", "unnamed")
_SCALES_ATTENTION = {"attention_factor", "mscale", "mscale_all_dim"}
_HALF = (0.5, 0.5, 0.5)
_MOST_LAYERS = 512
MOST_BLOCKS = 32  # of an aligner, or of one level of the VQ tokenizer


def parse_authors(
    config: dict[str, Any], preprocessor: dict[str, Any], processor: dict[str, Any]
) -> JanusConfig:
    """Parse the authors' three files; missing ones are given as empty dictionaries.

    Raises:
        ConfigError: a value is missing, impossible, contradictory, or asks for arithmetic that Janus does
            not have.
    """
    top = Section(config, "")
    head = top.section("gen_head_config").section("params")
    vision = parse_authors_vision(top.section("vision_config").section("params"))
    return JanusConfig(
        vision=vision,
        understanding_aligner=_authors_aligner(top.section("aligner_config").section("params")),
        language=parse_language(top.section("language_config")),
        generation_aligner=_authors_aligner(top.section("gen_aligner_config").section("params")),
        generation_head=GenerationHeadConfig(
            input_width=head.integer("n_embed"),
            inner_width=head.integer("image_token_embed"),
            codebook_size=head.integer("image_token_size"),
        ),
        vq=_authors_vq(top.section("gen_vision_config")),
        preprocess=parse_preprocess(preprocessor, vision),
        old_roles=processor.get("sft_format") == "deepseek_old",
    )


def parse_authors_vision(params: Section) -> VisionConfig:
    """Read the vision tower's numbers; a preset's name stands for those that are not written out."""
    preset = _SIGLIP.get(_text(params.content.get("model_name")))
    params.fallbacks = dict(zip(_TOWER_KEYS, preset, strict=True)) if preset else {}
    params.refuse("select_feature", ("same",), "only the features of all patches are used by Janus")
    layers = params.integer("layers", _MOST_LAYERS)
    select = params.content.get("select_layer", -1)
    if not isinstance(select, int) or select < -layers:  # −1: the last layer
        raise ConfigError(
            f"The configuration's vision select_layer is {shown(select)}; −{layers} … {layers} can be used."
        )
    # the authors' tower can normalise pixels itself, instead of the preprocessor; no published model does
    normalises = params.content.get("pixel_mean") is not None and params.content.get("pixel_std") is not None
    return VisionConfig(
        image_size=params.integer("image_size"),
        patch_size=params.integer("patch_size"),
        width=params.integer("width"),
        layers=min(layers, select if select > 0 else layers + select + 1),  # as the authors count
        heads=params.integer("heads"),
        mlp_ratio=params.number("mlp_ratio"),
        pixel_mean=three_numbers(params.value("pixel_mean"), "pixel_mean", positive=False)
        if normalises
        else None,
        pixel_std=three_numbers(params.value("pixel_std"), "pixel_std", positive=True)
        if normalises
        else None,
    )


def _authors_aligner(params: Section) -> AlignerConfig:
    params.refuse("projector_type", ("mlp_gelu", "linear"), "only an MLP with GELU is known")
    params.fallbacks = {"depth": 1}
    depth = 1 if params.content.get("projector_type") == "linear" else params.integer("depth", MOST_BLOCKS)
    return AlignerConfig(
        depth=depth, input_width=params.integer("input_dim"), output_width=params.integer("n_embed")
    )


def _authors_vq(section: Section) -> VQConfig:
    params = section.section("params")
    preset = _VQ.get(_text(section.content.get("cls")))
    params.fallbacks = dict(zip(_VQ_KEYS, preset, strict=True)) if preset else {}
    params.fallbacks |= {"norm_groups": _NORM_GROUPS}
    return VQConfig(
        codebook_size=params.integer("image_token_size"),
        code_width=params.integer("n_embed"),
        base_channels=params.integer("ch"),
        channel_multipliers=params.integers("ch_mult"),
        num_res_blocks=params.integer("num_res_blocks", MOST_BLOCKS, least=0),
        latent_channels=params.integer("z_channels"),
        norm_groups=params.integer("norm_groups"),
    )


def parse_language(section: Section) -> LanguageConfig:
    """Read the decoder's numbers; Llama's defaults stand for those that are not written out."""
    section.fallbacks = _LLAMA
    section.refuse("hidden_act", ("silu",), "only SiLU is computed")
    section.refuse("attention_bias", (False,), "biases in attention are not supported")
    section.refuse("mlp_bias", (False,), "biases in the MLP are not supported")
    rope = _plain_rope(section)
    heads, width = section.integer("num_attention_heads"), section.integer("hidden_size")
    if section.content.get("head_dim") is None and width % heads:
        raise ConfigError(f"The configuration's hidden_size {width} is not divisible by its {heads} heads.")
    section.fallbacks = {**_LLAMA, **rope, "num_key_value_heads": heads, "head_dim": width // heads}
    return LanguageConfig(
        hidden_size=width,
        intermediate_size=section.integer("intermediate_size"),
        num_hidden_layers=section.integer("num_hidden_layers", _MOST_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=section.integer("num_key_value_heads"),
        head_dim=section.integer("head_dim"),
        max_position_embeddings=section.integer("max_position_embeddings"),
        vocab_size=section.integer("vocab_size"),
        rms_norm_eps=section.number("rms_norm_eps"),
        rope_theta=section.number("rope_theta"),
    )


def _plain_rope(section: Section) -> dict[str, Any]:
    """Return the rotary base where a nested object states it; refuse scaled or partial rotation."""
    rope: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):  # the older and the newer name
        if section.content.get(key) is not None:
            rope |= section.section(key).content
    # "type" is the older key; with neither, a factor alone would still scale
    kind = rope.get("rope_type", rope.get("type", "unnamed" if "factor" in rope else "default"))
    is_off = rope.get("factor") == 1 and kind in _PLAIN_AT_ONE and not _SCALES_ATTENTION & rope.keys()
    if kind != "default" and not is_off:
        raise ConfigError(
            f"The configuration scales rotary positions ({shown(kind)}); only plain ones are computed."
        )
    for place in (section, Section(rope, f"{section.name}.rope_parameters")):
        place.refuse("partial_rotary_factor", (1,), "only whole heads are rotated")
    return {} if rope.get("rope_theta") is None else {"rope_theta": rope["rope_theta"]}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def parse_preprocess(content: dict[str, Any], vision: VisionConfig) -> PreprocessConfig:
    """Read the preprocessor's numbers; where it does not normalise pixels, the tower has to.

    The first revision of Janus-1.3B says `do_normalize` false, yet the published weights want −1..1.
    """
    side, size = vision.image_size, content.get("size")  # native files give height and width
    stated = size.get("height") if isinstance(size, dict) else None
    fallbacks = {
        "image_size": stated or side, "min_size": min(14, side), "image_mean": _HALF, "image_std": _HALF,
        "rescale_factor": 1 / 255,
    }  # fmt: skip
    section = Section(content, "preprocessor_config", fallbacks)
    do_normalize = content.get("do_normalize", True) is not False  # null counts as left out
    if not do_normalize and vision.pixel_mean is None:
        log.warning(
            "Janus: preprocessor_config.json says do_normalize false, as an early copy of Janus-1.3B did; "
            "pixels are normalised all the same, because the weights expect it."
        )
        do_normalize = True
    return PreprocessConfig(
        image_size=section.integer("image_size"),
        min_size=section.integer("min_size", side),
        image_mean=three_numbers(section.value("image_mean"), "image_mean", positive=False),
        image_std=three_numbers(section.value("image_std"), "image_std", positive=True),
        rescale_factor=section.number("rescale_factor"),
        do_normalize=do_normalize,
    )


def parse_transformers(config: dict[str, Any], processor: dict[str, Any]) -> JanusConfig:
    """Parse the files of the transformers-native layout.

    Args:
        config: `config.json`.
        processor: the picture part of `processor_config.json` or `preprocessor_config.json`, possibly empty.

    Raises:
        ConfigError: as `parse_authors`.
    """
    top = Section(config, "")
    language = parse_language(top.section("text_config"))
    vision_section, vq = top.section("vision_config"), top.section("vq_config")
    vision = _native_vision(vision_section)
    vq.refuse("hidden_act", ("gelu",), "only exact GELU is computed")
    vq.fallbacks = _NATIVE_VQ
    return JanusConfig(
        vision=vision,
        understanding_aligner=AlignerConfig(
            depth=vision_section.integer("depth", MOST_BLOCKS),
            input_width=vision.width,
            output_width=vision_section.integer("projection_dim"),
        ),
        language=language,
        generation_aligner=AlignerConfig(
            depth=vq.integer("num_hidden_layers", MOST_BLOCKS),
            input_width=vq.integer("embed_dim"),
            output_width=vq.integer("projection_dim"),
        ),
        generation_head=GenerationHeadConfig(
            input_width=vq.integer("image_token_embed_dim"),
            inner_width=vq.integer("projection_dim"),
            codebook_size=vq.integer("num_embeddings"),
        ),
        vq=VQConfig(
            codebook_size=vq.integer("num_embeddings"),
            code_width=vq.integer("embed_dim"),
            base_channels=vq.integer("base_channels"),
            channel_multipliers=vq.integers("channel_multiplier"),
            num_res_blocks=vq.integer("num_res_blocks", MOST_BLOCKS, least=0),
            latent_channels=vq.integer("latent_channels"),
            norm_groups=_NORM_GROUPS,
        ),
        preprocess=parse_preprocess(processor, vision),
        old_roles=False,
    )


def _native_vision(section: Section) -> VisionConfig:
    section.fallbacks = _NATIVE_VISION
    section.refuse("use_qk_norm", (False,), "normalised queries and keys are not supported")
    section.refuse("hidden_act", ("gelu",), "only exact GELU is computed")
    section.refuse("layer_norm_eps", (1e-6,), "only 1e-06 is computed")
    return VisionConfig(
        image_size=section.integer("image_size"),
        patch_size=section.integer("patch_size"),
        width=section.integer("hidden_size"),
        layers=section.integer("num_hidden_layers", _MOST_LAYERS),
        heads=section.integer("num_attention_heads"),
        mlp_ratio=section.number("mlp_ratio"),
        pixel_mean=None,
        pixel_std=None,
    )
