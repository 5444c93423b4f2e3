"""The decoder's step with fixed buffers, as a CUDA graph needs it: no shape and no address changes.

The cache is written at a position that lies on the device, see `static_attention`, and weights are plain
tensors, those of one input joined where they lie side by side. It takes sequences over after the prefill and
computes what `LanguageModel` computes, in fewer and larger operations. It does not know who captures it.

Only for a model whose weights rest on the device as plain layers; `is_plain` tells.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.language_model import DecoderLayer, LanguageModel, SelfAttention
from ..model.layers import GatedMLP
from ..options import Compute
from . import kernels
from .capturing import can_capture
from .counted_attention import attention_for
from .steps import Decoder, Sequences, StreamedDecoder

Gate: TypeAlias = Callable[[Tensor], Tensor]


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
        self._eps = model.config.rms_norm_eps
        self._norm = model.norm
        self._weights = [_weights(layer) for layer in model.layers]
        self._attention = attention_for(sequences, model.config, compute_dtype)
        self._gate = gate_for(sequences.hidden.device, compute_dtype)

    def select(self, rows: Sequence[int]) -> StaticDecoder:
        """Return a decoder whose row i goes on with what is row `rows[i]` here, in memory of its own."""
        selected = copy.copy(self)
        index = torch.tensor(rows, device=self._weights[0].input_norm.device)
        selected._attention = self._attention.select(index)
        return selected

    def prepare(self, done: int) -> int:
        """Get ready for the step after `done` steps; return what the shapes in that step depend on."""
        return self._attention.prepare(done)

    def step(self, embeddings: Tensor) -> Tensor:
        """Append one token's embedding (b, d) to every row and return the next hidden states (b, d)."""
        attention = self._attention
        attention.begin()
        x = embeddings.clone()  # each block adds to it where it is: a product that adds saves a pass
        for index, weights in enumerate(self._weights):
            projected = _product(self._normed(x, weights.input_norm), weights.projections)
            x.addmm_(attention.mix(index, projected), weights.output.T)
            gate_up = _product(self._normed(x, weights.post_norm), weights.gate_up)
            x.addmm_(self._gate(gate_up), weights.down.T)
        attention.end()
        return self._norm(x)

    def _normed(self, x: Tensor, scale: Tensor) -> Tensor:
        return F.rms_norm(x, scale.shape, scale, self._eps)


def gate_for(device: torch.device, dtype: torch.dtype) -> Gate:
    """Return what gates (b, 2 inner) to (b, inner): a kernel where it may be used, else plain operators."""
    if not _gate_passes(device, dtype):
        return gate

    from .triton_kernels import gate as kernel

    return kernel


def gate(gate_up: Tensor) -> Tensor:
    """Return silu of the first half of (b, 2 inner) times the second half, (b, inner)."""
    opened, up = gate_up.chunk(2, dim=-1)
    return F.silu(opened) * up


@lru_cache
def _gate_passes(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether the kernel may be used, by a trial once a process."""
    return kernels.passes("gating", device, lambda: _gate_trial(device, dtype))


def _gate_trial(device: torch.device, dtype: torch.dtype) -> bool:
    """Compare the kernel with plain operators in float64."""
    from .triton_kernels import gate as kernel

    gate_up = 4 * torch.randn(3, 2 * 1111, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    bound = max(4 * torch.finfo(dtype).eps, 1e-5)
    return torch.allclose(kernel(gate_up).double(), gate(gate_up.double()), rtol=bound, atol=bound)


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
