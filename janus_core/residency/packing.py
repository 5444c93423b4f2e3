"""Repack the decoder's matrices on a CPU, so that steps of few rows are limited by memory bandwidth.

A step multiplies one or two rows by every matrix of the decoder; torch's plain product for that shape takes
several times as long as reading the matrix. Two packed products do not. The first has float16 storage and
float32 arithmetic: half the bytes, used only where no value changes by more than float32's own rounding, as
with weights published in bfloat16. The second is oneDNN's blocked storage in the model's dtype.

Packing happens in place, once, when a model first draws or answers; until then its weights stay mapped from
the file. Only plain `torch.nn` layers on a CPU without gradients are packed. A packed module has no
parameters: a packed model cannot be trained, moved to another device or saved. Load it again for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeAlias, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..model.language_model import LanguageModel, SelfAttention
from ..model.layers import GatedMLP
from ..model.model import Language, TextLanguage

Product: TypeAlias = Callable[[Tensor], Tensor]
Packer: TypeAlias = "Callable[[Tensor, Tensor | None], Product]"

_LEAST = 2**16  # entries; for a smaller matrix the call of a packed product costs more than it saves
_INVISIBLE = 2.0**-22  # relative change of a matrix row; a float32 product has several times that error
_ROWS_AT_ONCE = 1024  # of a matrix while it is compared, so that its copies stay small
_MOST_AT_ONCE = 4  # layers being packed, each with copies of its matrices
_BLOCKED_ROWS = 16  # oneDNN chooses its blocks for this many rows; the same blocks serve from 1 to hundreds


def pack_for_drawing(language: Language) -> None:
    """Pack what a drawing step multiplies by: decoder layers, generation head and generation aligner."""
    if _is_frozen(language):
        _pack_layers(language.language_model)
        _pack_linears(language.generation_head)
        _pack_linears(language.generation_aligner.layers)  # the `nn.Sequential`: its children are replaced


def pack_for_answering(language: TextLanguage) -> None:
    """Pack what an answering step multiplies by: decoder layers and the text head."""
    if _is_frozen(language):
        _pack_layers(language.language_model)
        _pack_linears(language.language_model)  # its only direct linear layer is the text head


class PackedLinear(nn.Module):
    """One or several linear layers of one input as a single packed product, their outputs concatenated."""

    def __init__(self, product: Product, out_features: int) -> None:
        super().__init__()
        self.product = product
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out).

        Raises:
            ConfigError: `x` requires a gradient, which a packed product does not have.
        """
        if x.requires_grad:
            raise ConfigError(
                "This model was packed for drawing and answering on a CPU, so it cannot learn. Load it "
                "again, and train it before it draws or answers."
            )
        return self.product(x)


