"""The number formats of quantised matrices: what stored tensors stand for, and how they are made.

Each dequantisation is ComfyUI's own, operation by operation, in the dtype that is computed in. A matrix is
(out, in); nothing here knows of files, layers or models.

float8_e4m3fn    8 bits, a scale for the whole matrix
float8_e5m2      likewise with more range; read, not written
int8_tensorwise  whole numbers, a scale for the whole matrix or for each row; perhaps rotated first
mxfp8            8 bits, a power of two for each 32 columns. Source: OCP Microscaling Formats 1.0
nvfp4            4 bits, an 8-bit scale for each 16 columns and one for the whole. Source: NVIDIA's NVFP4
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from .rotation import rotated
from .tiles import from_tiles, tiled_shape, to_tiles

Stored: TypeAlias = Mapping[str, Tensor]
Kind: TypeAlias = tuple[tuple[torch.dtype, ...], tuple[tuple[int, ...], ...]]  # dtypes, shapes: any of them

WEIGHT, SCALE, SCALE_2 = "weight", "weight_scale", "weight_scale_2"
INPUT_SCALE, SMOOTHING = "input_scale", "pre_quant_scale"

_E4M3, _E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
_E8M0 = getattr(torch, "float8_e8m0fnu", torch.uint8)  # since torch 2.7; before, its bytes
_LARGEST_E4M3, _LARGEST_E2M1, _LARGEST_INT8 = 448.0, 6.0, 127.0
_BIAS = 127  # of a power of two in one byte
_SMALLEST_SCALE = 1e-30  # of a row of zeros
_MX, _NV = 32, 16  # columns in a block
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_ONE = ((), (1,))  # the shapes of a single number

# The numbers that 4 bits stand for; the fifth to the last bit is the sign.
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Between two of them, ties go to the one whose last bit is 0: up at every second border.
_BORDERS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        name: in markers.
        kinds: of a matrix (out, in), the dtypes and shapes that each stored tensor may have.
        dequantise: from stored tensors and the size of a rotation (0: none) to the matrix in a dtype.
        quantise: from rows of a matrix, the size of a rotation, and the largest magnitude in all rows to
            stored tensors; None where it is only read.
        logical: the shape of the matrix whose stored weight has a shape.
        step: the number that divides both sides of every matrix that can be stored.
    """

    name: str
    kinds: Callable[[int, int], dict[str, Kind]]
    dequantise: Callable[[Stored, int, torch.dtype], Tensor]
    quantise: Callable[[Tensor, int, Tensor], dict[str, Tensor]] | None
    logical: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple
    step: int = 1


def _float8(dtype: torch.dtype) -> Callable[[int, int], dict[str, Kind]]:
    return lambda out, into: {WEIGHT: ((dtype,), ((out, into),)), SCALE: (_FLOATS, _ONE)}


def _from_float8(stored: Stored, _: int, dtype: torch.dtype) -> Tensor:
    # as a float32 scale first, since a file may keep it in another dtype
    return stored[WEIGHT].to(dtype) * stored[SCALE].float().to(dtype)


def _to_float8(matrix: Tensor, _: int, largest: Tensor) -> dict[str, Tensor]:
    scale = (largest / _LARGEST_E4M3).clamp(min=_SMALLEST_SCALE)
    q = (matrix / scale).clamp(-_LARGEST_E4M3, _LARGEST_E4M3).to(_E4M3)
    return {WEIGHT: q, SCALE: scale.reshape(())}


def _int8(out: int, into: int) -> dict[str, Kind]:
    return {WEIGHT: ((torch.int8,), ((out, into),)), SCALE: (_FLOATS, ((out, 1), *_ONE))}


def _from_int8(stored: Stored, rotation: int, dtype: torch.dtype) -> Tensor:
    matrix = stored[WEIGHT].float() * stored[SCALE]
    return (rotated(matrix, rotation) if rotation else matrix).to(dtype)


def _to_int8(matrix: Tensor, rotation: int, _: Tensor) -> dict[str, Tensor]:
    matrix = rotated(matrix, rotation) if rotation else matrix
    scale = (matrix.abs().amax(dim=1, keepdim=True) / _LARGEST_INT8).clamp(min=_SMALLEST_SCALE)  # (out, 1)
    q = (matrix / scale).round().clamp(-_LARGEST_INT8, _LARGEST_INT8).to(torch.int8)
    return {WEIGHT: q, SCALE: scale}


