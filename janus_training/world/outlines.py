"""The outline of every shape at radius 1, y downwards, with the figures that fitting and packing need.

Knows nothing of pictures. All outlines are centred on their bounding box and about equally big to the eye.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .vocabulary import Shape

Point = tuple[float, float]

_CIRCLE_CORNERS = 64
_CIRCLE_RADIUS = 0.92
_SQUARE_HALF = 0.82
_DIAMOND_HALF = 1.02
_TRIANGLE_HALF = (1.0, 0.88)
_STAR_OUTER, _STAR_INNER = 1.12, 0.5
_CROSS_HALF, _CROSS_ARM = 0.95, 0.33


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A polygon at radius 1.

    Attributes:
        corners: (x, y) in order round the shape.
        half_width: half of the bounding box; `half_height` likewise.
        area: of the polygon.
        centroid: the centre of mass, which in triangle and star is not the bounding box's centre.
        heart: where an object drawn inside this one sits.
    """

    corners: tuple[Point, ...]
    half_width: float
    half_height: float
    area: float
    centroid: Point
    heart: Point


def _ring(count: int, radius: float, start: float = 0.0) -> list[Point]:
    """Return `count` points evenly round a circle, the first `start` of a turn clockwise from the top."""
    turns = [2 * math.pi * (start + index / count) for index in range(count)]
    return [(radius * math.sin(turn), -radius * math.cos(turn)) for turn in turns]


def _star() -> list[Point]:
    points = zip(_ring(5, _STAR_OUTER), _ring(5, _STAR_INNER, start=0.1), strict=True)
    return [point for pair in points for point in pair]


def _cross() -> list[Point]:
    long, arm = _CROSS_HALF, _CROSS_ARM
    quarter = [(-arm, -arm), (-arm, -long), (arm, -long)]
    corners: list[Point] = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


def _area_and_centroid(corners: list[Point]) -> tuple[float, Point]:
    """Integrate a polygon by the shoelace formula."""
    area = mx = my = 0.0
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        slice_ = (x0 * y1 - x1 * y0) / 2
        area += slice_
        mx += slice_ * (x0 + x1) / 3
        my += slice_ * (y0 + y1) / 3
    return abs(area), (mx / area, my / area)


def _outline(corners: list[Point], heart: Point = (0.0, 0.0)) -> Outline:
    """Shift a polygon so that its bounding box is centred, and measure it."""
    xs, ys = zip(*corners, strict=True)
    mid_x, mid_y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    centred = [(x - mid_x, y - mid_y) for x, y in corners]
    area, centroid = _area_and_centroid(centred)
    return Outline(
        corners=tuple(centred),
        half_width=(max(xs) - min(xs)) / 2,
        half_height=(max(ys) - min(ys)) / 2,
        area=area,
        centroid=centroid,
        heart=(heart[0] - mid_x, heart[1] - mid_y),
    )


def _box(half_width: float, half_height: float) -> list[Point]:
    return [
        (-half_width, -half_height),
        (half_width, -half_height),
        (half_width, half_height),
        (-half_width, half_height),
    ]


OUTLINES: dict[Shape, Outline] = {
    "circle": _outline(_ring(_CIRCLE_CORNERS, _CIRCLE_RADIUS)),
    "square": _outline(_box(_SQUARE_HALF, _SQUARE_HALF)),
    "triangle": _outline(
        [(0.0, -_TRIANGLE_HALF[1]), _TRIANGLE_HALF, (-_TRIANGLE_HALF[0], _TRIANGLE_HALF[1])], heart=(0.0, 0.3)
    ),
    "diamond": _outline(_ring(4, _DIAMOND_HALF)),
    "star": _outline(_star()),
    "cross": _outline(_cross()),
}
