"""The image tokens of this world: each says what part its cell plays in the scene.

The cell of a thing's centre says its colour, the cells round it say shape, size and where they lie, whatever
the colour; all else is ground. So a red circle and a blue one differ in one token, and what was never drawn
is made of tokens that were. A thing inside another hides the outer one's centre; there four cells at distance
two say the outer colour, and the other outer cells its shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .outlines import OUTLINES
from .rendering import render_mask
from .scenes import Scene, Thing
from .vocabulary import (
    COLOURS,
    GROUND_COLOURS,
    OUTER_RADIUS,
    RADIUS,
    SHAPES,
    SIZES,
    Colour,
    GroundColour,
    Shape,
    Size,
)

Grid = NDArray[np.int64]
Offset = tuple[int, int]
"""Rows down and columns to the right of a thing's centre cell."""

SIDE = 8
"""Cells along one side of a drawn picture; things lie in the middle of cells."""

_REACH = 3  # cells from a centre to the farthest cell of the largest thing
_CELL_PX = 8
_LEAST_SHARE = 0.02  # of a cell beyond the first ring; what sticks out less is left to the decoder
_OUTER_COLOUR: frozenset[Offset] = frozenset(((-2, 0), (0, -2), (0, 2), (2, 0)))


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A thing as image tokens tell it, `is_outer` if another one lies inside it."""

    shape: Shape
    colour: Colour
    size: Size
    row: int
    column: int
    is_outer: bool = False


def _ring(offset: Offset) -> int:
    return max(abs(offset[0]), abs(offset[1]))


def _shares(shape: Shape, radius: float, lift: float = 0.0) -> dict[Offset, float]:
    """Return how much of each cell a thing covers, its heart in the middle of the cell at (0, 0)."""
    side = 2 * _REACH + 1
    centre = side * _CELL_PX / 2
    radius_px = radius * SIDE * _CELL_PX
    mask = render_mask(shape, centre, centre - lift * radius_px, radius_px, side * _CELL_PX, side * _CELL_PX)
    cells = mask.reshape(side, _CELL_PX, side, _CELL_PX).mean(axis=(1, 3))
    return {
        (row - _REACH, column - _REACH): float(cells[row, column])
        for row in range(side)
        for column in range(side)
    }


@cache
def rim(shape: Shape, size: Size) -> tuple[Offset, ...]:
    """Return the cells round the centre that tell a thing's shape and size."""
    shares = _shares(shape, RADIUS[size])
    return tuple(
        offset
        for offset, covered in shares.items()
        if _ring(offset) == 1 or (_ring(offset) > 1 and covered >= _LEAST_SHARE)
    )


@cache
def outer_rim(shape: Shape) -> tuple[Offset, ...]:
    """Return the cells that tell an outer thing, its colour too, counted from the inner one's centre."""
    shares = _shares(shape, OUTER_RADIUS, OUTLINES[shape].heart[1])
    return tuple(
        offset
        for offset, covered in shares.items()
        if _ring(offset) == 2 or (_ring(offset) > 2 and covered >= _LEAST_SHARE)
    )


class Role(NamedTuple):
    """What one image token says; None where it says nothing of that."""

    part: Literal["ground", "centre", "around", "rim", "outer"]
    colour: Colour | None = None
    shape: Shape | None = None
    size: Size | None = None
    offset: Offset | None = None
    ground: GroundColour | None = None


@cache
def roles() -> tuple[Role, ...]:
    """Return what each image token says, by number."""
    known = [Role("ground", ground=colour) for colour in GROUND_COLOURS]
    known += [Role("centre", colour) for colour in COLOURS]
    known += [Role("around", colour) for colour in COLOURS]
    known += [
        Role("rim", None, shape, size, offset)
        for shape in SHAPES
        for size in SIZES
        for offset in rim(shape, size)
    ]
    known += [
        Role("outer", None, shape, None, offset)
        for shape in SHAPES
        for offset in outer_rim(shape)
        if offset not in _OUTER_COLOUR
    ]
    return tuple(known)


@cache
def _token_of() -> dict[Role, int]:
    return {role: token for token, role in enumerate(roles())}


