"""The decoder's step over memory that never moves: one token a row, no shape and no address changes.

What a captured graph needs: the cache is written at a position that lies on the device, attention sees the
first `reach` slots of it through a mask, and weights are plain tensors, those of one input merged. It takes a
sequence over after the prefill and computes what `LanguageModel` computes, in fewer and larger operations.

Only for a model whose weights rest on the device as plain layers; `is_plain` tells.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..model.kv_cache import SLOTS, KVCache
from ..model.language_model import DecoderLayer, LanguageModel, SelfAttention
from ..model.layers import GatedMLP, attend, rotary_table

_BLOCKED = float("-inf")
_REACH_OF_ONE_ROW = 512  # slots that reach grows by, shared among rows


def is_plain(model: LanguageModel, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether all layers are as they were built, with all weights on the device and in the dtype."""
    # "cuda" is the current GPU, which weights name by its number
    device = torch.empty(0, device=device).device
    parts = [*model.layers, model.norm]
    if any(not isinstance(layer, DecoderLayer) for layer in model.layers):
        return False
    kinds = all(
        type(layer.self_attn) is SelfAttention and type(layer.mlp) is GatedMLP for layer in model.layers
    )
    return kinds and all(
        parameter.device == device and parameter.dtype == dtype
        for part in parts
        for parameter in part.parameters()
    )


