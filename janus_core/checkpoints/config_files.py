"""Turn the published configuration files into one `JanusConfig`, and back into the authors' files.

What files leave out is filled from tables of published fallbacks: Llama's defaults and the presets that
configs name. Unknown keys are ignored, except a few that would change the arithmetic.
Source: the authors' config classes and siglip_vit.py; transformers' LlamaConfig.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from ..errors import ConfigError
from ..model.config import (
    AlignerConfig,
    GenerationHeadConfig,
    JanusConfig,
    LanguageConfig,
    PreprocessConfig,
    VisionConfig,
    VQConfig,
)
from .layout import show

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

# (width, layers, heads, patch_size, mlp_ratio) of the towers that a `model_name` stands for.
_SIGLIP = {
    "siglip_large_patch16_384": (1024, 24, 16, 16, 4),
    "siglip_large_patch16_256": (1024, 24, 16, 16, 4),
    "siglip_so400m_patch14_384": (1152, 27, 16, 14, 3.7362),
    "siglip_so400m_patch14_224": (1152, 27, 16, 14, 3.7362),
}
_TOWER_KEYS = ("width", "layers", "heads", "patch_size", "mlp_ratio")

# (base channels, multipliers, residual blocks, latent channels) of the VQ tokenizers that a `cls` stands for.
_VQ = {"VQ-16": (128, (1, 1, 2, 2, 4), 2, 256)}
_NORM_GROUPS = 32  # constant in the authors' code; one that differs stands beside the other sizes
_VQ_KEYS = ("ch", "ch_mult", "num_res_blocks", "z_channels")

# Ways of scaling rotary positions that a factor of 1 switches off, unless attention is scaled beside it.
_PLAIN_AT_ONE = ("linear", "dynamic", "llama3", "yarn", "unnamed")
_SCALES_ATTENTION = {"attention_factor", "mscale", "mscale_all_dim"}
_HALF = (0.5, 0.5, 0.5)
_LARGEST = 1_000_000  # no size of any Janus comes near; larger numbers are damaged files
_MOST_LAYERS = 512
MOST_BLOCKS = 32  # of an aligner, or of one level of the VQ tokenizer


class Section:
    """One object of a configuration file, read with checks that name the key."""

    def __init__(self, content: Any, name: str, fallbacks: dict[str, Any] | None = None) -> None:
        if not isinstance(content, dict):
            raise ConfigError(
                f"The configuration's {name} is {show(content)}, not an object. Fetch config.json again."
            )
        self.content, self.name, self.fallbacks = content, name, fallbacks or {}

    def section(self, key: str) -> Section:
        """Return a nested object; a missing one is empty, so that its keys are reported by name."""
        return Section(self.content.get(key, {}), f"{self.name}.{key}" if self.name else key)

    def value(self, key: str) -> Any:
        """Return a key's value, or its published fallback."""
        found = self.content.get(key)
        found = self.fallbacks.get(key) if found is None else found
        if found is None:
            raise ConfigError(f"The configuration lacks {self.name}.{key}. Fetch config.json again.")
        return found

    def integer(self, key: str, most: int = _LARGEST, least: int = 1) -> int:
        """Return a whole number from `least` to `most`."""
        return _integer(self.value(key), f"{self.name}.{key}", most, least)

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of 1 to 16 whole numbers."""
        found = self.value(key)
        if not isinstance(found, list | tuple) or not 1 <= len(found) <= 16:
            raise ConfigError(
                f"The configuration's {self.name}.{key} is {show(found)}, not a list of whole numbers."
            )
        return tuple(_integer(item, f"{self.name}.{key}", _LARGEST) for item in found)

    def number(self, key: str) -> float:
        """Return a finite number above 0."""
        return _number(self.value(key), f"{self.name}.{key}")

    def refuse(self, key: str, harmless: tuple[Any, ...], why: str) -> None:
        """Raise if a key that changes the arithmetic has a value that this package does not compute."""
        found = self.content.get(key)
        if found is not None and found not in harmless:
            raise ConfigError(f"The configuration sets {self.name}.{key} to {show(found)}: {why}.")


def _integer(value: Any, name: str, most: int, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(
            f"The configuration's {name} is {show(value)}, not a whole number from {least} to {most}."
        )
    return value


def _number(value: Any, name: str, *, positive: bool = True) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    if not is_number or not math.isfinite(value) or (positive and value <= 0):
        raise ConfigError(
            f"The configuration's {name} is {show(value)}, not a{' positive' if positive else ''} number."
        )
    return float(value)


def _three(value: Any, name: str, *, positive: bool) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ConfigError(f"The configuration's {name} is {show(value)}, not three numbers.")
    return tuple(_number(item, name, positive=positive) for item in value)


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
    if not isinstance(select, int) or select < -layers:
        raise ConfigError(
            f"The configuration's vision select_layer is {show(select)}; −{layers} … {layers} can be used."
        )
    normalises = params.content.get("pixel_mean") is not None and params.content.get("pixel_std") is not None
    return VisionConfig(
        image_size=params.integer("image_size"),
        patch_size=params.integer("patch_size"),
        width=params.integer("width"),
        layers=min(layers, select if select > 0 else layers + select + 1),  # as the authors count
        heads=params.integer("heads"),
        mlp_ratio=params.number("mlp_ratio"),
        pixel_mean=_three(params.value("pixel_mean"), "pixel_mean", positive=False) if normalises else None,
        pixel_std=_three(params.value("pixel_std"), "pixel_std", positive=True) if normalises else None,
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
    kind = rope.get("rope_type", rope.get("type", "unnamed" if "factor" in rope else "default"))
    is_off = rope.get("factor") == 1 and kind in _PLAIN_AT_ONE and not _SCALES_ATTENTION & rope.keys()
    if kind != "default" and not is_off:
        raise ConfigError(
            f"The configuration scales rotary positions ({show(kind)}); only plain ones are computed."
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
    do_normalize = content.get("do_normalize", True) is not False
    if not do_normalize and vision.pixel_mean is None:
        log.warning(
            "Janus: preprocessor_config.json says do_normalize false, as an early copy of Janus-1.3B did; "
            "pixels are normalised all the same, because the weights expect it."
        )
        do_normalize = True
    return PreprocessConfig(
        image_size=section.integer("image_size"),
        min_size=section.integer("min_size", side),
        image_mean=_three(section.value("image_mean"), "image_mean", positive=False),
        image_std=_three(section.value("image_std"), "image_std", positive=True),
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
    vision_section.refuse("use_qk_norm", (False,), "normalised queries and keys are not supported")
    vision_section.refuse("hidden_act", ("gelu",), "only exact GELU is computed")
    vision_section.refuse("layer_norm_eps", (1e-6,), "only 1e-06 is computed")
    vq.refuse("hidden_act", ("gelu",), "only exact GELU is computed")
    large = dict(
        zip(("hidden_size", "num_hidden_layers", "num_attention_heads"), (1024, 24, 16), strict=True)
    )
    vision_section.fallbacks = {
        **large, "image_size": 384, "patch_size": 16, "mlp_ratio": 4.0, "projection_dim": 2048, "depth": 2,
    }  # fmt: skip
    vq.fallbacks = {
        "embed_dim": 8, "num_embeddings": 16384, "latent_channels": 256, "base_channels": 128,
        "channel_multiplier": (1, 1, 2, 2, 4), "num_res_blocks": 2, "projection_dim": 2048,
        "num_hidden_layers": 2, "image_token_embed_dim": 2048,
    }  # fmt: skip
    vision = VisionConfig(
        image_size=vision_section.integer("image_size"),
        patch_size=vision_section.integer("patch_size"),
        width=vision_section.integer("hidden_size"),
        layers=vision_section.integer("num_hidden_layers", _MOST_LAYERS),
        heads=vision_section.integer("num_attention_heads"),
        mlp_ratio=vision_section.number("mlp_ratio"),
        pixel_mean=None,
        pixel_std=None,
    )
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
