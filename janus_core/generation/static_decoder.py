"""The decoder's step with fixed buffers, as a CUDA graph needs it: no shape and no address changes.

The cache is written at a position that lies on the device, attention sees the first slots of it through a
mask, and weights are plain tensors, those of one input joined where they lie side by side. It takes sequences
over after the prefill and computes what `LanguageModel` computes, in fewer and larger operations. It does not
know who captures it.

Only for a model whose weights rest on the device as plain layers; `is_plain` tells.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..model.kv_cache import SLOTS
from ..model.language_model import DecoderLayer, LanguageModel, SelfAttention
from ..model.layers import GatedMLP, attend, rotary_table
from ..options import Compute
from .capturing import can_capture
from .steps import Decoder, Sequences, StreamedDecoder

_REACH_OF_ONE_ROW = 512  # slots that reach grows by, shared among rows


def decoder_for(model: LanguageModel, sequences: Sequences, compute: Compute) -> Decoder:
    """Take sequences over: by a static decoder where its steps may be captured, else by a streamed one."""
    if may_capture(model, compute):
        return StaticDecoder(model, sequences, compute.dtype)
    return StreamedDecoder(model, sequences, compute.dtype)


def may_capture(model: LanguageModel, compute: Compute) -> bool:
    """Tell whether steps may be captured: a device that can, with all weights there, in layers as built."""
    return compute.is_resident and can_capture(compute) and is_plain(model, compute.device, compute.dtype)


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


class StaticDecoder:
    """Sequences that grow by one token a step, in place."""

    can_be_captured = True

    def __init__(self, model: LanguageModel, sequences: Sequences, compute_dtype: torch.dtype) -> None:
        """Take sequences over.

        Args:
            model: as `is_plain` wants it. Weights of one input are joined, and stay so.
            sequences: filled by a prefill; the cache is this decoder's own from now on.
            compute_dtype: of embeddings and hidden states; the cache may be in a wider one.
        """
        self._config = model.config
        self._norm = model.norm
        self._weights = [_weights(layer) for layer in model.layers]
        self._cache = cache = sequences.cache
        self._stored = stored = cache.length
        self._capacity = capacity = cache.slots
        rows, device, dtype = len(sequences.hidden), cache.both.device, cache.both.dtype
        cache.both[..., stored:, :].zero_()  # masked weights are 0, and 0 times anything must be 0
        # A large finite number, since a whole block of -inf gives NaN in some attention kernels.
        self._blocked = torch.finfo(dtype).min / 2
        self._mask = torch.full((rows, 1, 1, capacity), self._blocked, dtype=dtype, device=device)
        seen = torch.zeros(rows, stored, dtype=dtype, device=device)
        if sequences.attended is not None:
            seen = seen.masked_fill(~sequences.attended, self._blocked)
        self._mask[:, 0, 0, :stored] = seen
        every = torch.arange(capacity, device=device)[None]
        cos, sin = rotary_table(every, self._config.head_dim, self._config.rope_theta, compute_dtype)
        self._cos = cos[0, 0]  # (capacity, head_dim)
        self._sin = _signed(sin[0, 0])
        self._slot = torch.tensor([stored], device=device)
        self._positions = sequences.positions + 1
        self._stride = _stride(rows)
        self._reach = capacity

    def select(self, rows: Sequence[int]) -> StaticDecoder:
        """Return a decoder whose row i goes on with what is row `rows[i]` here, in memory of its own."""
        index = torch.tensor(rows, device=self._slot.device)
        selected = copy.copy(self)
        selected._cache = copy.copy(self._cache)
        selected._cache.both = self._cache.both.index_select(2, index)
        selected._mask = self._mask[index]
        selected._positions = self._positions[index]
        selected._slot = self._slot.clone()
        selected._stride = _stride(len(rows))
        return selected

    def prepare(self, done: int) -> int:
        """Set how many slots attention looks at in the step after `done` steps, and return it.

        It grows in strides: each is a graph to capture, while slots not yet filled are read in vain, which is
        little beside the weights for few rows.
        """
        strides = -(-(self._stored + done + 1) // self._stride)
        self._reach = min(strides * self._stride, self._capacity)
        return self._reach

    def step(self, embeddings: Tensor) -> Tensor:
        """Append one token's embedding (b, d) to every row and return the next hidden states (b, d)."""
        self._mask.index_fill_(3, self._slot, 0.0)
        table = tuple(whole.index_select(0, self._positions)[:, None] for whole in (self._cos, self._sin))
        x = embeddings.clone()  # each block adds to it where it is: a product that adds saves a pass
        for index, weights in enumerate(self._weights):
            mixed = self._mixed(index, weights, self._normed(x, weights.input_norm), table)
            x.addmm_(mixed, weights.output.T)
            gate_up = _product(self._normed(x, weights.post_norm), weights.gate_up)
            gate, up = gate_up.chunk(2, dim=-1)  # (b, inner) each
            x.addmm_(F.silu(gate) * up, weights.down.T)
        self._slot.add_(1)
        self._positions.add_(1)
        return self._norm(x)

    def _mixed(self, index: int, weights: LayerWeights, x: Tensor, table: tuple[Tensor, ...]) -> Tensor:
        """Return the values (b, heads times head_dim) that attention mixes, the new token stored."""
        heads, kv_heads = self._config.num_attention_heads, self._config.num_key_value_heads
        projected = rearrange(
            _product(x, weights.projections),
            "b (heads head_dim) -> b heads head_dim",
            head_dim=self._config.head_dim,
        )
        _rotate(projected[:, : heads + kv_heads], table)
        both = self._cache.both[index]  # (2, b, kv_heads, slots, head_dim)
        new = rearrange(projected[:, heads:], "b (two kv_heads) head_dim -> two b kv_heads 1 head_dim", two=2)
        both.index_copy_(3, self._slot, new.to(both.dtype))
        keys, values = both[:, :, :, : self._reach]
        return attend(projected[:, :heads, None], keys, values, mask=self._mask[..., : self._reach])[:, 0]

    def _normed(self, x: Tensor, scale: Tensor) -> Tensor:
        return F.rms_norm(x, scale.shape, scale, self._config.rms_norm_eps)


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One decoder layer as tensors; several matrices of one input stand one above the other.

    Attributes:
        input_norm: (d,).
        projections: (heads and twice kv_heads times head_dim, d) in all: queries, keys, values.
        output: (d, heads times head_dim).
        post_norm: (d,).
        gate_up: (2 inner, d) in all.
        down: (d, inner).
    """

    input_norm: Tensor
    projections: tuple[Tensor, ...]
    output: Tensor
    post_norm: Tensor
    gate_up: tuple[Tensor, ...]
    down: Tensor


def _weights(layer: nn.Module) -> LayerWeights:
    assert isinstance(layer, DecoderLayer)
    attention, mlp = layer.self_attn, layer.mlp
    return LayerWeights(
        input_norm=layer.input_layernorm.weight.detach(),
        projections=joined((attention.q_proj, attention.k_proj, attention.v_proj)),
        output=attention.o_proj.weight.detach(),
        post_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=joined((mlp.gate_proj, mlp.up_proj)),
        down=mlp.down_proj.weight.detach(),
    )


def joined(linears: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    """Return the weights of linear layers of one input as one matrix, or each alone where memory is short.

    The parameters stay what they are and hold the same values; only where they hold them changes, and that
    once: weights that lie side by side already are found so. A host that evicts or replaces one of them parts
    it from the others, and the next call joins them again.

    Returns: one matrix (all outputs, in), or one for each layer.
    """
    weights = [linear.weight for linear in linears]
    whole = _side_by_side(weights)
    if whole is not None:
        return (whole,)
    try:
        return (_join(weights),)
    except torch.OutOfMemoryError:
        return tuple(weight.detach() for weight in weights)


def _side_by_side(weights: Sequence[Tensor]) -> Tensor | None:
    """Return matrices that follow each other in one storage as one matrix, a view; None where they do not."""
    first = weights[0].detach()
    place = first.storage_offset()
    for weight in weights:
        is_next = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (is_next and weight.storage_offset() == place and weight.is_contiguous()):
            return None
        place += weight.numel()
    return first.as_strided((sum(len(weight) for weight in weights), first.shape[1]), first.stride())


def _join(weights: Sequence[Tensor]) -> Tensor:
    """Move matrices of one input into one (all outputs, in), and return it."""
    with torch.inference_mode(weights[0].is_inference()), torch.no_grad():
        whole = torch.cat([weight.detach() for weight in weights])
        parts = torch.split(whole, [len(weight) for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.data = part
    if whole.is_cuda:
        # Blocks of the parts' sizes fit no later layer: kept, they would double what is reserved.
        torch.cuda.empty_cache()
    return whole


def _product(x: Tensor, matrices: tuple[Tensor, ...]) -> Tensor:
    """Multiply x (b, in) by matrices (out, in); their outputs stand side by side, (b, all outputs)."""
    products = [F.linear(x, matrix) for matrix in matrices]
    return products[0] if len(products) == 1 else torch.cat(products, dim=-1)


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
