"""A `JanusConfig` as the authors' configuration files, with every size written out."""

from __future__ import annotations

from typing import Any

from ..model.config import AlignerConfig, JanusConfig, VisionConfig

_TOWER_KEYS = ("width", "layers", "heads", "patch_size", "mlp_ratio")


def write_authors(config: JanusConfig) -> dict[str, dict[str, Any]]:
    """Return the authors' configuration files by file name, with every size written out.

    Returns: contents of `config.json`, `preprocessor_config.json` and `processor_config.json`.
    """
    vision, vq = config.vision, config.vq
    head, preprocess = config.generation_head, config.preprocess
    return {
        "config.json": {
            "model_type": "multi_modality",
            "architectures": ["MultiModalityCausalLM"],
            "vision_config": {
                "cls": "CLIPVisionTower",
                "model_type": "vision",
                "params": _write_tower(vision),
            },
            "aligner_config": _write_aligner("aligner", config.understanding_aligner),
            "gen_vision_config": {
                "cls": "VQ-16",
                "model_type": "gen_vision",
                "params": {
                    "image_token_size": vq.codebook_size,
                    "n_embed": vq.code_width,
                    "ch": vq.base_channels,
                    "ch_mult": list(vq.channel_multipliers),
                    "num_res_blocks": vq.num_res_blocks,
                    "z_channels": vq.latent_channels,
                    "norm_groups": vq.norm_groups,
                },
            },
            "gen_aligner_config": _write_aligner("gen_aligner", config.generation_aligner),
            "gen_head_config": {
                "cls": "vision_head",
                "model_type": "gen_head",
                "params": {
                    "n_embed": head.input_width,
                    "image_token_embed": head.inner_width,
                    "image_token_size": head.codebook_size,
                },
            },
            "language_config": {"model_type": "llama", **vars(config.language)},
        },
        "preprocessor_config.json": {
            "image_processor_type": "VLMImageProcessor",
            "image_size": preprocess.image_size,
            "min_size": preprocess.min_size,
            "image_mean": list(preprocess.image_mean),
            "image_std": list(preprocess.image_std),
            "rescale_factor": preprocess.rescale_factor,
            "do_normalize": preprocess.do_normalize,
        },
        "processor_config.json": {
            "processor_class": "VLChatProcessor",
            "image_tag": "<image_placeholder>",
            "num_image_tokens": vision.num_patches,
            "sft_format": "deepseek_old" if config.old_roles else "deepseek",
        },
    }


def _write_tower(vision: VisionConfig) -> dict[str, Any]:
    tower = {
        "model_name": f"siglip_patch{vision.patch_size}_{vision.image_size}",  # no preset: sizes are written
        "image_size": vision.image_size,
        "select_feature": "same",
        "select_layer": -1,  # layers that are not computed are not stored
        **{key: getattr(vision, key) for key in _TOWER_KEYS},
    }
    if vision.pixel_mean is not None and vision.pixel_std is not None:
        tower |= {"pixel_mean": list(vision.pixel_mean), "pixel_std": list(vision.pixel_std)}
    return tower


def _write_aligner(model_type: str, aligner: AlignerConfig) -> dict[str, Any]:
    params = {
        "projector_type": "mlp_gelu",
        "depth": aligner.depth,
        "input_dim": aligner.input_width,
        "n_embed": aligner.output_width,
    }
    return {"cls": "MlpProjector", "model_type": model_type, "params": params}
