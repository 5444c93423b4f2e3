"""Static-shape decoder with fixed buffers, for CUDA graphs: no shape and no address changes between steps.

The cache is written at a position kept on the device, attention reads a masked prefix of the cache, and
weights are plain tensors, fused where they share an input. It takes sequences over after the prefill and
computes what `LanguageModel` computes, in fewer and larger operations. It does not know who captures it.

Only for a model whose weights rest on the device in plain layers; see `is_plain`.
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

_PREFIX_STRIDE = 512  # slots that the prefix grows by for one row; fewer for more rows, which read more


def decoder_for(model: LanguageModel, sequences: Sequences, compute: Compute) -> Decoder:
    """Return a static decoder for sequences where its steps may be captured, else a streamed one."""
    if may_capture(model, compute):
        return StaticDecoder(model, sequences, compute.dtype)
    return StreamedDecoder(model, sequences, compute.dtype)


def may_capture(model: LanguageModel, compute: Compute) -> bool:
    """Tell whether steps may be captured: the device can, and holds all weights in unmodified layers."""
    return compute.is_resident and can_capture(compute) and is_plain(model, compute.device, compute.dtype)


def is_plain(model: LanguageModel, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether all layers are unmodified, with all weights on the device and in the dtype."""
    # "cuda" means the current GPU, while weights name it by its number
    device = torch.empty(0, device=device).device
    parts = [*model.layers, model.norm]
    if any(not isinstance(layer, DecoderLayer) for layer in model.layers):
        return False
    # exact classes: packed ones are subclasses, and have no weights to read
    kinds = all(
        type(layer.self_attn) is SelfAttention and type(layer.mlp) is GatedMLP for layer in model.layers
    )
    return kinds and all(
        parameter.device == device and parameter.dtype == dtype
        for part in parts
        for parameter in part.parameters()
    )


