"""Random weights as model folders, the same values in the authors' layout and in that of transformers.

Made once from a seed and kept in a folder of the caller's choice, never in the repository. Values are rounded
to bfloat16 whatever the stored dtype, so a float32 folder holds exactly what its bfloat16 sibling holds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from janus_core import JanusConfig, build_model, read_checkpoint
from janus_core.checkpoints.config_writing import write_authors
from janus_core.checkpoints.names import to_published
from janus_core.inputs.text_tokenizer import (
    ASSISTANT,
    BEGIN_OF_IMAGE,
    BOS,
    END_OF_IMAGE,
    EOS,
    IMAGE_PLACEHOLDER,
    PAD,
    USER,
)

from .sizes import Size

_SEED = 2025
_SPECIAL = (BOS, EOS, PAD, BEGIN_OF_IMAGE, END_OF_IMAGE, IMAGE_PLACEHOLDER, USER, ASSISTANT)
_IDS = {text: 256 + index for index, text in enumerate(_SPECIAL)}
GENERATION: dict[str, Any] = {
    "bos_token_id": _IDS[BOS],
    "eos_token_id": _IDS[EOS],
    "pad_token_id": _IDS[PAD],
    "guidance_scale": 5,
    "generation_kwargs": {"boi_token_id": _IDS[BEGIN_OF_IMAGE]},
}
FileKind = Literal["safetensors", "bin"]
_LOUDER = 4.0  # gain of the two heads, so that greedy choices have a clear winner


@dataclass(frozen=True, kw_only=True)
class Folders:
    """One model in both layouts."""

    authors: Path
    native: Path


def make_folders(size: Size, dtype: torch.dtype, workdir: Path, file: FileKind = "safetensors") -> Folders:
    """Return the folders of a size, writing them first where they are missing."""
    stem = f"{size.name}-{str(dtype).removeprefix('torch.')}-{file}"
    folders = Folders(authors=workdir / f"{stem}-authors", native=workdir / f"{stem}-native")
    if not (folders.native / "config.json").is_file():  # the last file written
        workdir.mkdir(parents=True, exist_ok=True)
        weights = random_weights(size.config, dtype, torch.device("cpu"))
        _write_authors(size.config, weights, folders.authors, file)
        _write_native(size.config, weights, folders.native, file)
    return folders


def weights_for(size: Size, dtype: torch.dtype, device: torch.device, workdir: Path) -> dict[str, Tensor]:
    """Return weights under our names: mapped from a bfloat16 file on a CPU, made on the device elsewhere."""
    if device.type == "cpu":
        mapped = read_checkpoint(make_folders(size, torch.bfloat16, workdir).authors).state_dict
        return {name: tensor.to(dtype) for name, tensor in mapped.items()}
    return random_weights(size.config, dtype, device)


def random_weights(config: JanusConfig, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Draw weights under our names that keep activations near unit size.

    The text head gives the end-of-text token a logit of 0, which is never the largest, so that every answer
    has its full length.
    """
    generator = torch.Generator(device).manual_seed(_SEED)
    weights = {
        name: _fill(name, parameter.shape, generator).bfloat16().to(dtype)
        for name, parameter in build_model(config).state_dict().items()
    }
    weights["language.language_model.lm_head.weight"][_IDS[EOS]] = 0
    return weights


def _fill(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    device = generator.device
    if len(shape) == 1:
        is_scale = "norm" in name and name.endswith("weight")
        return torch.ones(shape, device=device) if is_scale else torch.zeros(shape, device=device)
    noise = torch.randn(shape, generator=generator, device=device)
    if "embed" in name or "codebook" in name:
        return noise
    louder = _LOUDER if name.endswith(("lm_head.weight", "generation_head.output.weight")) else 1.0
    return noise.mul_(louder * noise[0].numel() ** -0.5)


def _save(tensors: dict[str, Tensor], folder: Path, file: FileKind, name: str) -> None:
    if file == "safetensors":
        whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save({key: tensor.clone() for key, tensor in tensors.items()}, folder / name)


def _write_authors(config: JanusConfig, weights: dict[str, Tensor], folder: Path, file: FileKind) -> None:
    folder.mkdir(exist_ok=True)
    _save(to_published(weights, "authors"), folder, file, "pytorch_model.bin")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    for name, content in write_authors(config).items():
        _write_json(folder / name, content)


def _write_native(config: JanusConfig, weights: dict[str, Tensor], folder: Path, file: FileKind) -> None:
    folder.mkdir(exist_ok=True)
    _save(to_published(weights, "transformers"), folder, file, "pytorch_model.bin")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    _write_json(folder / "generation_config.json", GENERATION)
    _write_json(folder / "config.json", native_config(config))


def native_config(config: JanusConfig) -> dict[str, Any]:
    """Return transformers' `config.json` of an architecture."""
    vision, vq, width = config.vision, config.vq, config.language.hidden_size
    return {
        "architectures": ["JanusForConditionalGeneration"],
        "model_type": "janus",
        "image_token_id": _IDS[IMAGE_PLACEHOLDER],
        "tie_word_embeddings": False,
        "text_config": text_config(config),
        "vision_config": {
            "model_type": "janus_vision_model",
            "hidden_size": vision.width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "mlp_ratio": int(vision.mlp_ratio),
            "num_image_tokens": config.num_image_tokens,
            "projection_dim": width,
            "depth": config.understanding_aligner.depth,
        },
        "vq_config": {
            "model_type": "janus_vqgan",
            "embed_dim": vq.code_width,
            "num_embeddings": vq.codebook_size,
            "base_channels": vq.base_channels,
            "channel_multiplier": list(vq.channel_multipliers),
            "num_res_blocks": vq.num_res_blocks,
            "latent_channels": vq.latent_channels,
            "num_patches": config.grid_side,
            "image_token_embed_dim": width,
            "projection_dim": width,
            "num_hidden_layers": config.generation_aligner.depth,
        },
    }


def text_config(config: JanusConfig) -> dict[str, Any]:
    """Return transformers' configuration of the decoder."""
    special = {"bos_token_id": _IDS[BOS], "eos_token_id": _IDS[EOS], "pad_token_id": _IDS[PAD]}
    return {"model_type": "llama", "tie_word_embeddings": False, **special, **vars(config.language)}


def byte_tokenizer() -> Tokenizer:
    """Build a tokenizer of single bytes and the control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL])
    return tokenizer


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
