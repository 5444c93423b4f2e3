"""How many bytes a task needs beside the weights, computed from the configuration, for hosts.

Estimates are upper bounds of what is allocated at once: KV cache, widest activations, noise, feature maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from ..flow.flow_config import JanusFlowConfig
from ..generation.noise import block_cells, block_words
from ..generation.spelling import SCORED_TOGETHER
from ..model.config import JanusConfig
from ..model.kv_cache import kv_cache_bytes
from ..quantised.weight import QuantisedWeight

_FLOAT = 4  # bytes; logits, noise and the VQ tokenizer are float32
_NOISE_BLOCKS = 2 + 8  # noise in use and being made, and the int64 words alive meanwhile, in units of noise
_SCORES = 8  # copies of logits alive at once in sampling, one position's noise among them
_TABLES = 3  # embeddings of all image tokens, and what is alive while they are made
VQ_TOGETHER = 4  # pictures through the VQ tokenizer at once: its feature maps are the largest of all
_VQ_MAPS = 6  # full-resolution feature maps alive at once in its widest block


def draw_bytes(
    config: JanusConfig, batch_size: int, prompt_tokens: int, dtype: torch.dtype, *, going_on: int = 0
) -> int:
    """Return the bytes that drawing needs beside weights, guidance on, all pictures from one prompt.

    Args:
        config: the architecture.
        batch_size: pictures drawn together.
        prompt_tokens: length of the longest prompt row.
        dtype: of the KV cache and activations.
        going_on: pictures that are left once others are given up; their cache is copied to a new one.
    """
    rows, language = 2 * batch_size, config.language
    tokens = prompt_tokens + config.num_image_tokens
    cache = kv_cache_bytes(language, rows, tokens, dtype)
    if batch_size > 1:  # the two distinct rows are prefilled in a cache of their own, then repeated
        cache += kv_cache_bytes(language, 2, tokens, dtype)
    cache += kv_cache_bytes(language, 2 * going_on, tokens, dtype)
    # residual stream, its norm and the attention's tensors; then the MLP's gate, up and their product
    prefill = (
        rows * prompt_tokens * (4 * language.hidden_size + 3 * language.intermediate_size) * dtype.itemsize
    )
    codes = batch_size * config.vq.codebook_size * _FLOAT  # one (b, v) tensor of logits or noise
    table = _TABLES * config.vq.codebook_size * language.hidden_size * dtype.itemsize
    return (
        cache
        + prefill
        + table
        + codes * (block_cells(batch_size) * _NOISE_BLOCKS + _SCORES)
        + decode_bytes(config, min(batch_size, VQ_TOGETHER))
    )


def answer_bytes(
    config: JanusConfig | JanusFlowConfig,
    rows: int,
    prompt_tokens: int,
    new_tokens: int,
    dtype: torch.dtype,
    *,
    is_sampled: bool = False,
) -> int:
    """Return the bytes that answering needs beside weights.

    Args:
        config: the architecture.
        rows: conversations answered together.
        prompt_tokens: length of the longest prompt, pictures included.
        new_tokens: the most that will be written.
        dtype: of the KV cache and activations.
        is_sampled: tokens are sampled, which takes noise.
    """
    language = config.language
    cache = kv_cache_bytes(language, rows, prompt_tokens + new_tokens, dtype)
    if rows > 1:  # when a row is finished, the others are copied to a new cache
        cache += kv_cache_bytes(language, rows - 1, prompt_tokens + new_tokens, dtype)
    prefill = (  # as for drawing
        rows * prompt_tokens * (4 * language.hidden_size + 3 * language.intermediate_size) * dtype.itemsize
    )
    blocks = block_words(rows) * _NOISE_BLOCKS if is_sampled else 0
    scores = rows * language.vocab_size * _FLOAT * (_SCORES + blocks)
    pictures = rows * (prompt_tokens // config.vision.num_patches)  # as many as the prompts have room for
    return cache + prefill + scores + see_bytes(config, pictures, dtype)


def spell_bytes(
    config: JanusConfig | JanusFlowConfig,
    rows: int,
    prompt_tokens: int,
    tree_tokens: int,
    new_tokens: int,
    dtype: torch.dtype,
) -> int:
    """Return the bytes that reading a tree of spellings behind prompts needs beside weights.

    Args:
        config: the architecture.
        rows: prompts read together.
        prompt_tokens: length of the longest prompt, pictures included.
        tree_tokens: in the tree.
        new_tokens: the most that will be written before the tree.
        dtype: of the KV cache and activations.
    """
    language = config.language
    tree = rows * tree_tokens * (4 * language.hidden_size + 3 * language.intermediate_size) * dtype.itemsize
    sees = rows * tree_tokens * (prompt_tokens + new_tokens + tree_tokens)  # the mask, bytes
    scores = rows * min(SCORED_TOGETHER, tree_tokens + 1) * language.vocab_size * _FLOAT * 3
    return answer_bytes(config, rows, prompt_tokens, new_tokens + tree_tokens, dtype) + tree + sees + scores


def see_bytes(config: JanusConfig | JanusFlowConfig, pictures: int, dtype: torch.dtype) -> int:
    """Return the bytes that the widest activations of the vision tower need."""
    vision = config.vision
    # in one block: residual stream, norm, attention's tensors; the MLP before and after its GELU
    return pictures * vision.num_patches * (4 * vision.width + 2 * vision.mlp_width) * dtype.itemsize


def decode_bytes(config: JanusConfig, pictures: int) -> int:
    """Return the bytes that the VQ tokenizer's feature maps need for so many pictures, either way."""
    # the first level, at full resolution, or the second just after it was upsampled
    widest = config.vq.base_channels * max(config.vq.channel_multipliers[:2])
    area = config.vision.image_size**2
    return pictures * area * widest * _VQ_MAPS * _FLOAT


def count_parameters(state_dict: Mapping[str, Tensor], quantised: Mapping[str, QuantisedWeight]) -> int:
    """Return the number of a checkpoint's parameters, whatever they are stored in."""
    return sum(tensor.numel() for tensor in state_dict.values()) + sum(
        prod(weight.shape) for weight in quantised.values()
    )


def stored_bytes(
    state_dict: Mapping[str, Tensor], quantised: Mapping[str, QuantisedWeight], dtype: torch.dtype
) -> int:
    """Return the bytes of all weights: quantised ones as they are stored, the others in a dtype."""
    plain = sum(tensor.numel() for tensor in state_dict.values()) * dtype.itemsize
    return plain + sum(weight.nbytes for weight in quantised.values())


def weight_bytes(config: JanusConfig, parameters: int, vq_parameters: int, dtype: torch.dtype) -> int:
    """Return the bytes of all weights, the VQ tokenizer's in float32."""
    return (parameters - vq_parameters) * dtype.itemsize + vq_parameters * _FLOAT
