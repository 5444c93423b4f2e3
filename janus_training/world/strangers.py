"""Pictures made by a second program, to find out whether a model sees shapes or only our renderer.

It shares nothing with the renderer, nor with the foreign pictures of training: shapes are inequalities, not
polygons, colours are those that style sheets name, and pictures come large, as a person would save them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE_PX = 240
_FINE = 2  # samples along each side of a pixel
_Plane = NDArray[np.float64]
_Inside = NDArray[np.bool_]

_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "orange": (255, 140, 0),
    "yellow": (255, 230, 0),
    "green": (0, 140, 0),
    "cyan": (0, 220, 235),
    "blue": (0, 0, 255),
    "purple": (128, 0, 128),
    "pink": (255, 105, 180),
}
_GROUNDS = ((255, 255, 255), (128, 128, 128), (0, 0, 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Stranger:
    """One picture of one thing.

    Attributes:
        colour: of the thing.
        shape: likewise.
        image: the picture.
    """

    colour: str
    shape: str
    image: Image.Image


def _circle(x: _Plane, y: _Plane) -> _Inside:
    return x**2 + y**2 <= 1


def _square(x: _Plane, y: _Plane) -> _Inside:
    return np.maximum(abs(x), abs(y)) <= 0.85


def _diamond(x: _Plane, y: _Plane) -> _Inside:
    return abs(x) + abs(y) <= 1.1


def _triangle(x: _Plane, y: _Plane) -> _Inside:
    """Equal sides: below the two slopes and above the base."""
    inside: _Inside = (y <= 0.6) & (y >= np.sqrt(3) * abs(x) - 1.1)
    return inside


def _cross(x: _Plane, y: _Plane) -> _Inside:
    long, wide = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    return (long <= 1) & (wide <= 0.3)


def _star(x: _Plane, y: _Plane) -> _Inside:
    """Five points: the radius falls from 1.15 to 0.45 within a tenth of a turn, along a straight edge."""
    turn = np.pi / 5
    angle = abs((np.arctan2(x, -y) + turn) % (2 * turn) - turn)
    outer, inner = 1.15, 0.45
    edge = outer * inner * np.sin(turn) / (outer * np.sin(angle) + inner * np.sin(turn - angle))
    inside: _Inside = np.hypot(x, y) <= edge
    return inside


_SHAPES: dict[str, Callable[[_Plane, _Plane], _Inside]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "cross": _cross,
}


def strangers(seed: int) -> list[Stranger]:
    """Return one picture of every colour and shape; size, place and ground depend on the seed."""
    rolls = np.random.RandomState(seed)
    pictures: list[Stranger] = []
    for colour, shape in product(_COLOURS, _SHAPES):
        radius = rolls.uniform(0.11, 0.33)
        reach = 1.16 * radius
        x, y = rolls.uniform(reach, 1 - reach, size=2)
        ground = _GROUNDS[rolls.randint(len(_GROUNDS))]
        image = _paint(_SHAPES[shape], (x, y, radius), _COLOURS[colour], ground)
        pictures.append(Stranger(colour=colour, shape=shape, image=image))
    return pictures


def _paint(
    is_inside: Callable[[_Plane, _Plane], _Inside],
    placed: tuple[float, float, float],
    colour: tuple[int, int, int],
    ground: tuple[int, int, int],
) -> Image.Image:
    """Sample a shape finely, average, and blend the two colours."""
    x, y, radius = placed
    steps = (np.arange(_SIDE_PX * _FINE) + 0.5) / (_SIDE_PX * _FINE)
    inside = is_inside((steps[None, :] - x) / radius, (steps[:, None] - y) / radius)
    share = inside.reshape(_SIDE_PX, _FINE, _SIDE_PX, _FINE).mean(axis=(1, 3))[..., None]
    levels = share * np.array(colour) + (1 - share) * np.array(ground)
    return Image.fromarray(levels.round().astype(np.uint8))
