"""One quantised matrix: its stored tensors, checked, and what they stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .formats import FORMATS, INPUT_SCALE, SMOOTHING, WEIGHT, Format
from .rotation import is_rotation

_ROTATION = 256  # where a marker says that there is one, and not of which size
_ADDED = (INPUT_SCALE, SMOOTHING)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantisedWeight:
    """A matrix as it is stored.

    Attributes:
        format: of its numbers.
        tensors: by the last part of their names: `weight`, `weight_scale` and so on.
        rotation: size of the rotation before it was rounded; 0 if there was none.
        marker: what the file says about it, for hosts.
    """

    format: Format
    tensors: Mapping[str, Tensor]
    rotation: int = 0
    marker: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix: (out, in)."""
        return self.format.logical(tuple(self.tensors[WEIGHT].shape))

    @property
    def nbytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def smoothing(self) -> Tensor | None:
        """What inputs are multiplied by first, (in,), or None."""
        return self.tensors.get(SMOOTHING)

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix (out, in) in a dtype."""
        return self.format.dequantise(self.tensors, self.rotation, dtype)

    def on(self, device: torch.device) -> QuantisedWeight:
        """Return it on a device."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return QuantisedWeight(format=self.format, tensors=moved, rotation=self.rotation, marker=self.marker)

    def to_state(self, layer: str) -> dict[str, Tensor]:
        """Return the tensors by full name, marker included, as ComfyUI's layers take them."""
        text = json.dumps(dict(self.marker)).encode()
        return {
            **{f"{layer}.{name}": tensor for name, tensor in self.tensors.items()},
            f"{layer}.comfy_quant": torch.tensor(list(text), dtype=torch.uint8),
        }


def read_weight(layer: str, marker: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> QuantisedWeight:
    """Return one layer's matrix.

    Args:
        layer: its name in the file, for messages.
        marker: what the file says about it.
        tensors: of the layer, by the last part of their names.

    Raises:
        CheckpointError: an unknown format, or tensors that are missing, of another shape or dtype.
    """
    name = marker.get("format")
    made = FORMATS.get(name) if isinstance(name, str) else None
    if made is None:
        raise CheckpointError(
            f'"{layer}" is quantised as {str(name)[:60]!r}, which cannot be read. Known are '
            f"{', '.join(FORMATS)}: use a file in one of these, or the original model."
        )
    if WEIGHT not in tensors:
        raise CheckpointError(
            f'The file says that "{layer}" is quantised, and has no weight of this name. Fetch it again.'
        )
    weight = QuantisedWeight(
        format=made, tensors=tensors, rotation=_rotation(layer, marker, made), marker=dict(marker)
    )
    _check(layer, weight)
    return weight


def _rotation(layer: str, marker: Mapping[str, Any], made: Format) -> int:
    if made.name != "int8_tensorwise":
        return 0
    nested = marker.get("params")
    options = {**(nested if isinstance(nested, dict) else {}), **marker}
    if not options.get("convrot"):
        return 0
    size = options.get("convrot_groupsize", _ROTATION)
    if not is_rotation(size):
        raise CheckpointError(
            f'"{layer}" is said to be rotated in groups of {str(size)[:60]}, and only a power of 4 can be. '
            "Fetch the file again."
        )
    return int(size)


def _check(layer: str, weight: QuantisedWeight) -> None:
    shape = weight.shape
    if len(shape) != 2 or any(size % weight.format.step for size in shape) or 0 in shape:
        raise CheckpointError(
            f'"{layer}" is stored as {list(shape)}, which is no matrix in {weight.format.name}. Fetch the '
            "file again."
        )
    if weight.rotation and shape[1] % weight.rotation:
        raise CheckpointError(
            f'"{layer}" is said to be rotated in groups of {weight.rotation}, which do not divide its '
            f"{shape[1]} columns. Fetch the file again."
        )
    kinds = weight.format.kinds(*shape)
    kinds |= {INPUT_SCALE: ((torch.float32, torch.bfloat16, torch.float16), ((), (1,)))}
    kinds |= {SMOOTHING: ((torch.float32, torch.bfloat16, torch.float16), ((shape[1],), (1, shape[1])))}
    for name, (dtypes, shapes) in kinds.items():
        tensor = weight.tensors.get(name)
        if tensor is None and name in _ADDED:
            continue
        if tensor is None:
            raise CheckpointError(f'"{layer}" is quantised and has no {name}. Fetch the file again.')
        if tuple(tensor.shape) not in shapes or tensor.dtype not in dtypes:
            raise CheckpointError(
                f'"{layer}.{name}" has {list(tensor.shape)} in {tensor.dtype} instead of {list(shapes[0])} '
                f"in {dtypes[0]}, as {weight.format.name} wants it. Fetch the file again."
            )
