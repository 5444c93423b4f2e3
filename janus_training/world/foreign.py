"""Scenes as other programs draw them: other edges, forms, shades, grounds, sizes, and the traces of files.

A model that sees only one renderer's pictures learns that renderer. Nothing here is for drawing.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from .dice import Dice, between, chance, pick, pick_weighted
from .outlines import OUTLINES, Point
from .rendering import Picture
from .scenes import Ground, Scene, Thing
from .vocabulary import GROUND_COLOURS, RGB, Colour, GroundColour, Shape

_SHADES: dict[Colour, tuple[RGB, ...]] = {
    "red": ((215, 35, 35), (255, 0, 0), (220, 20, 60), (200, 0, 0), (232, 58, 48)),
    "orange": ((250, 135, 20), (255, 165, 0), (255, 140, 0), (255, 127, 0), (240, 112, 32)),
    "yellow": ((250, 225, 50), (255, 255, 0), (255, 220, 0), (240, 230, 70)),
    "green": ((35, 160, 60), (0, 128, 0), (0, 255, 0), (34, 139, 34), (50, 205, 50), (0, 180, 80)),
    "cyan": ((50, 205, 225), (0, 255, 255), (0, 190, 200), (70, 220, 215)),
    "blue": ((40, 75, 215), (0, 0, 255), (30, 60, 180), (35, 125, 240), (0, 0, 190)),
    "purple": ((130, 40, 165), (128, 0, 128), (148, 0, 211), (155, 40, 180), (105, 45, 170)),
    "pink": ((250, 100, 180), (255, 105, 180), (255, 192, 203), (255, 20, 147), (250, 150, 200)),
}
_GROUNDS: dict[GroundColour, tuple[RGB, RGB]] = {
    "white": ((238, 238, 236), (255, 255, 255)),
    "grey": ((115, 115, 115), (195, 195, 195)),
    "black": ((0, 0, 0), (42, 42, 44)),
    "beige": ((205, 180, 140), (235, 216, 180)),
}
_SHADE_JITTER = 12
_LEAST_CONTRAST = 80.0  # between a thing and what it lies on
_ANY_GROUND_SHARE = 0.25
_BORDER_SHARE = 0.15
_ZOOMS = (1, 2, 3, 4)  # of the canvas, averaged down: 1 leaves edges hard
_SIDES_PX = (64, 64, 64, 96, 128, 200)  # at which the other program draws
_FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.BILINEAR,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
_JPEG_SHARE, _JPEG_QUALITY = 0.3, (40, 96)
_MOST_TURN = 12.0  # degrees


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """A picture and what it shows.

    Attributes:
        scene: what is shown.
        picture: (h, w, 3) in 0..1.
        has_named_ground: the ground has one of the world's colours; else nothing may be said of it.
    """

    scene: Scene
    picture: Picture
    has_named_ground: bool = True


def see_foreign(scene: Scene, dice: Dice, size_px: int) -> Sight:
    """Draw a scene in another manner.

    Args:
        scene: what to show; its shades and marks are not used.
        dice: which manner.
        size_px: side of the picture.
    """
    things = tuple(replace(thing, rgb=_shade(dice, thing.colour)) for thing in scene.things)
    ground, is_named = _ground(dice, scene, things)
    scene = replace(scene, things=things, ground=ground)
    side_px = pick(dice, _SIDES_PX)
    levels = _draw(scene, dice, side_px)
    if side_px != size_px:
        levels = levels.resize((size_px, size_px), pick(dice, _FILTERS))
    if chance(dice, _JPEG_SHARE):
        levels = _through_jpeg(levels, int(between(dice, *_JPEG_QUALITY)))
    picture = np.asarray(levels, dtype=np.float32) / np.float32(255)
    return Sight(scene=scene, picture=picture, has_named_ground=is_named)


def _shade(dice: Dice, colour: Colour) -> RGB:
    red, green, blue = (
        min(255, max(0, level + round(between(dice, -_SHADE_JITTER, _SHADE_JITTER))))
        for level in pick(dice, _SHADES[colour])
    )
    return red, green, blue


def _ground(dice: Dice, scene: Scene, things: tuple[Thing, ...]) -> tuple[Ground, bool]:
    """Choose a ground that hides nothing, of a named colour or of any."""
    while True:
        is_named = not chance(dice, _ANY_GROUND_SHARE)
        colour = pick(dice, GROUND_COLOURS)
        low, high = _GROUNDS[colour] if is_named else ((0, 0, 0), (255, 255, 255))
        share = float(dice.random())
        shares = [share] * 3 if is_named else [float(dice.random()) for _ in range(3)]
        red, green, blue = (round(a + (b - a) * s) for a, b, s in zip(low, high, shares, strict=True))
        rgb = (red, green, blue)
        if all(math.dist(rgb, thing.rgb) >= _LEAST_CONTRAST for thing in things):
            return Ground(colour=colour, texture="plain", rgb=rgb, mark_rgb=rgb), is_named


def _draw(scene: Scene, dice: Dice, side_px: int) -> Image.Image:
    zoom = pick(dice, _ZOOMS) if side_px <= 128 else 1
    side = side_px * zoom
    canvas = Image.new("RGB", (side, side), scene.ground.rgb)
    draw = ImageDraw.Draw(canvas)
    forms = {thing.shape: _form(dice, thing.shape) for thing in scene.things}
    border = _border(dice, scene) if chance(dice, _BORDER_SHARE) else None
    for thing in sorted(scene.things, key=lambda thing: -thing.radius):
        turn = between(dice, -_MOST_TURN, _MOST_TURN) if chance(dice, 0.5) else 0.0
        corners = _turned(forms[thing.shape], turn)
        placed = [
            (
                (thing.x + thing.radius * x) * side - 0.5,
                (thing.y + thing.radius * y) * side - 0.5,
            )
            for x, y in corners
        ]
        draw.polygon(placed, fill=thing.rgb)
        if border is not None:
            draw.line([*placed, placed[0], placed[1]], fill=border, width=max(1, side // 64), joint="curve")
    return canvas.reduce(zoom) if zoom > 1 else canvas


def _border(dice: Dice, scene: Scene) -> RGB:
    """Choose a colour for a thin line round every thing; none that could be taken for a thing."""
    return pick(dice, ((0, 0, 0), (60, 60, 60), (255, 255, 255)))


def _form(dice: Dice, shape: Shape) -> tuple[Point, ...]:
    """Return a variant of a shape, about as big as the world's own."""
    if shape == "star":
        points, inner = pick_weighted(dice, (5, 6), (4, 1)), between(dice, 0.36, 0.56)
        return _spikes(points, 1.1, 1.1 * inner)
    if shape == "cross":
        return _cross(0.95, between(dice, 0.2, 0.42))
    if shape == "triangle":
        return _triangle(dice)
    if shape == "diamond":
        narrow = between(dice, 0.66, 1.0)
        return ((0.0, -1.05), (1.05 * narrow, 0.0), (0.0, 1.05), (-1.05 * narrow, 0.0))
    return OUTLINES[shape].corners


def _spikes(points: int, outer: float, inner: float) -> tuple[Point, ...]:
    radii = (outer, inner)
    turns = [(math.pi * index / points, radii[index % 2]) for index in range(2 * points)]
    return tuple((radius * math.sin(turn), -radius * math.cos(turn)) for turn, radius in turns)


def _cross(long: float, arm: float) -> tuple[Point, ...]:
    quarter = [(-arm, -arm), (-arm, -long), (arm, -long)]
    corners: list[Point] = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return tuple(corners)


def _triangle(dice: Dice) -> tuple[Point, ...]:
    """Return a triangle: mostly upright with two equal sides, now and then upside down or right-angled."""
    width, height = between(dice, 0.75, 1.1), between(dice, 0.75, 1.05)
    tip = pick_weighted(dice, (0.0, -1.0, 1.0), (8, 1, 1)) * width
    up = -1.0 if chance(dice, 0.1) else 1.0
    return ((tip, -up * height), (width, up * height), (-width, up * height))


def _turned(corners: tuple[Point, ...], degrees: float) -> list[Point]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(cos * x - sin * y, sin * x + cos * y) for x, y in corners]


def _through_jpeg(levels: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    levels.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")