def role_codes(width: int, seed: int) -> NDArray[np.float32]:
    """Return a first code for each image token, (roles, width): the sum of a vector for each thing it says.

    The vectors are random. So tokens that differ in one thing begin near each other, and what is learnt of
    one holds for the other.
    """
    dice = np.random.Generator(np.random.PCG64(seed))
    vectors: dict[object, NDArray[np.float64]] = {}
    codes = []
    for role in roles():
        told = (role.part, role.ground, role.colour, role.shape, role.size)
        said: list[object] = [one for one in told if one is not None]
        if role.offset is not None:
            said += [("row", role.offset[0]), ("column", role.offset[1])]
        for part in said:
            if part not in vectors:
                vectors[part] = dice.standard_normal(width) / np.sqrt(width)
        codes.append(np.sum([vectors[part] for part in said], axis=0))
    return np.stack(codes).astype(np.float32)


def cells_of(thing: Thing, is_outer: bool = False) -> Iterator[tuple[int, int, Role]]:
    """Yield row, column and role of every cell that tells a thing, its centre first."""
    heart = OUTLINES[thing.shape].heart[1] * thing.radius if is_outer else 0.0
    row, column = int((thing.y + heart) * SIDE), int(thing.x * SIDE)
    if is_outer:
        for offset in outer_rim(thing.shape):
            is_colour = offset in _OUTER_COLOUR
            role = (
                Role("around", thing.colour) if is_colour else Role("outer", None, thing.shape, None, offset)
            )
            yield row + offset[0], column + offset[1], role
        return
    yield row, column, Role("centre", thing.colour)
    for offset in rim(thing.shape, thing.size):
        yield row + offset[0], column + offset[1], Role("rim", None, thing.shape, thing.size, offset)


def role_tokens(scene: Scene) -> Grid:
    """Return the image tokens (8, 8) of a scene: exact where it was made to be drawn, else the nearest."""
    tokens = np.full((SIDE, SIDE), GROUND_COLOURS.index(scene.ground.colour), dtype=np.int64)
    is_inside = scene.relation == "inside"
    order = sorted(range(len(scene.things)), key=lambda index: -scene.things[index].radius)
    centres: list[tuple[int, int, Role]] = []
    for index in order:
        centre, *others = cells_of(scene.things[index], is_outer=is_inside and index == 1)
        centres.append(centre)
        for row, column, role in [centre, *others]:
            if 0 <= row < SIDE and 0 <= column < SIDE:
                tokens[row, column] = _token_of()[role]
    for row, column, role in centres:  # where cells are shared, a colour must not be lost
        tokens[row, column] = _token_of()[role]
    return tokens


def read_roles(tokens: Grid) -> tuple[GroundColour, tuple[Drawn, ...]] | None:
    """Read image tokens (8, 8) back: the ground and the things, or None where they contradict each other."""
    known = roles()
    if tokens.max() >= len(known):
        return None
    said = {(row, column): known[tokens[row, column]] for row in range(SIDE) for column in range(SIDE)}
    things = [
        thing
        for (row, column), role in said.items()
        if role.colour
        for thing in _things_at(said, row, column)
    ]
    explained: dict[tuple[int, int], Role] = {}
    for thing in things:
        explained |= _expected(thing)
    grounds = {role.ground for cell, role in said.items() if cell not in explained}
    ground = grounds.pop() if len(grounds) == 1 else None
    if ground is None or not things or any(said.get(cell) != role for cell, role in explained.items()):
        return None
    return ground, tuple(things)


def _things_at(said: dict[tuple[int, int], Role], row: int, column: int) -> Iterator[Drawn]:
    """Yield the thing that has its centre here, and the outer one that it lies in."""
    centre, nothing = said[row, column], Role("ground")
    if centre.part != "centre" or centre.colour is None:
        return
    beside = said.get((row, column - 1), nothing)
    if beside.part == "rim" and beside.shape and beside.size:
        yield Drawn(shape=beside.shape, colour=centre.colour, size=beside.size, row=row, column=column)
    around, corner = said.get((row, column - 2), nothing), said.get((row - 1, column - 2), nothing)
    if around.part == "around" and around.colour and corner.shape and corner.part == "outer":
        yield Drawn(
            shape=corner.shape, colour=around.colour, size="large", row=row, column=column, is_outer=True
        )


def _expected(thing: Drawn) -> dict[tuple[int, int], Role]:
    middle = Thing(
        shape=thing.shape,
        colour=thing.colour,
        size=thing.size,
        x=(thing.column + 0.5) / SIDE,
        y=(thing.row + 0.5) / SIDE - (OUTLINES[thing.shape].heart[1] * OUTER_RADIUS if thing.is_outer else 0),
        radius=OUTER_RADIUS if thing.is_outer else RADIUS[thing.size],
        rgb=(0, 0, 0),
    )
    return {(row, column): role for row, column, role in cells_of(middle, thing.is_outer)}
