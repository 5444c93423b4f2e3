"""A picture cut into regions of one colour: the ground, the objects on it, and objects drawn on objects.

Knows the world's colours and nothing of shapes. Colour alone decides, by the nearest of the known ones;
blends along edges are recognised by being thin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .components import Mask, bounds, dilate, erode, split_components
from .rendering import Picture
from .vocabulary import COLOUR_RGB, COLOURS, GROUND_COLOURS, GROUND_RGB, Colour, GroundColour

_Coverage = NDArray[np.float32]

_LEAST_AREA = 0.006  # of the picture; the smallest object covers 0.018
_LEAST_CORE = 0.0008  # of the picture: 4 pixels of 64 × 64 with all neighbours of one colour
_BORDER = 32  # the outermost 1/32 of the picture shows the ground
_SOFT_EDGE = 0.1  # coverage below it (above one minus it) is noise

_RGB: NDArray[np.float32] = np.array(
    [COLOUR_RGB[colour] for colour in COLOURS], dtype=np.float32
) / np.float32(255)


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """One object's pixels.

    Attributes:
        colour: the nearest of the world's colours.
        coverage: (h, w) float32, how far the object covers each pixel, whatever is drawn on it.
    """

    colour: Colour
    coverage: _Coverage


def find_ground(picture: Picture) -> GroundColour:
    """Name the ground's colour."""
    known = np.array([GROUND_RGB[colour] for colour in GROUND_COLOURS], dtype=np.float32) / 255
    return GROUND_COLOURS[int(np.square(known - _ground_rgb(picture)).sum(axis=1).argmin())]


def find_regions(picture: Picture) -> list[Region]:
    """Find all objects, from the topmost down; specks below 0.6 % of the picture are none.

    Args:
        picture: (h, w, 3) in 0..1.
    """
    ground = _ground_rgb(picture)
    labels = _nearest(picture, np.vstack((_RGB, ground)))
    spots = split_components(labels < len(_RGB))
    return [region for spot in spots if _is_big(spot) for region in _cut(picture, labels, spot, ground)]


def _ground_rgb(picture: Picture) -> NDArray[np.float32]:
    """Return the usual colour along the picture's border, (3,)."""
    depth = max(1, picture.shape[0] // _BORDER)
    is_border = np.ones(picture.shape[:2], dtype=bool)
    is_border[depth:-depth, depth:-depth] = False
    return np.median(picture[is_border], axis=0).astype(np.float32)


def _nearest(picture: Picture, palette: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return (h, w): which row of `palette` (n, 3) each pixel is nearest to."""
    products = picture @ palette.T  # |p − c|² without |p|², which is the same for all
    return (np.square(palette).sum(axis=1) - 2 * products).argmin(axis=2)  # type: ignore[no-any-return]


def _is_big(mask: Mask) -> bool:
    return bool(mask.sum() >= _LEAST_AREA * mask.size)


def _has_core(mask: Mask) -> bool:
    """Return True if the mask is thicker than a blend along an edge."""
    return bool(erode(mask).sum() >= _LEAST_CORE * mask.size)


def _cores(labels: NDArray[np.int64], spot: Mask) -> list[int]:
    """Return the colours that fill more than edges within a spot, or its commonest one."""
    present = np.unique(labels[spot])
    cores = [int(label) for label in present if _has_core(spot & (labels == label))]
    return cores or [int(np.bincount(labels[spot]).argmax())]


def _cut(
    picture: Picture, labels: NDArray[np.int64], spot: Mask, ground: NDArray[np.float32]
) -> list[Region]:
    """Cut one spot on the ground into the objects that it holds."""
    cores = _cores(labels, spot)
    if len(cores) == 1:
        return [
            Region(
                colour=COLOURS[cores[0]], coverage=_coverage(picture, dilate(spot), ground, _RGB[cores[0]])
            )
        ]
    own = np.array(cores)[_nearest(picture, _RGB[cores])]
    split = {
        label: [part for part in split_components(spot & (own == label)) if _has_core(part)]
        for label in cores
    }
    parts = [(label, part) for label in cores for part in _rejoin(label, split)]
    return [_part_region(picture, parts, index, ground) for index in range(len(parts))]


def _rejoin(label: int, split: Mapping[int, Sequence[Mask]]) -> Sequence[Mask]:
    """Join the parts of one colour that an object drawn across them has cut apart."""
    parts = split[label]
    if len(parts) < 2:
        return parts
    whole = np.logical_or.reduce(parts)
    others = [part for other, masks in split.items() if other != label for part in masks]
    return [whole] if any(_surrounds(whole, part) for part in others) else parts


def _part_region(
    picture: Picture, parts: Sequence[tuple[int, Mask]], index: int, ground: NDArray[np.float32]
) -> Region:
    """Measure one part of a spot against what lies under it, and fill in what lies upon it."""
    label, part = parts[index]
    under, upon = ground, np.zeros_like(part)
    beside = np.zeros_like(part)
    for other_label, other in parts:
        if other is part:
            continue
        if other_label == label:
            beside |= other  # of its own colour nothing lies under or upon it
        elif _surrounds(other, part):
            under = _RGB[other_label]
        elif _surrounds(part, other):
            upon |= dilate(other)
        else:
            beside |= other
    coverage = _coverage(picture, dilate(part | upon) & ~beside, under, _RGB[label])
    return Region(colour=COLOURS[label], coverage=np.where(upon, np.float32(1), coverage))


def _surrounds(outer: Mask, inner: Mask) -> bool:
    """Return True if the bounding box of `inner` lies strictly within that of `outer`."""
    a, b = bounds(outer), bounds(inner)
    return a[0] < b[0] and b[1] < a[1] and a[2] < b[2] and b[3] < a[3]


def _coverage(
    picture: Picture, where: Mask, under: NDArray[np.float32], upon: NDArray[np.float32]
) -> _Coverage:
    """Return how far each pixel has gone from the colour `under` (3,) to `upon` (3,); 0 outside `where`."""
    way = upon - under
    share = (picture - under) @ way / max(float(way @ way), 1e-6)
    share = np.clip((share - _SOFT_EDGE) / (1 - 2 * _SOFT_EDGE), 0, 1)
    return np.where(where, share, 0).astype(np.float32)
