"""A scene becomes a picture: drawn four times as large with pillow, then averaged down for smooth edges.

Knows nothing of words. Works at any side length; positions and radii are fractions of it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from janus_core.errors import ImageError

from .outlines import OUTLINES
from .scenes import Ground, Scene
from .vocabulary import Shape

Picture: TypeAlias = NDArray[np.float32]
"""A picture (h, w, 3), red, green and blue in 0..1."""

_SUPERSAMPLING = 4
_MARKS = 8  # stripes, rows of dots or checks along one side


def render(scene: Scene, size_px: int = 64) -> Picture:
    """Draw a scene.

    Args:
        scene: what to show.
        size_px: side of the picture; below 32 small shapes lose their form.

    Returns: (size_px, size_px, 3) float32 in 0..1.
    Raises: ImageError if the side is below 8.
    """
    if size_px < 8:
        raise ImageError(f"A picture of side {size_px} is too small to draw; give at least 8 pixels.")
    side = size_px * _SUPERSAMPLING
    canvas = Image.new("RGB", (side, side), scene.ground.rgb)
    draw = ImageDraw.Draw(canvas)
    _draw_marks(draw, scene.ground, side)
    for thing in sorted(
        scene.things, key=lambda thing: -thing.radius
    ):  # an outer object comes before its inner
        draw.polygon(
            corners(thing.shape, thing.x * side, thing.y * side, thing.radius * side), fill=thing.rgb
        )
    return np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32) / np.float32(255)


def render_mask(
    shape: Shape, x: float, y: float, radius: float, width_px: int, height_px: int
) -> NDArray[np.float32]:
    """Draw one shape as coverage.

    Args:
        shape: which one.
        x: centre in pixels from the left edge; `y` likewise from the top.
        y: see `x`.
        radius: in pixels.
        width_px: of the result.
        height_px: of the result.

    Returns: (height_px, width_px) float32, the covered share of every pixel in 0..1.
    """
    zoom = _SUPERSAMPLING
    canvas = Image.new("L", (width_px * zoom, height_px * zoom), 0)
    ImageDraw.Draw(canvas).polygon(corners(shape, x * zoom, y * zoom, radius * zoom), fill=255)
    return np.asarray(canvas.reduce(zoom), dtype=np.float32) / np.float32(255)


def corners(shape: Shape, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Return the corners of a shape in pixels, as pillow draws them."""
    # pillow counts pixel centres at whole numbers, we at halves
    return [(x + radius * dx - 0.5, y + radius * dy - 0.5) for dx, dy in OUTLINES[shape].corners]


def _draw_marks(draw: ImageDraw.ImageDraw, ground: Ground, side: int) -> None:
    """Draw the faint stripes, dots or checks of a textured ground."""
    step = side / _MARKS
    for row in range(_MARKS if ground.texture != "plain" else 0):
        top = row * step
        if ground.texture == "striped":
            draw.rectangle((0, top, side, top + step / 2), fill=ground.mark_rgb)
            continue
        for column in range(_MARKS):
            left = column * step
            if ground.texture == "dotted":
                draw.ellipse((left, top, left + step / 2, top + step / 2), fill=ground.mark_rgb)
            elif (row + column) % 2:
                draw.rectangle((left, top, left + step - 1, top + step - 1), fill=ground.mark_rgb)
