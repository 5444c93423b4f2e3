"""Find the quantised layers of a file: by ComfyUI's markers, the newer two and the older one.

`<layer>.comfy_quant`       a tensor of bytes, JSON about the layer
`_quantization_metadata`    JSON in the header about all layers, which wins
`scaled_fp8`                a tensor; every layer with a `scale_weight` is float8_e4m3fn

Nothing here knows what the layers are for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .formats import INPUT_SCALE, SCALE, SCALE_2, SMOOTHING, WEIGHT
from .weight import QuantisedWeight, read_weight

HEADER_KEY = "_quantization_metadata"
MARKER = ".comfy_quant"

_PARTS = (WEIGHT, SCALE, SCALE_2, INPUT_SCALE, SMOOTHING)
_OLD_MARK = "scaled_fp8"
_OLD_PARTS = {"scale_weight": SCALE, "scale_input": INPUT_SCALE}
_OLD_FORMAT = "float8_e4m3fn"
_LONGEST = 4096  # bytes of a layer's marker; ComfyUI writes 60


def take_quantised(tensors: dict[str, Tensor], header: Mapping[str, str]) -> dict[str, QuantisedWeight]:
    """Take the quantised layers out of a file's tensors, which keep the others.

    Args:
        tensors: by name; changed.
        header: the file's metadata.

    Returns: matrices by the name of their layer.

    Raises:
        CheckpointError: a marker is broken, or does not fit the tensors.
    """
    markers = _from_tensors(tensors)
    if HEADER_KEY in header:
        markers |= _from_header(header[HEADER_KEY])
    else:
        markers |= _from_old_mark(tensors)
    return {
        layer: read_weight(
            layer,
            marker,
            {part: tensors.pop(f"{layer}.{part}") for part in _PARTS if f"{layer}.{part}" in tensors},
        )
        for layer, marker in markers.items()
    }


def _from_tensors(tensors: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    names = [name for name in tensors if name.endswith(MARKER)]
    return {name.removesuffix(MARKER): _parsed(name, tensors.pop(name)) for name in names}


def _parsed(name: str, stored: Tensor) -> dict[str, Any]:
    is_text = stored.dtype == torch.uint8 and stored.ndim == 1 and len(stored) <= _LONGEST
    return _object(name, bytes(stored.tolist()) if is_text else b"")


def _from_header(text: str) -> dict[str, dict[str, Any]]:
    layers = _object(HEADER_KEY, text).get("layers")
    if not isinstance(layers, dict) or not all(isinstance(marker, dict) for marker in layers.values()):
        raise _broken(HEADER_KEY)
    return layers


def _from_old_mark(tensors: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    mark = next((name for name in tensors if name.rpartition(".")[2] == _OLD_MARK), None)
    if mark is None:
        return {}
    # as ComfyUI reads it: two numbers in the mark ask for products in full precision
    asks_precision = tensors.pop(mark).numel() == 2
    layers = [name.rpartition(".")[0] for name in tensors if name.endswith(".scale_weight")]
    for layer in layers:
        for old, new in _OLD_PARTS.items():
            if f"{layer}.{old}" in tensors:
                tensors[f"{layer}.{new}"] = tensors.pop(f"{layer}.{old}")
        weight = tensors.get(f"{layer}.{WEIGHT}")
        if (
            weight is not None and weight.dtype == torch.float8_e5m2
        ):  # by value, which ComfyUI cuts off at 448
            tensors[f"{layer}.{WEIGHT}"] = weight.to(torch.float8_e4m3fn)
    marker = {"format": _OLD_FORMAT} | ({"full_precision_matrix_mult": True} if asks_precision else {})
    return {layer: dict(marker) for layer in layers}


def _object(name: str, text: str | bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(name) from error
    if not isinstance(content, dict):
        raise _broken(name)
    return content


def _broken(name: str) -> CheckpointError:
    return CheckpointError(f'What "{name}" says about quantised layers cannot be read. Fetch the file again.')
