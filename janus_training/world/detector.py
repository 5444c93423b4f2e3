"""A judge of pictures that is no model: finds objects by colour and tells their shapes by fitting outlines.

Each region is compared with every shape of equal area and centre of mass; the best overlap names it. Knows
nothing of prompts' wordings, only of the facts in them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from janus_core.errors import ImageError

from .components import bounds
from .facts import Facts
from .outlines import OUTLINES
from .rendering import Picture, render_mask
from .scenes import place_of, relation_between
from .segmentation import Region, find_regions
from .vocabulary import RADIUS, SHAPES, SIZES, Colour, Shape, Size

LEAST_OVERLAP = 0.65
"""Below it an object resembles no shape well enough to count as one."""

_LARGEST_PX, _SHRUNK_PX = 96, 64
_SOFTER_MASKS = 2  # a blurred picture is compared with equally blurred outlines too


@dataclass(frozen=True, kw_only=True)
class Detected:
    """An object found in a picture.

    Attributes:
        shape: the best fitting one; likewise `size`.
        colour: the nearest of the world's colours.
        size: by the fitted radius.
        x: centre as a fraction of the width; `y` of the height; `radius` of the width.
        y: see `x`.
        radius: see `x`.
        overlap: intersection over union of the object and the fitted shape, 1 for a perfect one.
    """

    shape: Shape
    colour: Colour
    size: Size
    x: float
    y: float
    radius: float
    overlap: float


def detect(picture: Picture) -> list[Detected]:
    """Find the objects of a picture, from the topmost down, an outer one next to its inner.

    Args:
        picture: (h, w, 3) float in 0..1; square, at least 32 pixels.

    Raises: ImageError for another form.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.shape[0] != picture.shape[1]:
        raise ImageError(
            f"The detector needs a square picture (h, w, 3), got {picture.shape}. Crop or resize it."
        )
    return [_fit_best(region) for region in find_regions(_shrink(np.clip(picture, 0, 1)))]


def matches(facts: Facts, detected: list[Detected]) -> bool:
    """Return True if the objects found are those stated: colours, shapes, counts, relation, sizes, places.

    What the facts leave open is not judged, nor is the ground (see `find_ground`).
    """
    found = Counter((thing.colour, thing.shape) for thing in detected)
    if found != facts.counts() or any(thing.overlap < LEAST_OVERLAP for thing in detected):
        return False
    for mention in facts.mentions:
        things = [thing for thing in detected if (thing.colour, thing.shape) == mention.sort]
        if mention.size is not None and any(thing.size != mention.size for thing in things):
            return False
        if mention.place is not None and mention.place not in map(place_of, things):
            return False
    return facts.relation is None or _is_related(facts, detected)


def _is_related(facts: Facts, detected: list[Detected]) -> bool:
    """Return True if the first thing stated stands to the second as stated."""
    first, second = (
        next(thing for thing in detected if (thing.colour, thing.shape) == mention.sort)
        for mention in facts.mentions
    )
    return relation_between(first, second) == facts.relation


def _shrink(picture: Picture) -> Picture:
    """Bring a large picture to the size that edges and specks are measured for."""
    if picture.shape[0] <= _LARGEST_PX:
        return picture
    levels = Image.fromarray((picture * 255).round().astype(np.uint8))
    return np.asarray(
        levels.resize((_SHRUNK_PX, _SHRUNK_PX), Image.Resampling.BOX), dtype=np.float32
    ) / np.float32(255)


def _fit_best(region: Region) -> Detected:
    """Fit every shape to a region and keep the best."""
    side = region.coverage.shape[0]
    top, bottom, left, right = bounds(region.coverage > 0)
    window = np.pad(region.coverage[top : bottom + 1, left : right + 1], 2)
    fits = [_fit(window, shape) for shape in SHAPES]
    best = max(range(len(SHAPES)), key=lambda index: fits[index][0])
    overlap, x, y, radius = fits[best]
    return Detected(
        shape=SHAPES[best],
        colour=region.colour,
        size=_size_class(radius / side),
        x=(x + left - 2) / side,
        y=(y + top - 2) / side,
        radius=radius / side,
        overlap=overlap,
    )


def _fit(window: NDArray[np.float32], shape: Shape) -> tuple[float, float, float, float]:
    """Lay a shape of equal area and centre of mass over a window; give overlap, centre, radius in pixels."""
    outline = OUTLINES[shape]
    height, width = window.shape
    area = float(window.sum())
    radius = float(np.sqrt(area / outline.area))
    x = float((window.sum(axis=0) @ (np.arange(width) + 0.5)) / area) - radius * outline.centroid[0]
    y = float((window.sum(axis=1) @ (np.arange(height) + 0.5)) / area) - radius * outline.centroid[1]
    mask: NDArray[np.floating] = render_mask(shape, x, y, radius, width, height)
    overlaps = []
    for _ in range(_SOFTER_MASKS + 1):
        overlaps.append(float(np.minimum(window, mask).sum() / np.maximum(window, mask).sum()))
        mask = _soften(mask)
    return max(overlaps), x, y, radius


def _soften(mask: NDArray[np.floating]) -> NDArray[np.floating]:
    """Blur by 1-2-1 in both directions; the border stays empty."""
    rows = np.pad(mask, 1)
    rows = (rows[:-2] + 2 * rows[1:-1] + rows[2:]) / 4
    softer: NDArray[np.floating] = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return softer


def _size_class(radius: float) -> Size:
    """Return the size whose nominal radius is nearest by ratio; anything larger is large."""
    return min(SIZES, key=lambda size: abs(np.log(radius / RADIUS[size])))
