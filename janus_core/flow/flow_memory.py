"""How many bytes a flow drawing needs beside the weights: arithmetic on the configuration, for hosts."""

from __future__ import annotations

import torch

from ..model.kv_cache import kv_cache_bytes
from .flow_config import JanusFlowConfig

_WIDENED = 3  # maps of the widest layer alive at once in a convolutional block
_FLOAT = 4


def flow_draw_bytes(config: JanusFlowConfig, rows: int, prompt_tokens: int, dtype: torch.dtype) -> int:
    """Return an upper bound of what a drawing allocates at once.

    Args:
        config: the architecture.
        rows: pictures drawn together; with guidance twice as many.
        prompt_tokens: length of the longest prompt row.
        dtype: of the KV cache and activations.
    """
    language, tokens = config.language, 1 + config.num_latent_tokens
    cache = kv_cache_bytes(language, rows, prompt_tokens + tokens, dtype)
    widest = max(prompt_tokens, tokens)
    decoder = rows * widest * (4 * language.hidden_size + 3 * language.intermediate_size) * dtype.itemsize
    mask = rows * tokens * (prompt_tokens + tokens) * _FLOAT
    joined = 2 * config.flow.channels
    blocks = rows * config.num_latent_tokens * joined * 4 * _WIDENED * dtype.itemsize
    latents = rows * config.flow.latent_channels * config.latent_side**2 * _FLOAT * 8
    return (
        2 * cache + max(decoder, blocks) + mask + latents
    )  # twice: rows of one prompt are copied from its own