def _mxfp8(out: int, into: int) -> dict[str, Kind]:
    return {
        WEIGHT: ((_E4M3,), ((out, into),)),
        SCALE: ((torch.uint8, _E8M0), (tiled_shape(out, into // _MX),)),
    }


def _from_mxfp8(stored: Stored, _: int, dtype: torch.dtype) -> Tensor:
    q = stored[WEIGHT]
    exponents = from_tiles(stored[SCALE].view(torch.uint8), q.shape[0], q.shape[1] // _MX)
    blocks = q.float().reshape(q.shape[0], -1, _MX) * _powers(exponents)[..., None]
    return blocks.reshape(q.shape).to(dtype)


def _to_mxfp8(matrix: Tensor, _: int, __: Tensor) -> dict[str, Tensor]:
    blocks = matrix.reshape(matrix.shape[0], -1, _MX)
    largest = blocks.abs().amax(dim=-1)  # (out, blocks)
    # rounded up, so that the largest entry fits
    needed = (largest / _LARGEST_E4M3).clamp(min=2.0**-_BIAS).log2().ceil() + _BIAS
    exponents = needed.clamp(0, 254).to(torch.uint8).masked_fill(largest == 0, 0)
    scales = _powers(exponents).masked_fill(largest == 0, 1.0)
    q = (blocks / scales[..., None]).clamp(-_LARGEST_E4M3, _LARGEST_E4M3).reshape(matrix.shape).to(_E4M3)
    return {WEIGHT: q, SCALE: to_tiles(exponents)}


def _powers(exponents: Tensor) -> Tensor:
    """Return 2^(e − 127) in float32, and 0 for 0: the byte is a float32's exponent."""
    return (exponents.int() << 23).view(torch.float32)


def _nvfp4(out: int, into: int) -> dict[str, Kind]:
    return {
        WEIGHT: ((torch.uint8,), ((out, into // 2),)),
        SCALE: ((_E4M3, torch.uint8), (tiled_shape(out, into // _NV),)),
        SCALE_2: ((torch.float32,), _ONE),
    }


def _from_nvfp4(stored: Stored, _: int, dtype: torch.dtype) -> Tensor:
    packed = stored[WEIGHT]  # two numbers a byte, the first in the upper half
    table = torch.tensor((*_E2M1, *(-number for number in _E2M1)), dtype=dtype, device=packed.device)
    codes = torch.stack((packed >> 4, packed & 15), dim=-1).reshape(packed.shape[0], -1, _NV)
    scales = from_tiles(stored[SCALE].view(_E4M3), packed.shape[0], codes.shape[1])  # (out, blocks)
    scales = stored[SCALE_2].to(dtype) * scales.to(dtype)
    numbers = F.embedding(codes.int(), table[:, None])[..., 0]  # a look-up that takes 32-bit indices
    return (numbers * scales[..., None]).reshape(packed.shape[0], -1)


def _to_nvfp4(matrix: Tensor, _: int, largest: Tensor) -> dict[str, Tensor]:
    blocks = matrix.reshape(matrix.shape[0], -1, _NV)
    whole = (largest / (_LARGEST_E4M3 * _LARGEST_E2M1)).clamp(min=_SMALLEST_SCALE)
    scales = (blocks.abs().amax(dim=-1) / _LARGEST_E2M1 / whole).clamp(max=_LARGEST_E4M3).to(_E4M3)
    total = (whole * scales.float())[..., None]  # (out, blocks, 1)
    scaled = torch.where(total == 0, 0.0, blocks / total)  # a block may be too small for its scale
    borders = torch.tensor(_BORDERS, device=matrix.device)
    borders[1::2] = torch.nextafter(borders[1::2], borders.new_zeros(()))
    codes = torch.bucketize(scaled.abs(), borders).to(torch.uint8) | scaled.signbit().to(torch.uint8) << 3
    codes = codes.reshape(matrix.shape)
    return {WEIGHT: codes[:, ::2] << 4 | codes[:, 1::2], SCALE: to_tiles(scales), SCALE_2: whole.reshape(())}


def _of_pairs(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-1], 2 * shape[-1]) if shape else ()


FORMATS = {
    made.name: made
    for made in (
        Format(name="float8_e4m3fn", kinds=_float8(_E4M3), dequantise=_from_float8, quantise=_to_float8),
        Format(name="float8_e5m2", kinds=_float8(_E5M2), dequantise=_from_float8, quantise=None),
        Format(name="int8_tensorwise", kinds=_int8, dequantise=_from_int8, quantise=_to_int8),
        Format(name="mxfp8", kinds=_mxfp8, dequantise=_from_mxfp8, quantise=_to_mxfp8, step=_MX),
        Format(
            name="nvfp4",
            kinds=_nvfp4,
            dequantise=_from_nvfp4,
            quantise=_to_nvfp4,
            logical=_of_pairs,
            step=_NV,
        ),
    )
}
