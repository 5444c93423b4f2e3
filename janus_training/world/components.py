"""Which pixels hang together: connected components of a mask, in numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def split_components(mask: Mask) -> list[Mask]:
    """Split a mask into its connected parts (neighbours share an edge), from the topmost down.

    Every pixel points to a neighbour of lower number; following the pointers twice as far each round ends at
    the lowest pixel of each part after a few rounds.

    Args:
        mask: (h, w).

    Returns: masks (h, w) that share no pixel and together make `mask`.
    """
    height, width = mask.shape
    outside = height * width
    root = np.append(np.where(mask.ravel(), np.arange(outside), outside), outside)
    while True:
        lowest = _lowest_neighbour(root[:-1].reshape(height, width), outside)
        lowest[~mask] = outside
        following = np.append(lowest.ravel(), outside)
        np.minimum.at(following, root, following.copy())  # a whole part learns what its edge pixels found
        following = following[following]
        if np.array_equal(following, root):
            break
        root = following
    labels = root[:-1].reshape(height, width)
    return [labels == label for label in np.unique(labels[mask])]


def _lowest_neighbour(labels: NDArray[np.int64], outside: int) -> NDArray[np.int64]:
    padded = np.pad(labels, 1, constant_values=outside)
    lowest = np.minimum(labels, np.minimum(padded[:-2, 1:-1], padded[2:, 1:-1]))
    return np.minimum(lowest, np.minimum(padded[1:-1, :-2], padded[1:-1, 2:]))


def erode(mask: Mask) -> Mask:
    """Keep pixels whose eight neighbours all belong to the mask; outside the picture counts as no."""
    inner = np.pad(mask, 1)
    rows = inner[:-2] & inner[1:-1] & inner[2:]  # first down the columns, then along the rows
    return rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]


def dilate(mask: Mask) -> Mask:
    """Add the eight neighbours of every pixel."""
    outer = np.pad(mask, 1)
    rows = outer[:-2] | outer[1:-1] | outer[2:]  # likewise
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of a mask that is not empty; bottom and right are included."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
