"""The first weights of a model, and a trained model as a folder in the authors' layout."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from janus_core.checkpoints.config_writing import write_authors
from janus_core.checkpoints.names import to_published
from janus_core.model.config import JanusConfig
from janus_core.model.language_model import DecoderLayer
from janus_core.model.model import JanusModel, build_model
from janus_core.model.vision_tower import VisionBlock

_EMBEDDING = 0.3  # about as large as what one layer adds to it
_POSITION_SCALE = 0.3  # likewise, and as what a patch contributes


def new_model(config: JanusConfig, seed: int) -> JanusModel:
    """Return a float32 model on the CPU with random weights that depend on `seed` alone, ready to learn."""
    model = build_model(config)
    model.to_empty(device="cpu")
    for name, module in model.named_modules():
        # a generator of its own for each: no part's first weights depend on another's size
        initialise(module, torch.Generator().manual_seed(seed + zlib.crc32(name.encode())))
    for layer in model.language.language_model.layers:  # residual branches start small, as in GPT-2
        assert isinstance(layer, DecoderLayer)
        for branch in (layer.self_attn.o_proj, layer.mlp.down_proj):
            branch.weight.mul_((2 * len(model.language.language_model.layers)) ** -0.5)
    places = model.seeing.vision_tower.position_embedding.weight
    places.copy_(_POSITION_SCALE * _grid_waves(*places.shape))
    for block in model.seeing.vision_tower.blocks:
        assert isinstance(block, VisionBlock)
        for branch in (block.attention.proj, block.mlp.fc2):
            branch.weight.mul_((2 * len(model.seeing.vision_tower.blocks)) ** -0.5)
    return model.requires_grad_(True)


def _grid_waves(places: int, width: int) -> Tensor:
    """Return (places, width): sines and cosines of row and column, so that neighbours are alike.

    Learnt from noise, a tower of few layers finds colours soon but not shapes, which span patches.
    Source: He et al. 2021 (arXiv:2111.06377), appendix A.
    """
    side = math.isqrt(places)
    rates = 100 ** -torch.linspace(0, 1, width // 4)
    angles = torch.arange(side)[:, None] * rates  # (side, width / 4)
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)
    return torch.cat((waves.repeat_interleave(side, dim=0), waves.repeat(side, 1)), dim=1)


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Fill one layer: matrices normal, convolutions as He et al. 2015, norms one, biases zero."""
    if isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        module.weight.normal_(0, fan_in**-0.5, generator=generator)
    elif isinstance(module, nn.Linear):
        # by width: at a fixed 0.02, attention in narrow layers stays even for long
        module.weight.normal_(0, module.in_features**-0.5, generator=generator)
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(0, _EMBEDDING, generator=generator)
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
        module.weight.fill_(1.0)
    bias = getattr(module, "bias", None)
    if isinstance(bias, Tensor):
        bias.zero_()


def write_folder(
    model: JanusModel,
    tokenizer_json: str,
    folder: Path,
    dtype: torch.dtype,
    recommended: dict[str, float],
) -> None:
    """Write a model folder that any reader of the authors' layout can load.

    Args:
        model: trained.
        tokenizer_json: content of `tokenizer.json`.
        folder: made where needed; its files are replaced.
        dtype: of the stored tensors.
        recommended: how to draw, by the names of `generation_config.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    published = to_published(model.state_dict(), "authors")
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in published.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    files = write_authors(model.config) | {"generation_config.json": recommended}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
