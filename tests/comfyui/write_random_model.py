"""Write a random Janus with pictures of the published size: `python write_random_model.py FOLDER [--wide]`.

384 pixels, 576 image tokens and the full VQ tokenizer, but a small decoder: what takes time and memory in a
real model does so here too, in seconds. The wide one takes 1.9 GB in float32, beside which the slack of an
allocator is nothing. The tokenizer is that of the tiny golden checkpoint.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from janus_core import build_model
from janus_core.checkpoints.config_writing import write_authors
from janus_core.checkpoints.names import published_names
from janus_core.model.config import (
    AlignerConfig,
    GenerationHeadConfig,
    JanusConfig,
    LanguageConfig,
    PreprocessConfig,
    VisionConfig,
    VQConfig,
)

_WIDTH, _SEEN, _CODES, _CODE_WIDTH = 256, 128, 16384, 8
_TOKENIZER = Path(__file__).parents[1] / "parity" / "golden" / "janus-tiny-bin"
CONFIG = JanusConfig(
    vision=VisionConfig(
        image_size=384,
        patch_size=16,
        width=_SEEN,
        layers=2,
        heads=4,
        mlp_ratio=4.0,
        pixel_mean=None,
        pixel_std=None,
    ),
    understanding_aligner=AlignerConfig(depth=2, input_width=_SEEN, output_width=_WIDTH),
    language=LanguageConfig(
        hidden_size=_WIDTH,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=4096,
        vocab_size=416,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
    ),
    generation_aligner=AlignerConfig(depth=2, input_width=_CODE_WIDTH, output_width=_WIDTH),
    generation_head=GenerationHeadConfig(input_width=_WIDTH, inner_width=_WIDTH, codebook_size=_CODES),
    vq=VQConfig(
        codebook_size=_CODES,
        code_width=_CODE_WIDTH,
        base_channels=128,
        channel_multipliers=(1, 1, 2, 2, 4),
        num_res_blocks=2,
        latent_channels=256,
        norm_groups=32,
    ),
    preprocess=PreprocessConfig(
        image_size=384,
        min_size=14,
        image_mean=(0.5,) * 3,
        image_std=(0.5,) * 3,
        rescale_factor=1 / 255,
        do_normalize=True,
    ),
    old_roles=False,
)

WIDE = replace(
    CONFIG,
    language=replace(
        CONFIG.language,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=6,
        num_attention_heads=16,
        num_key_value_heads=16,
        head_dim=128,
        vocab_size=16384,
    ),
    understanding_aligner=replace(CONFIG.understanding_aligner, output_width=2048),
    generation_aligner=replace(CONFIG.generation_aligner, output_width=2048),
    generation_head=replace(CONFIG.generation_head, input_width=2048, inner_width=2048),
)


def write(folder: Path, config: JanusConfig) -> None:
    """Write the model folder in the authors' layout, bfloat16."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(_TOKENIZER / name, folder / name)
    for name, content in write_authors(config).items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for ours, empty in build_model(config).state_dict().items():
        fan_in = max(empty[0].numel(), 1) if empty.ndim > 1 else 1
        drawn = torch.randn(empty.shape, generator=generator) / fan_in**0.5
        is_scale = empty.ndim == 1 and ours.endswith("weight")
        values = (1 + 0.1 * drawn if is_scale else drawn if empty.ndim > 1 else 0.1 * drawn).to(
            torch.bfloat16
        )
        names = published_names(ours, "authors")
        weights |= dict(zip(names, (part.contiguous() for part in values.chunk(len(names))), strict=True))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    write(Path(sys.argv[1]), WIDE if "--wide" in sys.argv else CONFIG)
