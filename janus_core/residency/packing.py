"""Repack the decoder's matrices on a CPU, so that a step of few rows reads them fast.

A step multiplies one or two rows by every matrix of the decoder, and torch's product for that shape is
several times slower than memory. Two of its packed products are not: float16 storage with float32 arithmetic,
half the bytes and used only where no value changes by more than float32's own rounding, as is so for weights
published in bfloat16; else oneDNN's blocked storage in the model's dtype.

Packing happens in place, once, when a model first draws or answers; until then its weights stay mapped from
the file. It touches plain `torch.nn` layers on a CPU that are not learning, and nothing else. A packed module
has no parameters: a packed model cannot be trained, moved to another device or saved. Load it again for that.
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

_LEAST = 2**16  # entries; a packed product of a smaller matrix costs more in its call than it saves
_INVISIBLE = 2.0**-22  # relative move of a matrix row; rounding errs a float32 product several times as much
_ROWS_AT_ONCE = 1024  # of a matrix while it is looked at, so that its copies stay small
_MOST_AT_ONCE = 4  # layers being packed, each with copies of its matrices
_BLOCKED_ROWS = 16  # oneDNN chooses its blocks for this many rows; the same blocks serve from 1 to hundreds


def pack_for_drawing(language: Language) -> None:
    """Pack what a drawing step multiplies by: decoder layers, generation head and generation aligner."""
    if _is_at_rest(language):
        _pack_layers(language.language_model)
        _pack_linears(language.generation_head)
        _pack_linears(language.generation_aligner.layers)


def pack_for_answering(language: TextLanguage) -> None:
    """Pack what an answering step multiplies by: decoder layers and the text head."""
    if _is_at_rest(language):
        _pack_layers(language.language_model)
        _pack_linears(language.language_model)


class PackedLinear(nn.Module):
    """One or several linear layers of one input as a single packed product, their outputs side by side."""

    def __init__(self, product: Product, out_features: int) -> None:
        super().__init__()
        self.product = product
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out).

        Raises:
            ConfigError: a gradient is wanted, which a packed product does not have.
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
        nn.Module.__init__(self)
        self.heads = attention.heads
        self.kv_heads = attention.kv_heads
        self.widths = [layer.out_features for layer in (attention.q_proj, attention.k_proj, attention.v_proj)]
        self.projections = projections
        self.o_proj = output  # type: ignore[assignment]  # packed or a Linear: both map x

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of x (b, t, d), each (b, t, width)."""
        q, k, v = self.projections(x).split(self.widths, dim=-1)
        return q, k, v


class PackedMLP(GatedMLP):
    """Llama's feed-forward block whose gate and up projections are one product."""

    def __init__(self, projections: PackedLinear, down: nn.Module) -> None:
        nn.Module.__init__(self)
        self.projections = projections
        self.down_proj = down  # type: ignore[assignment]  # likewise

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        gate, up = self.projections(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


def _is_at_rest(language: TextLanguage) -> bool:
    """Tell whether nothing learns here: neither a mode nor a parameter asks for gradients."""
    return not language.training and not any(p.requires_grad for p in language.parameters())


def _pack_layers(model: LanguageModel) -> None:
    """Pack all decoder layers, a few at a time: packing one matrix keeps one core busy."""
    with ThreadPoolExecutor(min(torch.get_num_threads(), _MOST_AT_ONCE)) as pool:
        list(pool.map(_pack_layer, model.layers))


def _pack_layer(layer: nn.Module) -> None:
    attention, mlp = layer.self_attn, layer.mlp
    if type(attention) is SelfAttention:
        projections = _pack((attention.q_proj, attention.k_proj, attention.v_proj))
        if projections is not None:
            output = _pack((attention.o_proj,)) or attention.o_proj
            layer.self_attn = PackedAttention(attention, projections, output)
    if type(mlp) is GatedMLP:
        projections = _pack((mlp.gate_proj, mlp.up_proj))
        if projections is not None:
            layer.mlp = PackedMLP(projections, _pack((mlp.down_proj,)) or mlp.down_proj)


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
        return None
    if sum(weight.numel() for weight in weights) < _LEAST or len({weight.dtype for weight in weights}) > 1:
        return None
    product = pack_matrix(
        torch.cat(weights) if len(weights) > 1 else weights[0], torch.cat(biases) if biases else None
    )
    return None if product is None else PackedLinear(product, sum(linear.out_features for linear in linears))


def _is_plain(linear: nn.Module) -> TypeGuard[nn.Linear]:
    """Tell whether a layer is torch's own linear layer on a CPU, without hooks that packing would lose."""
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
    """Return the ways to pack a dtype that pay and that this CPU and this torch have, the fastest first."""
    if dtype == torch.float32:
        return tuple(pack for pack in (_in_half_storage, _in_blocks) if _works(pack, dtype))
    if dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported():
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
    """Tell whether float16 keeps a matrix so well that a float32 product cannot tell the difference.

    float16 holds every bit of a bfloat16 number from 2^-17 up to 65504, so in matrices published in bfloat16
    only entries too small to matter move.
    """
    blocks = torch.split(weight, _ROWS_AT_ONCE)
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
