"""Static-shape decoder with fixed buffers, for CUDA graphs: no shape and no address changes between steps.

The cache is written at a position kept on the device, see `static_attention`, and weights are plain tensors,
joined where they share an input. It takes sequences over after the prefill and computes what `LanguageModel`
computes, in fewer and larger operations. It does not know who captures it.

Only for a model whose weights rest on the device in plain layers; see `is_plain`.
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
from .joining import Joiner
from .paged_decoder import PagedDecoder
from .steps import Decoder, Sequences, StreamedDecoder

Gate: TypeAlias = Callable[[Tensor], Tensor]


def decoder_for(model: LanguageModel, sequences: Sequences, compute: Compute) -> Decoder:
    """Return a static decoder where steps may be captured, a paged one for a runner, else a streamed one."""
    if may_capture(model, compute):
        return StaticDecoder(model, sequences, compute.dtype)
    if compute.runner is not None:
        return PagedDecoder(model, sequences, compute.dtype, compute.runner)
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
        type(layer.self_attn) is SelfAttention
        and type(layer.mlp) is GatedMLP
        and all(_is_plain_linear(linear) for linear in (*layer.self_attn.children(), *layer.mlp.children()))
        for layer in model.layers
    )
    return kinds and all(
        parameter.device == device and parameter.dtype == dtype
        for part in parts
        for parameter in part.parameters()
    )


def _is_plain_linear(linear: nn.Module) -> bool:
    """Tell whether a layer is a bare product: its weight is all that a static step would read of it."""
    hooks = linear._forward_hooks or linear._forward_pre_hooks
    return isinstance(linear, nn.Linear) and linear.bias is None and not hooks


class StaticDecoder:
    """Decoder with fixed buffers, which every step updates in place; see `Decoder`."""

    can_be_captured = True

    def __init__(self, model: LanguageModel, sequences: Sequences, compute_dtype: torch.dtype) -> None:
        """Take sequences over.

        Args:
            model: one that `is_plain`. Weights of one input are joined in memory, and stay so.
            sequences: filled by a prefill; their cache belongs to this decoder from now on.
            compute_dtype: of embeddings and hidden states; the cache may be in a wider one.
        """
        self._eps = model.config.rms_norm_eps
        self._norm = model.norm
        with Joiner(model) as joiner:
            self._weights = [_weights(layer, joiner) for layer in model.layers]
        self._attention = attention_for(sequences, model.config, compute_dtype)
        self._gate = gate_for(sequences.hidden.device, compute_dtype)

    def select(self, rows: Sequence[int]) -> StaticDecoder:
        """Return a decoder whose row i continues row `rows[i]` of this one, with buffers of its own."""
        index = torch.tensor(rows, device=self._weights[0].input_norm.device)
        selected = copy.copy(self)  # weights are shared: no step writes to them
        selected._attention = self._attention.select(index)
        return selected

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue row `rows[i]` from now on, in the same buffers: a captured step stays valid."""
        self._attention.reorder(rows)

    def prepare(self, done: int) -> int:
        """Prepare the step after `done` steps; return the number that its shapes depend on."""
        return self._attention.prepare(done)

    def step(self, embeddings: Tensor) -> Tensor:
        """Append one token's embedding (b, d) to every row and return the next hidden states (b, d)."""
        attention = self._attention
        attention.begin()
        x = embeddings.clone()  # (b, d), the residual stream, added to in place: `addmm_` saves a pass
        for index, weights in enumerate(self._weights):
            projected = _product(self._normed(x, weights.input_norm), weights.projections)
            x.addmm_(attention.attend(index, projected), weights.output.T)
            gate_up = _product(self._normed(x, weights.post_norm), weights.gate_up)  # (b, 2 inner)
            x.addmm_(self._gate(gate_up), weights.down.T)
        attention.end()
        return self._norm(x)

    def _normed(self, x: Tensor, scale: Tensor) -> Tensor:
        return F.rms_norm(x, scale.shape, scale, self._eps)


def gate_for(device: torch.device, dtype: torch.dtype) -> Gate:
    """Return the function that gates (b, 2 inner) to (b, inner): a kernel if it may be used, else `gate`."""
    if not _gate_passes(device, dtype):
        return gate

    from .triton_kernels import gate as kernel

    return kernel


def gate(gate_up: Tensor) -> Tensor:
    """Return silu of the first half of (b, 2 inner) times the second half, (b, inner)."""
    opened, up = gate_up.chunk(2, dim=-1)  # (b, inner) each
    return F.silu(opened) * up


@lru_cache
def _gate_passes(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether the kernel may be used, by a trial once in a process."""
    return kernels.passes("gating", device, lambda: _gate_trial(device, dtype))


def _gate_trial(device: torch.device, dtype: torch.dtype) -> bool:
    """Compare the kernel with plain operators in float64."""
    from .triton_kernels import gate as kernel

    gate_up = 4 * torch.randn(3, 2 * 1111, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    bound = max(4 * torch.finfo(dtype).eps, 1e-5)  # a few roundings
    return torch.allclose(kernel(gate_up).double(), gate(gate_up.double()), rtol=bound, atol=bound)


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


def _weights(layer: nn.Module, joiner: Joiner) -> LayerWeights:
    assert isinstance(layer, DecoderLayer)
    attention, mlp = layer.self_attn, layer.mlp
    return LayerWeights(
        input_norm=layer.input_layernorm.weight.detach(),
        projections=joiner.join((attention.q_proj, attention.k_proj, attention.v_proj)),
        output=attention.o_proj.weight.detach(),
        post_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=joiner.join((mlp.gate_proj, mlp.up_proj)),
        down=mlp.down_proj.weight.detach(),
    )


def _product(x: Tensor, matrices: tuple[Tensor, ...]) -> Tensor:
    """Multiply x (b, in) by matrices (out, in) and concatenate the outputs, (b, all outputs)."""
    products = [F.linear(x, matrix) for matrix in matrices]
    return products[0] if len(products) == 1 else torch.cat(products, dim=-1)
