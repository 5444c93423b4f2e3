"""A linear layer over a quantised matrix: it stays as it is stored and is dequantised at each use.

On a CPU whole numbers with a scale for each row are multiplied by torch's own product where a few rows are
multiplied, as in a step; it reads a byte an entry and dequantises nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .formats import SCALE, WEIGHT
from .rotation import rotated
from .weight import QuantisedWeight

_FEW_ROWS = 4  # with more, dequantising once and multiplying is faster
_WHOLE = 64  # columns; torch's product reads whole vectors, and beyond the end where they do not divide a row


class QuantisedLinear(nn.Module):
    """y = x W^T + b, W quantised.

    It has no parameters of its own: what is stored is moved with the module, and never converted.
    """

    def __init__(self, weight: QuantisedWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out).

        Raises:
            ConfigError: `x` requires a gradient.
        """
        if x.requires_grad:
            raise ConfigError("Quantised weights cannot learn. Train the original model, in 16 or 32 bits.")
        weight = self.weight
        if weight.smoothing is not None:
            x = x * weight.smoothing.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if _multiplies_int8(weight, x):
            product = _int8_product(weight, x)
            return product if bias is None else product + bias
        return F.linear(x, weight.dequantised(x.dtype), bias)

    def extra_repr(self) -> str:
        """Say what it holds."""
        return f"{self.in_features}, {self.out_features}, {self.weight.format.name}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantisedLinear:
        """Follow a move to another device, and keep dtypes: they are the format's."""
        place = fn(torch.empty(0, device=self.weight.tensors[WEIGHT].device)).device
        self.weight = self.weight.on(place)
        self.bias = None if self.bias is None else self.bias.to(place)
        return self


def _multiplies_int8(weight: QuantisedWeight, x: Tensor) -> bool:
    """Tell whether torch's own product serves."""
    return (
        weight.format.name == "int8_tensorwise"
        and x.device.type == "cpu"
        and x.shape[-1] % _WHOLE == 0
        and x.numel() <= _FEW_ROWS * x.shape[-1]
        and _has_int8_product(x.dtype)
    )


def _int8_product(weight: QuantisedWeight, x: Tensor) -> Tensor:
    stored: Mapping[str, Tensor] = weight.tensors
    q, scale = stored[WEIGHT], stored[SCALE].reshape(-1).to(x.dtype)
    # rotating the input is rotating the weights, and much less of it
    rows = (rotated(x, weight.rotation) if weight.rotation else x).reshape(-1, x.shape[-1])
    product: Tensor = torch._weight_int8pack_mm(rows.contiguous(), q, scale.expand(len(q)).contiguous())
    return product.reshape(*x.shape[:-1], len(q))


@lru_cache
def _has_int8_product(dtype: torch.dtype) -> bool:
    """Try a small product: the operation is an internal one of torch, so only a trial tells."""
    q = torch.arange(-128, 128, dtype=torch.int16).to(torch.int8).reshape(4, _WHOLE)
    x, scale = torch.ones(2, _WHOLE, dtype=dtype), torch.full((4,), 0.5, dtype=dtype)
    try:
        found = torch._weight_int8pack_mm(x, q, scale)
    except (RuntimeError, AttributeError):
        return False
    wanted: Any = q.float().sum(dim=1) / 2
    return torch.allclose(found.float(), wanted.expand(2, 4), rtol=0.02, atol=0.5)


def put_into(model: nn.Module, weights: Mapping[str, QuantisedWeight], device: torch.device) -> None:
    """Replace linear layers of a model, which have no biases, by quantised ones on a device."""
    for path, weight in weights.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, QuantisedLinear(weight.on(device)))


def expand_layer(model: nn.Module, parameter: str) -> None:
    """Make a quantised layer plain again, in the dtype of its block's norms, so that it can be changed.

    Args:
        model: it may hold the layer.
        parameter: full name of the layer's weight; that of any other parameter changes nothing.
    """
    path = parameter.rpartition(".")[0]
    layer = model.get_submodule(path)
    if not isinstance(layer, QuantisedLinear):
        return
    block, part, name = path.rsplit(".", 2)
    dtype = next(model.get_submodule(block).parameters()).dtype
    matrix = layer.weight.dequantised(torch.float32)
    if layer.weight.smoothing is not None:  # multiplying inputs is multiplying columns
        matrix = matrix * layer.weight.smoothing.float().reshape(1, -1)
    with torch.device("meta"):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False)
    plain.weight = nn.Parameter(matrix.to(dtype), requires_grad=False)
    setattr(model.get_submodule(f"{block}.{part}"), name, plain.eval())
