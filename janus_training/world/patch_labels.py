"""What each patch shows, as class numbers: the thing that covers most of it, the ground, and its place.

Knows nothing of models or words; 0 stands for no thing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .rendering import corners
from .scenes import Scene
from .vocabulary import COLOURS, GROUND_COLOURS, SHAPES, SIZES

SIDE = 8
"""Patches along one side."""

_REACH = 3  # cells to a centre; farther ones count as so far

CLASSES: tuple[int, ...] = (
    len(COLOURS) + 1,
    len(SHAPES) + 1,
    len(SIZES) + 1,
    len(GROUND_COLOURS),
    SIDE,
    SIDE,
    2 * _REACH + 1,
    2 * _REACH + 1,
)
"""How many classes each column of the labels has: colour, shape, size, ground, row and column of the patch,
and where the thing's centre lies from here, in rows and columns."""

UNKNOWN = -100
"""Stands for a ground that has no name, and for the way to a centre where there is no thing."""

_LEAST_SHARE = 1 / 8  # of a patch; below it a thing is no more than a corner


def patch_labels(scene: Scene, size_px: int, has_named_ground: bool = True) -> NDArray[np.int64]:
    """Label the patches of a scene's picture, row by row.

    Args:
        scene: what is shown.
        size_px: side of the picture, a multiple of 8.
        has_named_ground: else the ground's label is `UNKNOWN`.

    Returns: (n, 8) int64: colour, shape and size of a thing, each from 1; the ground's colour, row, column
        and the way to the centre from 0. Whoever knows that way has found out what belongs together, which is
        half of telling shapes apart.
    """
    patch_px = size_px // SIDE
    canvas = Image.new("L", (size_px, size_px), 0)
    draw = ImageDraw.Draw(canvas)
    for index in sorted(range(len(scene.things)), key=lambda index: -scene.things[index].radius):
        thing = scene.things[index]
        placed = (size_px * value for value in (thing.x, thing.y, thing.radius))
        draw.polygon(corners(thing.shape, *placed), fill=index + 1)
    cells = np.asarray(canvas).reshape(SIDE, patch_px, SIDE, patch_px).swapaxes(1, 2).reshape(SIDE * SIDE, -1)
    covered = np.stack([(cells == index + 1).sum(axis=1) for index in range(len(scene.things))], axis=1)
    known = np.array(
        [(0, 0, 0)]
        + [
            (COLOURS.index(thing.colour) + 1, SHAPES.index(thing.shape) + 1, SIZES.index(thing.size) + 1)
            for thing in scene.things
        ]
    )
    shown = np.where(covered.max(axis=1) >= _LEAST_SHARE * patch_px**2, covered.argmax(axis=1) + 1, 0)
    ground = GROUND_COLOURS.index(scene.ground.colour) if has_named_ground else UNKNOWN
    cell = np.indices((SIDE, SIDE)).reshape(2, -1)  # (2, patches): rows, then columns
    centres = np.array(
        [(0.0, 0.0)] + [(thing.y * SIDE - 0.5, thing.x * SIDE - 0.5) for thing in scene.things]
    )
    way = np.clip(np.rint(centres[shown].T - cell), -_REACH, _REACH) + _REACH
    way[:, shown == 0] = UNKNOWN  # no thing to point at
    place = np.stack((np.full(SIDE * SIDE, ground), *cell, *way), axis=1)
    return np.concatenate((known[shown], place), axis=1).astype(np.int64)
