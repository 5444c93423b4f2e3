"""Weights that bitsandbytes has stored in 4 or 8 bits, expanded without it.

4 bits: each entry names one of 16 numbers, the upper half of a byte first; runs of 64 entries share a scale,
and the scales may be stored in 8 bits themselves, 256 of which share another. 8 bits: whole numbers, a scale
for each row. Source: functional.py of bitsandbytes-foundation/bitsandbytes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError

log = logging.getLogger("janus.quantised")

_STATE = ".quant_state.bitsandbytes__"
_PARTS_4 = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_SCALES_8, _LAYOUT_8 = ".SCB", ".weight_format"
_ROUND_TRIP = 7.874015718698502e-3  # 1/127, in the digits that bitsandbytes multiplies by
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_KINDS = ("nf4", "fp4")
_MOST_ENTRIES = 2**33
_MOST_IN_BLOCK = 2**16  # bitsandbytes has blocks of 64 to 4096
_LONGEST_STATE = 4096  # bytes; it writes 200


def expand(tensors: dict[str, Tensor]) -> None:
    """Expand every weight of bitsandbytes among a file's tensors in place, with one remark on memory.

    Raises:
        CheckpointError: what belongs to a weight is missing or does not fit it.
    """
    four = [name for name in tensors if _STATE in name]
    eight = [name.removesuffix(_SCALES_8) for name in tensors if name.endswith(_SCALES_8)]
    dtype = _of_the_others(tensors)
    nbytes = 0
    for name in four:
        weight, _, kind = name.partition(_STATE)
        tensors[weight] = _from_four(weight, kind, tensors.pop(name), tensors)
        nbytes += tensors[weight].nbytes
    for layer in eight:
        tensors[f"{layer}.weight"] = _from_eight(layer, tensors).to(dtype)
        nbytes += tensors[f"{layer}.weight"].nbytes
    if nbytes:
        log.warning(
            "Janus: %d matrices were stored by bitsandbytes and are expanded while they are loaded, to %.1f "
            "GB of memory. A model in int8 or nvfp4, as janus convert makes of the original, stays small.",
            len(four) + len(eight),
            nbytes / 1e9,
        )


def _of_the_others(tensors: dict[str, Tensor]) -> torch.dtype:
    """Return the dtype of most tensors that are no parts of a quantised weight."""
    plain = [
        tensor.dtype
        for name, tensor in tensors.items()
        if tensor.dtype in _DTYPES.values() and not name.endswith((_SCALES_8, *_PARTS_4))
    ]
    return max(plain, key=plain.count, default=torch.float16)


@dataclass(frozen=True, kw_only=True)
class _State:
    """What bitsandbytes says about one weight in 4 bits."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    block: int
    nested_block: int
    nested_offset: float

    @property
    def entries(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


def _from_four(weight: str, kind: str, stored: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    state = _state(weight, kind, stored)
    parts = {part: tensors.pop(f"{weight}.{part}") for part in _PARTS_4 if f"{weight}.{part}" in tensors}
    packed, table = tensors.get(weight), parts.get("quant_map")
    if packed is None or table is None or "absmax" not in parts:
        raise _broken(weight, "its absmax, quant_map or numbers are missing")
    blocks = -(-state.entries // state.block)
    fits = packed.dtype == torch.uint8 and packed.numel() == -(-state.entries // 2)
    if not fits or table.numel() != 16 or parts["absmax"].numel() != blocks:
        raise _broken(weight, "its parts are of other shapes than it says")
    scales = _scales(weight, state, parts)
    packed = packed.reshape(-1)
    codes = torch.stack((packed >> 4, packed & 15), dim=-1).reshape(-1)[: state.entries]
    numbers = F.embedding(codes.int(), table.float().reshape(-1, 1))[:, 0]
    numbers *= scales.repeat_interleave(state.block)[: state.entries]
    return numbers.reshape(state.shape).to(state.dtype)


def _scales(weight: str, state: _State, parts: dict[str, Tensor]) -> Tensor:
    """Return the scale of every block, which may be stored in 8 bits."""
    scales = parts["absmax"].reshape(-1)
    if scales.dtype.is_floating_point:
        return scales.float()
    table, outer = parts.get("nested_quant_map"), parts.get("nested_absmax")
    if table is None or outer is None or scales.dtype != torch.uint8 or table.numel() != 256:
        raise _broken(weight, "its scales' own scales are missing")
    if outer.numel() != -(-len(scales) // state.nested_block):
        raise _broken(weight, "its parts are of other shapes than it says")
    inner = F.embedding(scales.int(), table.float().reshape(-1, 1))[:, 0]
    outer = outer.float().reshape(-1).repeat_interleave(state.nested_block)[: len(scales)]
    return inner * outer + state.nested_offset


def _state(weight: str, kind: str, stored: Tensor) -> _State:
    is_text = stored.dtype == torch.uint8 and stored.numel() <= _LONGEST_STATE
    try:
        said: dict[str, Any] = json.loads(bytes(stored.reshape(-1).tolist()) if is_text else b"")
        state = _State(
            shape=tuple(int(size) for size in said["shape"]),
            dtype=_DTYPES[str(said["dtype"]).removeprefix("torch.")],
            block=int(said["blocksize"]),
            nested_block=int(said.get("nested_blocksize", 256)),
            nested_offset=float(said.get("nested_offset", 0.0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise _broken(weight, "what it says about itself cannot be read") from error
    if kind not in _KINDS:
        raise _broken(weight, f"{kind[:20]!r} is none of {', '.join(_KINDS)}")
    blocks = (state.block, state.nested_block)
    is_possible = min(*state.shape, *blocks, 1) == 1 and max(blocks) <= _MOST_IN_BLOCK
    if not state.shape or not is_possible or state.entries > _MOST_ENTRIES:
        raise _broken(weight, "its sizes are impossible")
    return state


def _from_eight(layer: str, tensors: dict[str, Tensor]) -> Tensor:
    scales, layout = tensors.pop(f"{layer}{_SCALES_8}"), tensors.pop(f"{layer}{_LAYOUT_8}", None)
    weight = tensors.get(f"{layer}.weight")
    if weight is None or weight.dtype != torch.int8 or weight.ndim != 2 or scales.numel() != len(weight):
        raise _broken(f"{layer}.weight", "its parts are of other shapes than it says")
    if layout is not None and bool(layout.count_nonzero()):
        raise _broken(f"{layer}.weight", "its rows are in an order for one kind of card")
    return weight * scales.float().reshape(-1, 1) * _ROUND_TRIP


def _broken(weight: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f'"{weight}" was stored by bitsandbytes and cannot be expanded: {reason}. Fetch the file again, or '
        "the original model."
    )
