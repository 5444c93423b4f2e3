"""What a picture shows, as values: things on a ground, their groups, and the relations between them.

Positions and radii are fractions of the picture's side, x to the right, y downwards. Knows nothing of pixels,
words or chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .vocabulary import (
    COLOURS,
    PLACES,
    RGB,
    SHAPES,
    Colour,
    GroundColour,
    Kind,
    Place,
    Relation,
    Shape,
    Size,
    Texture,
)

# The sampler keeps every centre at least 0.03 away from these two lines, so that a place is never in doubt.
_FIRST_THIRD, _SECOND_THIRD = 0.365, 0.635
_CLEAR_RATIO = 1.5


class Placed(Protocol):
    """Anything with a centre and a radius: a thing of a scene or a detected one."""

    @property
    def x(self) -> float: ...  # noqa: D102
    @property
    def y(self) -> float: ...  # noqa: D102
    @property
    def radius(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object. `rgb` is its own shade of `colour`; `radius` its own measure of `size`."""

    shape: Shape
    colour: Colour
    size: Size
    x: float
    y: float
    radius: float
    rgb: RGB


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the things lie on: a colour, and faint marks in a slightly different shade if not plain."""

    colour: GroundColour
    texture: Texture
    rgb: RGB
    mark_rgb: RGB


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One to four things on a ground.

    Attributes:
        kind: "single"; "pair", two different things in a clear relation, the left, upper or inner one first;
            "count", two to four equal things; "mixed", three or four things of at least two sorts.
    """

    kind: Kind
    things: tuple[Thing, ...]
    ground: Ground

    @property
    def groups(self) -> tuple[tuple[Thing, ...], ...]:
        """Things of equal colour and shape together: a pair in its own order, others in the vocabulary's."""
        sorts: dict[tuple[Colour, Shape], list[Thing]] = {}
        for thing in self.things:
            sorts.setdefault((thing.colour, thing.shape), []).append(thing)
        keys = list(sorts)
        if self.kind != "pair":
            keys.sort(key=lambda key: (COLOURS.index(key[0]), SHAPES.index(key[1])))
        return tuple(tuple(sorts[key]) for key in keys)

    @property
    def relation(self) -> Relation | None:
        """How the first thing of a pair stands to the second; None for the other kinds."""
        return relation_between(*self.things) if self.kind == "pair" else None


def relation_between(first: Placed, second: Placed) -> Relation:
    """Say how `first` stands to `second`: inside it, or beside it along the longer axis."""
    dx, dy = first.x - second.x, first.y - second.y
    if (dx * dx + dy * dy) ** 0.5 + 0.5 * first.radius < second.radius:
        return "inside"
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def is_clear(first: Placed, second: Placed) -> bool:
    """Return True if nobody would doubt the relation: one inside the other, or not near the diagonal."""
    if "inside" in (relation_between(first, second), relation_between(second, first)):
        return True
    dx, dy = abs(first.x - second.x), abs(first.y - second.y)
    return max(dx, dy) > _CLEAR_RATIO * min(dx, dy)


def place_of(thing: Placed) -> Place:
    """Name the ninth of the picture that holds the thing's centre."""
    column = (thing.x > _FIRST_THIRD) + (thing.x > _SECOND_THIRD)
    row = (thing.y > _FIRST_THIRD) + (thing.y > _SECOND_THIRD)
    return PLACES[3 * row + column]