class StaticDecoder:
    """Decoder with fixed buffers, which every step updates in place; see `Decoder`."""

    can_be_captured = True

    def __init__(self, model: LanguageModel, sequences: Sequences, compute_dtype: torch.dtype) -> None:
        """Take sequences over.

        Args:
            model: one that `is_plain`. Weights of one input are fused in memory, and stay so.
            sequences: filled by a prefill; their cache belongs to this decoder from now on.
            compute_dtype: of embeddings and hidden states; the cache may be in a wider one.
        """
        self._config = model.config
        self._norm = model.norm
        self._weights = [_weights(layer) for layer in model.layers]
        self._cache = cache = sequences.cache
        self._stored = stored = cache.length
        self._capacity = capacity = cache.slots
        rows, device, dtype = len(sequences.hidden), cache.both.device, cache.both.dtype
        cache.both[..., stored:, :].zero_()  # a masked slot has weight 0, but 0 times NaN would be NaN
        # Large and finite instead of -inf, of which a whole block gives NaN in some attention kernels.
        # Half the minimum, so that adding a logit cannot overflow.
        self._blocked = torch.finfo(dtype).min / 2
        # Additive and in the cache's dtype, (b, 1, 1, capacity): kernels would convert a bool mask each step.
        self._mask = torch.full((rows, 1, 1, capacity), self._blocked, dtype=dtype, device=device)
        seen = torch.zeros(rows, stored, dtype=dtype, device=device)
        if sequences.attended is not None:
            seen = seen.masked_fill(~sequences.attended, self._blocked)
        self._mask[:, 0, 0, :stored] = seen
        # Cosines and sines of all positions once; a step looks its own up by index.
        every = torch.arange(capacity, device=device)[None]  # (1, capacity)
        cos, sin = rotary_table(every, self._config.head_dim, self._config.rope_theta, compute_dtype)
        self._cos = cos[0, 0]  # (capacity, head_dim)
        self._sin = _signed(sin[0, 0])
        self._slot = torch.tensor([stored], device=device)  # where the next token is written, for all rows
        self._positions = sequences.positions + 1  # (b,), of the next token; differs by the rows' padding
        self._stride = _stride(rows)
        self._prefix = capacity  # slots that attention reads; a Python number, so part of the capture

    def select(self, rows: Sequence[int]) -> StaticDecoder:
        """Return a decoder whose row i continues row `rows[i]` of this one, with buffers of its own."""
        index = torch.tensor(rows, device=self._slot.device)
        selected = copy.copy(self)  # weights and the rotary table are shared: no step writes to them
        selected._cache = copy.copy(self._cache)
        selected._cache.both = self._cache.both.index_select(2, index)
        selected._mask = self._mask[index]
        selected._positions = self._positions[index]
        selected._slot = self._slot.clone()
        selected._stride = _stride(len(rows))
        return selected

    def prepare(self, done: int) -> int:
        """Set and return the number of slots that attention reads in the step after `done` steps.

        It grows in strides, each of which takes a new capture. Reading slots not yet filled costs little
        beside reading the weights, as long as there are few rows.
        """
        strides = -(-(self._stored + done + 1) // self._stride)  # rounded up, the new token included
        self._prefix = min(strides * self._stride, self._capacity)
        return self._prefix

    def step(self, embeddings: Tensor) -> Tensor:
        """Append one token's embedding (b, d) to every row and return the next hidden states (b, d)."""
        self._mask.index_fill_(3, self._slot, 0.0)  # the new token's slot may be attended to from now on
        # cosines and sines of each row's position, (b, 1, head_dim) each
        table = tuple(whole.index_select(0, self._positions)[:, None] for whole in (self._cos, self._sin))
        x = embeddings.clone()  # (b, d), the residual stream, added to in place: `addmm_` saves a pass
        for index, weights in enumerate(self._weights):
            mixed = self._mixed(index, weights, self._normed(x, weights.input_norm), table)
            x.addmm_(mixed, weights.output.T)
            gate_up = _product(self._normed(x, weights.post_norm), weights.gate_up)  # (b, 2 inner)
            gate, up = gate_up.chunk(2, dim=-1)  # (b, inner) each
            x.addmm_(F.silu(gate) * up, weights.down.T)
        self._slot.add_(1)  # on the device, so that replaying the same graph moves on
        self._positions.add_(1)
        return self._norm(x)

    def _mixed(self, index: int, weights: LayerWeights, x: Tensor, table: tuple[Tensor, ...]) -> Tensor:
        """Store the new token's key and value; return the output of attention (b, heads * head_dim)."""
        heads, kv_heads = self._config.num_attention_heads, self._config.num_key_value_heads
        projected = rearrange(
            _product(x, weights.projections),
            "b (heads head_dim) -> b heads head_dim",
            head_dim=self._config.head_dim,
        )  # (b, heads + 2 kv_heads, head_dim): queries, keys, values
        _rotate(projected[:, : heads + kv_heads], table)  # queries and keys together, in place
        both = self._cache.both[index]  # (2, b, kv_heads, slots, head_dim)
        new = rearrange(projected[:, heads:], "b (two kv_heads) head_dim -> two b kv_heads 1 head_dim", two=2)
        both.index_copy_(3, self._slot, new.to(both.dtype))  # one write for keys and values
        keys, values = both[:, :, :, : self._prefix]  # (b, kv_heads, prefix, head_dim) each, views
        return attend(projected[:, :heads, None], keys, values, mask=self._mask[..., : self._prefix])[:, 0]

    def _normed(self, x: Tensor, scale: Tensor) -> Tensor:
        return F.rms_norm(x, scale.shape, scale, self._config.rms_norm_eps)


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One decoder layer as tensors; matrices of one input are stacked along their outputs.

    Attributes:
        input_norm: (d,).
        projections: ((heads + 2 kv_heads) head_dim, d) in all: queries, keys, values.
        output: (d, heads * head_dim).
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

    The parameters keep their identity and values; they become views of one storage. Later calls find them
    adjacent and copy nothing. A host that evicts or replaces one of them breaks this up, and the next call
    fuses them again.

    Returns: one matrix (all outputs, in), or one for each layer.
    """
    weights = [linear.weight for linear in linears]
    whole = _side_by_side(weights)
    if whole is not None:
        return (whole,)
    try:
        return (_join(weights),)
    except torch.OutOfMemoryError:  # fusing needs both copies for a moment
        return tuple(weight.detach() for weight in weights)


def _side_by_side(weights: Sequence[Tensor]) -> Tensor | None:
    """Return matrices that follow each other in one storage as one matrix, a view; None if they do not."""
    first = weights[0].detach()
    place = first.storage_offset()  # in entries, as `numel`
    for weight in weights:
        is_next = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (is_next and weight.storage_offset() == place and weight.is_contiguous()):
            return None
        place += weight.numel()
    return first.as_strided((sum(len(weight) for weight in weights), first.shape[1]), first.stride())


def _join(weights: Sequence[Tensor]) -> Tensor:
    """Move matrices of one input into one (all outputs, in), and return it."""
    # `weight.data` takes an inference tensor exactly where the weight is one
    with torch.inference_mode(weights[0].is_inference()), torch.no_grad():
        whole = torch.cat([weight.detach() for weight in weights])
        parts = torch.split(whole, [len(weight) for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.data = part
    if whole.is_cuda:
        # The allocator would keep the old blocks, which no later request fits, and reserve twice the bytes.
        torch.cuda.empty_cache()
    return whole


def _product(x: Tensor, matrices: tuple[Tensor, ...]) -> Tensor:
    """Multiply x (b, in) by matrices (out, in) and concatenate the outputs, (b, all outputs)."""
    products = [F.linear(x, matrix) for matrix in matrices]
    return products[0] if len(products) == 1 else torch.cat(products, dim=-1)


def _stride(rows: int) -> int:
    return max(SLOTS, _PREFIX_STRIDE // rows // SLOTS * SLOTS)  # a multiple of SLOTS


def _signed(sin: Tensor) -> Tensor:
    """Return sines whose first half is negated, so that `_rotate` need not negate."""
    first, second = sin.chunk(2, dim=-1)
    return torch.cat((-first, second), dim=-1)


def _rotate(x: Tensor, table: tuple[Tensor, ...]) -> None:
    """Rotate x (b, heads, head_dim) in place by cosines and signed sines (b, 1, head_dim)."""
    cos, sin = table
    first, second = x.chunk(2, dim=-1)  # (b, heads, head_dim / 2) each, views of x
    swapped = torch.cat((second, first), dim=-1)  # a copy, so x may be overwritten
    x.mul_(cos).addcmul_(swapped, sin)
