"""The Llama decoder: embeddings in, hidden states out, the KV cache passed in.

It does not know whether an embedding came from a word, a picture or an image token, and it samples nothing.
Source: Touvron et al. 2023 (arXiv:2302.13971); layer names follow the published tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import LanguageConfig
from .kv_cache import KVCache
from .layers import GatedMLP, Operations, attend, blocked, embedding, rotary_table, rotate

RotaryTable = tuple[Tensor, Tensor]


class SelfAttention(nn.Module):
    """Causal attention with rotary positions and, where configured, fewer key heads than query heads."""

    def __init__(self, config: LanguageConfig, operations: Operations) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        q_width = self.heads * config.head_dim
        kv_width = self.kv_heads * config.head_dim
        self.q_proj = operations.Linear(config.hidden_size, q_width, bias=False)
        self.k_proj = operations.Linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = operations.Linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = operations.Linear(q_width, config.hidden_size, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of x (b, t, d), each (b, t, width)."""
        # a method of its own, so that packing can make one product of the three
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def forward(
        self, x: Tensor, table: RotaryTable, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """Map (b, t, d) to (b, t, d), reading and extending `cache` where one is given."""
        q, k, v = self.project(x)
        q = rotate(rearrange(q, "b t (heads head_dim) -> b heads t head_dim", heads=self.heads), table)
        k = rotate(rearrange(k, "b t (heads head_dim) -> b heads t head_dim", heads=self.kv_heads), table)
        v = rearrange(v, "b t (heads head_dim) -> b heads t head_dim", heads=self.kv_heads)
        if cache is not None:
            k, v = cache.store(layer, k, v)  # (b, kv_heads, s, head_dim) each, s = stored + t
        is_causal = mask is None and q.shape[2] > 1  # one query is the last token and sees every key
        return self.o_proj(attend(q, k, v, mask=mask, is_causal=is_causal))  # (b, t, d)


class DecoderLayer(nn.Module):
    """Pre-norm block: attention and gated MLP, each added to its input."""

    def __init__(self, config: LanguageConfig, operations: Operations) -> None:
        super().__init__()
        eps = config.rms_norm_eps
        self.self_attn = SelfAttention(config, operations)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size, operations)
        self.input_layernorm = operations.RMSNorm(config.hidden_size, eps=eps)
        self.post_attention_layernorm = operations.RMSNorm(config.hidden_size, eps=eps)

    def forward(
        self, x: Tensor, table: RotaryTable, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """Map (b, t, d) to (b, t, d)."""
        x = x + self.self_attn(self.input_layernorm(x), table, mask, cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class LanguageModel(nn.Module):
    """Token embedding, decoder layers, final norm and the text head."""

    def __init__(self, config: LanguageConfig, operations: Operations) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = embedding(config.vocab_size, config.hidden_size, operations)
        self.layers = nn.ModuleList(DecoderLayer(config, operations) for _ in range(config.num_hidden_layers))
        self.norm = operations.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = operations.Linear(config.hidden_size, config.vocab_size, bias=False)

    def embed_words(self, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Return embeddings (…, d) in `dtype` of token ids (…,) int64, on the device of the ids.

        Rows are looked up where the table rests: calling the layer would make a host load the whole table.
        """
        table = self.embed_tokens.weight  # (v, d), perhaps on another device and in another dtype
        return F.embedding(token_ids.to(table.device), table).to(token_ids.device, dtype)

    def forward(
        self,
        embeddings: Tensor,
        positions: Tensor,
        *,
        cache: KVCache | None = None,
        attended: Tensor | None = None,
        among: Tensor | None = None,
    ) -> Tensor:
        """Append new tokens to each row and return their hidden states.

        Args:
            embeddings: (b, t, d), the new tokens.
            positions: (b, t) int64, counted from 0 over each row's real tokens.
            cache: stored keys and values of earlier tokens; extended by t.
            attended: (b, s) bool over stored and new tokens, False where a key is padding, or None if there
                is none.
            among: (t, t) bool, which of the new tokens each of them sees, itself included; None: those before
                it. Every token sees all that are stored.

        Returns: hidden states (b, t, d) after the final norm.
        """
        stored = 0 if cache is None else cache.length
        table = rotary_table(positions, self.config.head_dim, self.config.rope_theta, embeddings.dtype)
        mask = attention_mask(attended, embeddings.shape[1], stored, embeddings.device, among)
        if mask is not None and embeddings.device.type != "cpu":
            mask = additive(mask, embeddings.dtype)
        x = embeddings
        for index, layer in enumerate(self.layers):
            x = layer(x, table, mask, cache, index)  # (b, t, d)
        if cache is not None:
            cache.advance(embeddings.shape[1])  # only now: every layer has to write to the same slots
        return self.norm(x)


def attention_mask(
    attended: Tensor | None, new: int, stored: int, device: torch.device, among: Tensor | None = None
) -> Tensor | None:
    """Combine causality and padding into one mask, or None where plain causal attention is enough.

    Args:
        attended: (b, stored + new) bool, or None.
        new: tokens in this pass.
        stored: tokens already in the cache.
        device: where the mask is needed when `attended` is None.
        among: (new, new) bool, which new tokens each of them sees, or None: those before it.

    Returns: (b or 1, 1, new, stored + new) bool, or None. A padded query attends to itself, since an empty
        row of the softmax gives NaN; its output is never used.
    """
    # torch's own causal mask starts at key 0, so it serves a first pass; one new token may see every key
    if attended is None and among is None and (stored == 0 or new == 1):
        return None
    keys = torch.arange(stored + new, device=device)
    queries = keys[stored:, None]  # (new, 1), counted over columns; padding shifts no column
    causal = keys <= queries  # (new, stored + new)
    if among is not None:
        causal = torch.cat((among.new_ones(new, stored), among), dim=1)  # (new, stored + new)
    if attended is None:
        return causal[None, None]  # (1, 1, new, stored + new)
    return (causal & attended[:, None, :] | (keys == queries))[:, None]  # (b, 1, new, stored + new)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a bool mask as numbers to add to scores; torch would make -inf of it, in every layer anew."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, blocked(dtype))
