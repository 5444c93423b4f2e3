"""Scales of blocks in the order in which tensor cores read them: tiles of 128 rows and 4 columns.

Source: NVIDIA's cuBLAS documentation, "1D block scaling factors layout".
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

_ROWS, _COLUMNS = 128, 4
_ORDER = "(down quarter row) (along column)", "down along row quarter column"


def tiled_shape(rows: int, columns: int) -> tuple[int, int]:
    """Return the shape that scales (rows, columns) are stored in: whole tiles."""
    return -(-rows // _ROWS) * _ROWS, -(-columns // _COLUMNS) * _COLUMNS


def to_tiles(scales: Tensor) -> Tensor:
    """Return scales (rows, columns) of one byte each in the stored order, filled up with zeros."""
    shape = tiled_shape(*scales.shape)
    padded = torch.zeros(shape, dtype=torch.uint8, device=scales.device)
    padded[: scales.shape[0], : scales.shape[1]] = scales.view(torch.uint8)
    tiles = rearrange(padded, f"{_ORDER[0]} -> {_ORDER[1]}", quarter=4, row=32, column=_COLUMNS)
    return tiles.reshape(shape).view(scales.dtype)


def from_tiles(stored: Tensor, rows: int, columns: int) -> Tensor:
    """Return the scales (rows, columns) of one byte each that were stored as tiles."""
    down, along = (
        size // step for size, step in zip(tiled_shape(rows, columns), (_ROWS, _COLUMNS), strict=True)
    )
    tiles = stored.view(torch.uint8).reshape(down, along, 32, 4, _COLUMNS)
    whole = rearrange(tiles, f"{_ORDER[1]} -> {_ORDER[0]}")
    return whole[:rows, :columns].contiguous().view(stored.dtype)
