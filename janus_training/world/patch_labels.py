"""What each patch of a picture shows, as class numbers: the thing that covers most of it, and the ground.

Knows nothing of models or words; 0 stands for no thing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .rendering import corners
from .scenes import Scene
from .vocabulary import COLOURS, GROUND_COLOURS, SHAPES, SIZES

CLASSES: tuple[int, ...] = (len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1, len(GROUND_COLOURS))
"""How many classes each column of the labels has: colour, shape, size, ground."""

_LEAST_SHARE = 1 / 8  # of a patch; below it a thing is no more than a corner


def patch_labels(scene: Scene, size_px: int, patch_px: int) -> NDArray[np.int64]:
    """Label the patches of a scene's picture, row by row.

    Args:
        scene: what is shown.
        size_px: side of the picture.
        patch_px: side of a patch; divides `size_px`.

    Returns: (n, 4) int64: colour, shape and size of a thing, each from 1, and the ground's colour from 0.
    """
    canvas = Image.new("L", (size_px, size_px), 0)
    draw = ImageDraw.Draw(canvas)
    for index in sorted(range(len(scene.things)), key=lambda index: -scene.things[index].radius):
        thing = scene.things[index]
        placed = (size_px * value for value in (thing.x, thing.y, thing.radius))
        draw.polygon(corners(thing.shape, *placed), fill=index + 1)
    side = size_px // patch_px
    cells = np.asarray(canvas).reshape(side, patch_px, side, patch_px).swapaxes(1, 2).reshape(side * side, -1)
    covered = np.stack([(cells == index + 1).sum(axis=1) for index in range(len(scene.things))], axis=1)
    known = np.array(
        [(0, 0, 0)]
        + [
            (COLOURS.index(thing.colour) + 1, SHAPES.index(thing.shape) + 1, SIZES.index(thing.size) + 1)
            for thing in scene.things
        ]
    )
    shown = np.where(covered.max(axis=1) >= _LEAST_SHARE * patch_px**2, covered.argmax(axis=1) + 1, 0)
    ground = np.full((side * side, 1), GROUND_COLOURS.index(scene.ground.colour))
    return np.concatenate((known[shown], ground), axis=1).astype(np.int64)
