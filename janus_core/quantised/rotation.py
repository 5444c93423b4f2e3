"""A rotation of short runs of a matrix's columns, which spreads outliers before they are rounded.

The matrix is a regular Hadamard one: symmetric, its own inverse, no row of it constant. So rotating twice
gives back what was, and rotating weights equals rotating inputs. Source: ConvRot (arXiv:2512.03673).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_SMALLEST = ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1), (-1, 1, 1, 1))


def is_rotation(size: object) -> bool:
    """Tell whether there is such a matrix of a size: a power of 4, 4 to 4096."""
    return isinstance(size, int) and not isinstance(size, bool) and size in (4, 16, 64, 256, 1024, 4096)


@lru_cache(maxsize=8)
def rotation(size: int, device: torch.device) -> Tensor:
    """Return the matrix (size, size) in float32."""
    smallest = torch.tensor(_SMALLEST, dtype=torch.float32, device=device)
    matrix = smallest
    while len(matrix) < size:
        matrix = torch.kron(matrix, smallest)
    return matrix / size**0.5


def rotated(x: Tensor, size: int) -> Tensor:
    """Rotate each run of `size` entries along the last axis of x."""
    runs = x.reshape(-1, x.shape[-1] // size, size)  # (rows, runs, size)
    return (runs @ rotation(size, x.device).to(x.dtype)).reshape(x.shape)