@contextmanager
def merged(model: LanguageModel) -> Iterator[list[LayerWeights]]:
    """Lay the matrices of one input side by side, and apart again at the end: a host may evict them singly.

    The parameters stay what they are and hold the same values; only where they hold them changes. The list
    is empty afterwards, so that nobody who still has it keeps a matrix alive beside its parts. Little memory
    may leave matrices joined: they are only harder to evict.
    """
    groups = [group for layer in model.layers for group in _groups(layer)]
    joined: list[Tensor] = []
    weights: list[LayerWeights] = []
    try:
        for group in groups:
            joined.append(_join(group))
        weights += [_weights(layer, *joined[2 * i : 2 * i + 2]) for i, layer in enumerate(model.layers)]
        yield weights
    finally:
        weights.clear()
        while joined:
            joined.pop()
            with suppress(torch.cuda.OutOfMemoryError):
                _part(groups[len(joined)])


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One decoder layer as tensors.

    Attributes:
        input_norm: (d,).
        projections: (heads and twice kv_heads times head_dim, d): queries, keys, values.
        output: (d, heads times head_dim).
        post_norm: (d,).
        gate_up: (2 inner, d).
        down: (d, inner).
    """

    input_norm: Tensor
    projections: Tensor
    output: Tensor
    post_norm: Tensor
    gate_up: Tensor
    down: Tensor


class FixedDecoder:
    """Sequences that grow by one token a step, in place."""

    def __init__(
        self,
        model: LanguageModel,
        weights: Sequence[LayerWeights],
        cache: KVCache,
        positions: Tensor,
        attended: Tensor | None,
        compute_dtype: torch.dtype,
    ) -> None:
        """Take sequences over.

        Args:
            model: whose configuration and final norm hold.
            weights: of its layers, see `merged`.
            cache: filled by a prefill; from now on it is this decoder's own.
            positions: (b,) int64, where the last stored token of each row stands.
            attended: (b, stored) bool, False at padding, or None where there is none.
            compute_dtype: of embeddings and hidden states; the cache may be in a wider one.
        """
        self._config, self._norm, self._weights, self._cache = model.config, model.norm, weights, cache
        rows, stored, capacity = cache.keys.shape[1], cache.length, cache.keys.shape[3]
        device, dtype = cache.keys.device, cache.keys.dtype
        cache.both[..., stored:, :].zero_()  # masked weights are 0, and 0 times anything must be 0
        self._mask = torch.full((rows, 1, 1, capacity), _BLOCKED, dtype=dtype, device=device)
        seen = torch.zeros(rows, stored, dtype=dtype, device=device)
        self._mask[:, 0, 0, :stored] = seen if attended is None else seen.masked_fill(~attended, _BLOCKED)
        every = torch.arange(capacity, device=device)[None]
        cos, sin = rotary_table(every, self._config.head_dim, self._config.rope_theta, compute_dtype)
        self._cos, self._sin = cos[0, 0], _signed(sin[0, 0])  # (capacity, head_dim)
        self._slot = torch.tensor([stored], device=device)
        self._positions = positions + 1
        self._stored, self._capacity = stored, capacity
        self._stride = _stride(rows)

    def select(self, rows: Sequence[int]) -> FixedDecoder:
        """Return a decoder whose row i goes on with what is row `rows[i]` here, in memory of its own."""
        selected, index = copy.copy(self), torch.tensor(rows, device=self._slot.device)
        cache = copy.copy(self._cache)
        cache.both = cache.both.index_select(2, index)
        selected._cache, selected._stride = cache, _stride(len(rows))
        selected._mask, selected._positions = self._mask[index], self._positions[index]
        selected._slot = self._slot.clone()
        return selected

    def reach(self, steps: int) -> int:
        """Return how many slots attention must look at in the step after `steps` steps.

        It grows in strides: each is a graph to capture, while slots not yet filled are read in vain, which is
        little beside the weights for few rows.
        """
        strides = -(-(self._stored + steps + 1) // self._stride)
        return min(strides * self._stride, self._capacity)

    def step(self, embeddings: Tensor, reach: int) -> Tensor:
        """Append one token to every row.

        Args:
            embeddings: (b, d), the token.
            reach: slots of the cache that attention looks at; all that are filled, the new one included.

        Returns: hidden states (b, d) after the final norm.
        """
        self._mask.index_fill_(3, self._slot, 0.0)
        table = tuple(whole.index_select(0, self._positions)[:, None] for whole in (self._cos, self._sin))
        x = embeddings.clone()  # each block adds to it where it is: a product that adds saves a pass
        for index, weights in enumerate(self._weights):
            mixed = self._mixed(index, weights, self._normed(x, weights.input_norm), table, reach)
            x.addmm_(mixed, weights.output.T)
            gate, up = F.linear(self._normed(x, weights.post_norm), weights.gate_up).chunk(2, dim=-1)
            x.addmm_(F.silu(gate) * up, weights.down.T)
        self._slot.add_(1)
        self._positions.add_(1)
        return self._norm(x)

    def _mixed(
        self, index: int, weights: LayerWeights, x: Tensor, table: tuple[Tensor, ...], reach: int
    ) -> Tensor:
        """Return the values (b, heads times head_dim) that attention mixes, the new token stored."""
        heads, kv_heads = self._config.num_attention_heads, self._config.num_key_value_heads
        projected = rearrange(
            F.linear(x, weights.projections),
            "b (heads head_dim) -> b heads head_dim",
            head_dim=self._config.head_dim,
        )
        _rotate(projected[:, : heads + kv_heads], table)
        both = self._cache.both[index]  # (2, b, kv_heads, slots, head_dim)
        new = rearrange(projected[:, heads:], "b (two kv_heads) head_dim -> two b kv_heads 1 head_dim", two=2)
        both.index_copy_(3, self._slot, new.to(both.dtype))
        keys, values = both[:, :, :, :reach]
        return attend(projected[:, :heads, None], keys, values, mask=self._mask[..., :reach])[:, 0]

    def _normed(self, x: Tensor, scale: Tensor) -> Tensor:
        return F.rms_norm(x, scale.shape, scale, self._config.rms_norm_eps)


def _stride(rows: int) -> int:
    return max(SLOTS, _REACH_OF_ONE_ROW // rows // SLOTS * SLOTS)


def _signed(sin: Tensor) -> Tensor:
    """Return sines whose first half is negative, so that turning needs no negation."""
    first, second = sin.chunk(2, dim=-1)
    return torch.cat((-first, second), dim=-1)


def _rotate(x: Tensor, table: tuple[Tensor, ...]) -> None:
    """Turn x (b, heads, head_dim) in place by cosines and signed sines (b, 1, head_dim)."""
    cos, sin = table
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    x.mul_(cos).addcmul_(swapped, sin)


def _groups(layer: nn.Module) -> tuple[list[nn.Linear], list[nn.Linear]]:
    """Return the linear layers of a decoder layer that share an input."""
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj], [mlp.gate_proj, mlp.up_proj]  # type: ignore[union-attr, list-item]


def _weights(layer: nn.Module, projections: Tensor, gate_up: Tensor) -> LayerWeights:
    return LayerWeights(
        input_norm=layer.input_layernorm.weight.detach(),  # type: ignore[union-attr, operator]
        projections=projections,
        output=layer.self_attn.o_proj.weight.detach(),  # type: ignore[union-attr, operator]
        post_norm=layer.post_attention_layernorm.weight.detach(),  # type: ignore[union-attr, operator]
        gate_up=gate_up,
        down=layer.mlp.down_proj.weight.detach(),  # type: ignore[union-attr, operator]
    )


def _join(linears: Sequence[nn.Linear]) -> Tensor:
    """Move the weights of linear layers into one matrix (all outputs, in), and return it."""
    weights = [linear.weight for linear in linears]
    with torch.inference_mode(weights[0].is_inference()), torch.no_grad():
        whole = torch.cat([weight.detach() for weight in weights])
        for weight, part in zip(
            weights, torch.split(whole, [len(weight) for weight in weights]), strict=True
        ):
            weight.data = part
    return whole


def _part(linears: Sequence[nn.Linear]) -> None:
    """Give each of some linear layers memory of its own again."""
    for weight in (linear.weight for linear in linears):
        with torch.inference_mode(weight.is_inference()), torch.no_grad():
            weight.data = weight.detach().clone()