class PackedAttention(SelfAttention):
    """Self-attention whose queries, keys and values come from one product."""

    def __init__(self, attention: SelfAttention, projections: PackedLinear, output: nn.Module) -> None:
        nn.Module.__init__(self)  # not the parent's, which would create unpacked layers
        self.heads = attention.heads
        self.kv_heads = attention.kv_heads
        self.widths = [layer.out_features for layer in (attention.q_proj, attention.k_proj, attention.v_proj)]
        self.projections = projections
        self.o_proj = output  # type: ignore[assignment]  # packed or a Linear: both map x

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of x (b, t, d), each (b, t, width)."""
        q, k, v = self.projections(x).split(self.widths, dim=-1)  # (b, t, width) each
        return q, k, v


class PackedMLP(GatedMLP):
    """Llama's feed-forward block of packed products.

    Gate and up stay two products. As one they would be no faster in a step and slower with the many rows of
    a prompt: a product goes through its whole matrix for every block of rows, which a matrix of half the size
    lets it do in the processor's cache; and the halves of one result are not contiguous for what follows.
    """

    def __init__(self, gate: nn.Module, up: nn.Module, down: nn.Module) -> None:
        nn.Module.__init__(self)
        self.gate_proj = gate  # type: ignore[assignment]  # packed or a Linear: both map x
        self.up_proj = up  # type: ignore[assignment]
        self.down_proj = down  # type: ignore[assignment]


def _is_frozen(language: TextLanguage) -> bool:
    """Tell whether nothing is trained: evaluation mode, and no parameter requires a gradient."""
    return not language.training and not any(p.requires_grad for p in language.parameters())


def _pack_layers(model: LanguageModel) -> None:
    """Pack all decoder layers, a few at a time: packing one matrix keeps one core busy."""
    with ThreadPoolExecutor(min(torch.get_num_threads(), _MOST_AT_ONCE)) as pool:
        list(pool.map(_pack_layer, model.layers))


def _pack_layer(layer: nn.Module) -> None:
    attention, mlp = layer.self_attn, layer.mlp
    # exact classes: what is packed already is a subclass, and another subclass may compute something else
    if type(attention) is SelfAttention:
        projections = _pack((attention.q_proj, attention.k_proj, attention.v_proj))
        if projections is not None:
            output = _pack((attention.o_proj,)) or attention.o_proj
            layer.self_attn = PackedAttention(attention, projections, output)
    if type(mlp) is GatedMLP:
        gate, up = _pack((mlp.gate_proj,)), _pack((mlp.up_proj,))
        if gate is not None and up is not None:
            layer.mlp = PackedMLP(gate, up, _pack((mlp.down_proj,)) or mlp.down_proj)


def _pack_linears(module: nn.Module) -> None:
    """Replace the linear layers that are direct children of a module."""
    for name, child in list(module.named_children()):
        packed = _pack((child,)) if isinstance(child, nn.Linear) else None
        if packed is not None:
            setattr(module, name, packed)


def _pack(modules: Sequence[nn.Module]) -> PackedLinear | None:
    """Return linear layers of one input as one packed product, or None where it cannot be or does not pay."""
    linears = [module for module in modules if _is_plain(module)]
    weights = [linear.weight.detach() for linear in linears]
    biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
    if len(linears) < len(modules) or len(biases) not in (0, len(linears)):
        return None  # all of them or none: the outputs have to come from one product
    if sum(weight.numel() for weight in weights) < _LEAST or len({weight.dtype for weight in weights}) > 1:
        return None
    product = pack_matrix(
        torch.cat(weights) if len(weights) > 1 else weights[0], torch.cat(biases) if biases else None
    )
    return None if product is None else PackedLinear(product, sum(linear.out_features for linear in linears))


def _is_plain(linear: nn.Module) -> TypeGuard[nn.Linear]:
    """Tell whether a layer is torch's own linear layer on a CPU, without hooks, which packing would lose."""
    return (
        type(linear) is nn.Linear
        and linear.weight.device.type == "cpu"
        and not linear._forward_hooks
        and not linear._forward_pre_hooks
    )


def pack_matrix(weight: Tensor, bias: Tensor | None) -> Product | None:
    """Pack one matrix.

    Args:
        weight: (out, in) on a CPU.
        bias: (out,) or None.

    Returns: a function that maps (…, in) to (…, out), or None where this computer has no packed product that
    pays for the dtype.
    """
    for pack in _packers(weight.dtype):
        if pack is not _in_half_storage or survives_half_storage(weight):
            return pack(weight, bias)
    return None


@lru_cache
def _packers(dtype: torch.dtype) -> tuple[Packer, ...]:
    """Return the packings of a dtype that are faster here and that this torch has, the fastest first."""
    if dtype == torch.float32:
        return tuple(pack for pack in (_in_half_storage, _in_blocks) if _works(pack, dtype))
    if dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported():  # storage stays bfloat16
        return tuple(pack for pack in (_in_blocks,) if _works(pack, dtype))
    return ()


def _works(pack: Packer, dtype: torch.dtype) -> bool:
    """Try a small product: these operations are optional parts of torch, so only a trial tells."""
    weight = torch.arange(-128, 128, dtype=dtype).reshape(16, 16) / 128
    x, bias = weight[:2], weight[0]
    try:
        found = pack(weight, bias)(x)
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(found.float(), F.linear(x, weight, bias).float(), rtol=0.01, atol=0.01)


def survives_half_storage(weight: Tensor) -> bool:
    """Tell whether converting a matrix to float16 changes less than a float32 product's own rounding.

    float16 is exact for bfloat16 numbers from 2^-17 to 65504, so in matrices published in bfloat16 only
    entries too small to matter change. An overflow makes the difference infinite, which is refused.
    """
    blocks = torch.split(weight, _ROWS_AT_ONCE)
    # both (out,): the length of each row's change, and of the row
    moved = torch.cat([torch.linalg.vector_norm(rows.half() - rows, dim=1) for rows in blocks])
    lengths = torch.cat([torch.linalg.vector_norm(rows, dim=1) for rows in blocks])
    return bool(moved.max() <= _INVISIBLE * lengths.square().mean().sqrt())


def _in_half_storage(weight: Tensor, bias: Tensor | None) -> Product:
    packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
    multiply = torch.ops.quantized.linear_dynamic_fp16.default
    return lambda x: multiply(x, packed)


def _in_blocks(weight: Tensor, bias: Tensor | None) -> Product:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, _BLOCKED_ROWS)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    return lambda x: multiply(x, packed, bias, "none", [], "")
