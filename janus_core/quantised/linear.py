"""A linear layer over a quantised matrix: it stays as it is stored and is dequantised at each use.

On a CPU whole numbers with a scale for each row are never expanded whole: a block of rows at a time, which
stays in the processor's cache, is multiplied by, and the scales are applied to the result. In bfloat16, for a
few rows of input as in a step, torch's own product for whole numbers does the same. Both read a byte an entry
from memory and take a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .formats import SCALE, WEIGHT
from .rotation import rotated
from .weight import QuantisedWeight

_BLOCK = 256  # rows of a matrix that are expanded at once: 2 MB in float32 at the width of the 1B
_FEW_ROWS = 4  # of input; torch's own product is made for few
_WHOLE = 64  # columns; it reads whole vectors, and beyond the end where they do not divide a row


class QuantisedLinear(nn.Module):
    """y = x W^T + b, W quantised.

    It has no parameters of its own: what is stored is moved with the module, and never converted.
    """

    def __init__(self, weight: QuantisedWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.out_features = weight.shape[0]
        self.in_features = weight.shape[1]

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
        if _is_int8_on_cpu(weight, x):
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


def _is_int8_on_cpu(weight: QuantisedWeight, x: Tensor) -> bool:
    """Tell whether scales may be applied to the product; in float16 it could overflow before."""
    is_int8 = weight.format.name == "int8_tensorwise"
    return is_int8 and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def _int8_product(weight: QuantisedWeight, x: Tensor) -> Tensor:
    q, scale = weight.tensors[WEIGHT], weight.tensors[SCALE].reshape(-1).to(x.dtype)
    # rotating the input is rotating the weights, and much less of it
    rows = (rotated(x, weight.rotation) if weight.rotation else x).reshape(-1, x.shape[-1]).contiguous()
    few = len(rows) <= _FEW_ROWS and q.shape[1] % _WHOLE == 0
    if few and x.dtype == torch.bfloat16 and _has_int8_product():
        product: Tensor = torch._weight_int8pack_mm(rows, q, scale.expand(len(q)).contiguous())
    else:
        product = _by_blocks(rows, q) * scale
    return product.reshape(*x.shape[:-1], len(q))


def _by_blocks(rows: Tensor, q: Tensor) -> Tensor:
    """Return rows (t, in) times whole numbers (out, in) as (t, out)."""
    product = rows.new_empty(len(rows), len(q))
    expanded = rows.new_empty(min(_BLOCK, len(q)), q.shape[1])  # written anew for each block
    for first in range(0, len(q), _BLOCK):
        block = q[first : first + _BLOCK]
        product[:, first : first + _BLOCK] = F.linear(rows, expanded[: len(block)].copy_(block))
    return product


@lru_cache
def _has_int8_product() -> bool:
    """Try a small product: the operation is an internal one of torch, so only a trial tells."""
    q = torch.arange(-128, 128, dtype=torch.int16).to(torch.int8).reshape(4, _WHOLE)
    x, scale = torch.ones(2, _WHOLE, dtype=torch.bfloat16), torch.full((4,), 0.5, dtype=torch.bfloat16)
    try:
        found = torch._weight_int8pack_mm(x, q, scale)
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(found.float(), (q.float().sum(dim=1) / 2).expand(2, 4), rtol=0.02, atol=0.5)


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
