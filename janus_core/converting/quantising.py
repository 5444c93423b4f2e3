"""The kinds of quantised files that are written, and how a decoder's matrix is brought into one.

Norms, embeddings, heads, the vision tower and the VQ tokenizer stay as they are, and so does a matrix whose
sides a format's blocks do not divide.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..quantised.formats import FORMATS, SCALE, WEIGHT
from ..quantised.markers import MARKER

_OF_DECODER = re.compile(r"language_model\.model\.layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj\.weight")
_ROTATIONS = (256, 64, 16)  # the largest that divides a matrix's columns is taken
_ROWS = 1024  # of a matrix that are worked on at once: whole tiles of scales
_STEP = 8  # bytes; a marker is filled up with spaces, so that what follows stays aligned


@dataclass(frozen=True, kw_only=True)
class QuantisedKind:
    """One kind of file.

    Attributes:
        format: a key of `FORMATS`.
        rotates: columns are rotated first.
    """

    format: str
    rotates: bool = False


KINDS = {
    "int8": QuantisedKind(format="int8_tensorwise"),
    "int8_convrot": QuantisedKind(format="int8_tensorwise", rotates=True),
    "fp8_scaled": QuantisedKind(format="float8_e4m3fn"),
    "mxfp8": QuantisedKind(format="mxfp8"),
    "nvfp4": QuantisedKind(format="nvfp4"),
}


def is_quantisable(kind: QuantisedKind, name: str, shape: tuple[int, ...]) -> bool:
    """Tell whether a tensor, by its published name, is a decoder's matrix that a kind can store."""
    step = FORMATS[kind.format].step
    return _OF_DECODER.fullmatch(name) is not None and not any(size % step for size in shape)


def planned_parts(
    kind: QuantisedKind, name: str, shape: tuple[int, ...]
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return dtype and shape of everything that is stored for a matrix, by full name, in order."""
    kinds = FORMATS[kind.format].kinds(*shape)
    layer = name.removesuffix(f".{WEIGHT}")
    # the first dtype and the first shape are those that are written
    parts = {f"{layer}.{part}": (dtypes[0], shapes[0]) for part, (dtypes, shapes) in kinds.items()}
    return parts | {f"{layer}{MARKER}": (torch.uint8, (len(_marker(kind, shape)),))}


def quantised_parts(kind: QuantisedKind, name: str, matrix: Tensor) -> dict[str, Tensor]:
    """Return what is stored for a matrix (out, in), by full name, in the same order."""
    made = FORMATS[kind.format]
    assert made.quantise is not None
    rotation, rows = _rotation(kind, matrix.shape[1]), matrix.split(_ROWS)
    largest = torch.stack([some.abs().amax() for some in rows]).amax().float()
    pieces = [made.quantise(some.float(), rotation, largest) for some in rows]
    layer = name.removesuffix(f".{WEIGHT}")
    # a scale of rows or blocks goes on from piece to piece, one of the whole is the same in all
    parts = {
        f"{layer}.{part}": torch.cat([piece[part] for piece in pieces])
        if part in (WEIGHT, SCALE) and pieces[0][part].ndim == 2
        else pieces[0][part]
        for part in pieces[0]
    }
    text = _marker(kind, tuple(matrix.shape))
    return parts | {f"{layer}{MARKER}": torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def _rotation(kind: QuantisedKind, columns: int) -> int:
    return next((size for size in _ROTATIONS if kind.rotates and columns % size == 0), 0)


def _marker(kind: QuantisedKind, shape: tuple[int, ...]) -> bytes:
    said: dict[str, Any] = {"format": kind.format}
    rotation = _rotation(kind, shape[1])
    if rotation:
        said |= {"convrot": True, "convrot_groupsize": rotation}
    text = json.dumps(said).encode()
    return text + b" " * (-len(text) % _STEP)
