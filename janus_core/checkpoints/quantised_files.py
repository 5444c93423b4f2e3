"""Quantised tensors among those of a file: which stay as they are stored, and which are expanded.

The matrices of decoder layers stay: a stand-in without memory goes through renaming and checks in their
place. Everything else is small, or is looked up by rows, and is expanded while it is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..one_file import SUFFIX, read_header
from ..quantised import bitsandbytes
from ..quantised.markers import HEADER_KEY, take_quantised
from ..quantised.weight import QuantisedWeight
from .layout import CheckpointFiles

_OF_DECODER = re.compile(r"(^|.*\.)layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj")
_MARKS = re.compile(
    r"\.(comfy_quant|weight_scale|scale_weight|SCB|quant_map|quant_state\..+)$|(^|\.)scaled_fp8$"
)
_FLOATS = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True, kw_only=True)
class SetApart:
    """Matrices that stay quantised, each with the tensor that stands in for it."""

    pairs: list[tuple[Tensor, QuantisedWeight]] = field(default_factory=list)

    def put_back(self, state_dict: dict[str, Tensor]) -> dict[str, QuantisedWeight]:
        """Take the stand-ins out of renamed tensors; return the matrices by the path of their layer."""
        by_stand_in = {id(stand_in): weight for stand_in, weight in self.pairs}
        names = [name for name, tensor in state_dict.items() if id(tensor) in by_stand_in]
        return {name.removesuffix(".weight"): by_stand_in[id(state_dict.pop(name))] for name in names}


def set_apart(published: dict[str, Tensor], files: CheckpointFiles) -> SetApart:
    """Expand or set apart every quantised matrix among a checkpoint's tensors, which are changed in place.

    Raises:
        CheckpointError: a marker is broken or does not fit the tensors; the message names the folder.
    """
    try:
        bitsandbytes.expand(published)
        weights = take_quantised(published, _headers(files.weights))
    except CheckpointError as error:
        raise CheckpointError(f'Cannot load "{files.folder}": {error}') from error
    kept = SetApart()
    dtype = _commonest(published)
    for layer, weight in weights.items():
        if _stays(layer):
            stand_in = torch.empty(weight.shape, dtype=torch.bfloat16, device="meta")
            kept.pairs.append((stand_in, weight))
        else:
            stand_in = _expanded(weight, dtype)
        published[f"{layer}.weight"] = stand_in
    return kept


def is_quantised(names: Iterable[str], files: CheckpointFiles) -> bool:
    """Tell by names and headers whether a checkpoint holds quantised matrices of any kind."""
    return HEADER_KEY in _headers(files.weights) or any(_MARKS.search(name) for name in names)


def _stays(layer: str) -> bool:
    return "vision" not in layer and _OF_DECODER.fullmatch(layer) is not None


def _expanded(weight: QuantisedWeight, dtype: torch.dtype) -> Tensor:
    matrix = weight.dequantised(torch.float32)
    if weight.smoothing is not None:  # multiplying inputs is multiplying columns
        matrix *= weight.smoothing.float().reshape(1, -1)
    return matrix.to(dtype)


def _commonest(tensors: Mapping[str, Tensor]) -> torch.dtype:
    found = [tensor.dtype for tensor in tensors.values() if tensor.dtype in _FLOATS]
    return max(_FLOATS, key=found.count)


def _headers(paths: tuple[Path, ...]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in paths:
        if path.suffix == SUFFIX:
            try:
                texts |= read_header(path).texts
            except (OSError, ValueError):  # metadata that are no texts: nothing is said about layers
                continue
    return texts
