"""Scenes by seed: what a picture shows and where, on the right side of the split by composition.

A pure function of its arguments. Scenes that fall on the wrong side are drawn again from the same stream;
what a scene is to be (its kind, count and relation) is settled before, so that the split does not shift the
mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, floor, log

from janus_core.errors import ConfigError

from .compositions import Sort, count_key, is_held_out, is_test_composition, thing_key
from .dice import Dice, between, chance, new_dice, pick, pick_weighted, shuffled
from .outlines import OUTLINES
from .roles import SIDE, cells_of
from .scenes import Ground, Scene, Thing, is_clear, relation_between
from .vocabulary import (
    COLOUR_RGB,
    COLOURS,
    GROUND_COLOURS,
    GROUND_RGB,
    KINDS,
    OUTER_RADIUS,
    RADIUS,
    RGB,
    SHAPES,
    SIZES,
    TEXTURES,
    Kind,
    Relation,
    Size,
    Split,
)

_KIND_WEIGHTS: dict[Kind, float] = {"single": 0.25, "pair": 0.4, "count": 0.15, "mixed": 0.2}
_TEXTURE_WEIGHTS = (0.7, 0.1, 0.1, 0.1)
_CANONICAL_RELATIONS: tuple[Relation, ...] = ("left of", "above", "inside")
_RELATION_WEIGHTS = (0.4, 0.4, 0.2)
_SAME_COLOUR = _SAME_SHAPE = 0.15  # a pair shares one of them on purpose, for questions that compare
_SHADE_JITTER = 4
_RADIUS_JITTER = 0.07  # below half of the step from one size to the next
_FREE_SHARE = 0.6  # of scenes that are only looked at: their things lie anywhere
_MARK_CONTRAST = 10
_MARGIN, _GAP = 0.004, 0.045
_COLUMNS = ((0.0, 0.335), (0.395, 0.605), (0.665, 1.0))  # centres keep off the lines between the thirds
_MOST_TRIES = 100_000
_FOREIGN_SINGLE_SHARE = 0.4
_FOREIGN_RADIUS = (0.1, 0.36)
_CLEAR_SIZE = 0.7  # of the way to the second nearest size

# Pairs of ninths, counted by rows: the first lies left of (above) the second, and no farther down (across).
_CELLS_BESIDE: dict[Relation, tuple[tuple[int, int], ...]] = {
    "left of": tuple(
        (a, b) for a in range(9) for b in range(9) if b % 3 - a % 3 >= max(1, abs(b // 3 - a // 3))
    ),
    "above": tuple(
        (a, b) for a in range(9) for b in range(9) if b // 3 - a // 3 >= max(1, abs(b % 3 - a % 3))
    ),
}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a scene is to be, before chance fills it: its kind, number of things and relation."""

    kind: Kind
    count: int
    relation: Relation | None


def sample_scene(
    seed: int, split: Split = "train", kinds: tuple[Kind, ...] = KINDS, is_drawn: bool = False
) -> Scene:
    """Return the scene with this seed.

    Args:
        seed: from 0 upwards; each gives another scene.
        split: "train" never shows a held-out combination, "test" always shows at least one.
        kinds: which kinds of scene may come; ("single",) is the simple world.
        is_drawn: one to be drawn: pure colours on a plain ground, each thing in the middle of a cell, no cell
            shared but by things one inside the other. Others may lie anywhere and vary in shade.

    Raises: ConfigError for a negative seed, an unknown split or no kinds.
    """
    if split not in ("train", "test") or not kinds or not set(kinds) <= set(KINDS):
        raise ConfigError(f"No scenes of kinds {kinds} for the {split!r} split. Kinds: {', '.join(KINDS)}.")
    dice = new_dice(f"scene {split}", seed)
    plan = _draw_plan(dice, kinds)
    is_free = not is_drawn and chance(dice, _FREE_SHARE)
    for _ in range(_MOST_TRIES):
        things = _draw_things(dice, plan)
        if split == "train" and _has_held_out_things(things):
            continue  # cheap: spares placing them
        if not is_drawn:
            things = [_varied(dice, thing) for thing in things]
        placed = _place(dice, things, plan.relation, is_free)
        if placed is None or (is_drawn and plan.relation != "inside" and _share_cells(placed)):
            continue
        ground = _pure_ground(dice) if is_drawn else _draw_ground(dice)
        scene = Scene(kind=plan.kind, things=placed, ground=ground)
        if is_test_composition(scene) == (split == "test"):
            return scene
    raise AssertionError("no scene of this plan exists on this side of the split")


def sample_foreign_scene(seed: int, kinds: tuple[Kind, ...] = KINDS) -> Scene:
    """Return a scene of the training split as a person might make it: a single thing may have any size.

    Args:
        seed: as for `sample_scene`.
        kinds: likewise.
    """
    dice = new_dice("foreign scene", seed)
    if kinds != ("single",) and ("single" not in kinds or not chance(dice, _FOREIGN_SINGLE_SHARE)):
        return sample_scene(seed, kinds=tuple(kind for kind in kinds if kind != "single"))
    while True:
        radius = exp(between(dice, log(_FOREIGN_RADIUS[0]), log(_FOREIGN_RADIUS[1])))
        sizes = sorted(SIZES, key=lambda size: abs(log(radius / RADIUS[size])))
        if abs(log(radius / RADIUS[sizes[0]])) > _CLEAR_SIZE * abs(log(radius / RADIUS[sizes[1]])):
            continue  # nobody could say which size that is
        thing = replace(_thing(_sort(dice), sizes[0]), radius=radius)
        placed = _put(dice, [thing], [pick(dice, range(9))], is_free=True)
        if placed is None:
            continue
        scene = Scene(kind="single", things=placed, ground=_pure_ground(dice))
        if not is_test_composition(scene):
            return scene


def _draw_plan(dice: Dice, kinds: tuple[Kind, ...]) -> _Plan:
    kind = pick_weighted(dice, kinds, [_KIND_WEIGHTS[kind] for kind in kinds])
    counts = {"single": (1,), "pair": (2,), "count": (2, 3, 4), "mixed": (3, 4)}
    relation = pick_weighted(dice, _CANONICAL_RELATIONS, _RELATION_WEIGHTS) if kind == "pair" else None
    return _Plan(kind=kind, count=pick(dice, counts[kind]), relation=relation)


def _has_held_out_things(things: list[Thing]) -> bool:
    """Return True if the things already betray the test, wherever they are put."""
    keys = {thing_key(thing.size, thing.colour, thing.shape) for thing in things}
    sorts: list[Sort] = [(thing.colour, thing.shape) for thing in things]
    keys |= {count_key(sorts.count(sort), *sort) for sort in sorts if sorts.count(sort) > 1}
    return any(map(is_held_out, keys))


# What there is


def _draw_things(dice: Dice, plan: _Plan) -> list[Thing]:
    """Draw shape, colour and size of each thing; places come later."""
    if plan.kind == "pair":
        sorts = _two_sorts(dice, plan.relation)
    elif plan.kind == "mixed":
        sorts = _several_sorts(dice, plan.count)
    else:
        sorts = [_sort(dice)] * plan.count
    sizes: dict[Sort, Size] = {}
    for sort in sorts:
        sizes[sort] = sizes[sort] if sort in sizes else pick(dice, SIZES[:2] if plan.count > 2 else SIZES)
    if plan.relation == "inside":
        outer = replace(_thing(sorts[1], "large"), radius=OUTER_RADIUS)  # holds another thing
        return [_thing(sorts[0], "small"), outer]
    return [_thing(sort, sizes[sort]) for sort in sorts]


def _sort(dice: Dice) -> Sort:
    return pick(dice, COLOURS), pick(dice, SHAPES)


def _two_sorts(dice: Dice, relation: Relation | None) -> list[Sort]:
    """Draw two different sorts; an object inside another has another colour."""
    first = second = _sort(dice)
    while second == first or (relation == "inside" and second[0] == first[0]):
        second = _sort(dice)
        die = dice.random()
        if die < _SAME_COLOUR:
            second = first[0], second[1]
        elif die < _SAME_COLOUR + _SAME_SHAPE:
            second = second[0], first[1]
    return [first, second]


def _several_sorts(dice: Dice, count: int) -> list[Sort]:
    """Draw `count` sorts, at least two of them different; equal ones are common."""
    first = second = _sort(dice)
    while second == first:
        second = _sort(dice)
    sorts = [first, second]
    while len(sorts) < count:
        sorts.append(pick(dice, sorts) if chance(dice, 0.5) else _sort(dice))
    return sorts


def _thing(sort: Sort, size: Size) -> Thing:
    colour, shape = sort
    return Thing(
        shape=shape,
        colour=colour,
        size=size,
        x=0.5,
        y=0.5,
        radius=RADIUS[size],
        rgb=COLOUR_RGB[colour],
    )


def _varied(dice: Dice, thing: Thing) -> Thing:
    """Vary shade and radius a little."""
    ratio = 1 + between(dice, -_RADIUS_JITTER, _RADIUS_JITTER)
    return replace(thing, radius=thing.radius * ratio, rgb=_shade(dice, thing.rgb))


def _shade(dice: Dice, rgb: RGB) -> RGB:
    """Vary a colour a little."""
    red, green, blue = (
        min(255, max(0, level + round(between(dice, -_SHADE_JITTER, _SHADE_JITTER)))) for level in rgb
    )
    return red, green, blue


def _pure_ground(dice: Dice) -> Ground:
    colour = pick(dice, GROUND_COLOURS)
    pure = GROUND_RGB[colour]
    return Ground(colour=colour, texture="plain", rgb=pure, mark_rgb=pure)


def _draw_ground(dice: Dice) -> Ground:
    colour = pick(dice, GROUND_COLOURS)
    texture = pick_weighted(dice, TEXTURES, _TEXTURE_WEIGHTS)
    rgb = _shade(dice, GROUND_RGB[colour])
    step = -_MARK_CONTRAST if sum(rgb) > 3 * 128 else _MARK_CONTRAST
    return Ground(
        colour=colour, texture=texture, rgb=rgb, mark_rgb=(rgb[0] + step, rgb[1] + step, rgb[2] + step)
    )


# Where it is


def _place(
    dice: Dice, things: list[Thing], relation: Relation | None, is_free: bool
) -> tuple[Thing, ...] | None:
    """Give every thing a centre, or return None if this throw does not fit."""
    if relation == "inside":
        return _place_inside(dice, things[0], things[1], is_free)
    if relation is None:
        return _scatter(dice, things, is_free)
    placed = _put(dice, things, pick(dice, _CELLS_BESIDE[relation]), is_free)
    is_right = placed is not None and is_clear(*placed) and relation_between(*placed) == relation
    return placed if is_right else None


def _scatter(dice: Dice, things: list[Thing], is_free: bool) -> tuple[Thing, ...] | None:
    """Put each thing into a ninth where it touches no other; None if there is none."""
    placed: tuple[Thing, ...] = ()
    cells = shuffled(dice, range(9))
    for thing in things:
        for cell in cells:
            found = _put(dice, [thing], [cell], is_free, placed)
            if found is not None:
                break
        else:
            return None
        placed = (*placed, *found)
        cells.remove(cell)
    return placed


def _place_inside(dice: Dice, inner: Thing, outer: Thing, is_free: bool) -> tuple[Thing, ...]:
    """Put the inner thing in the middle of the picture, and the outer one so that its heart is there."""
    x, y = (_between_lines(dice, *_COLUMNS[1], is_free) for _ in range(2))
    lift = OUTLINES[outer.shape].heart[1] * outer.radius
    return replace(inner, x=x, y=y), replace(outer, x=x, y=y - lift)


def _put(
    dice: Dice, things: list[Thing], cells: Sequence[int], is_free: bool, others: tuple[Thing, ...] = ()
) -> tuple[Thing, ...] | None:
    """Put every thing into its ninth of the picture; None if it touches another one or those there before."""
    placed: list[Thing] = []
    for thing, cell in zip(things, cells, strict=True):
        outline = OUTLINES[thing.shape]
        x = _coordinate(dice, cell % 3, thing.radius * outline.half_width, is_free)
        y = _coordinate(dice, cell // 3, thing.radius * outline.half_height, is_free)
        if x is None or y is None:
            return None
        candidate = replace(thing, x=x, y=y)
        if any(_touch(candidate, other) for other in (*others, *placed)):
            return None
        placed.append(candidate)
    return tuple(placed)


def _coordinate(dice: Dice, third: int, half: float, is_free: bool) -> float | None:
    """Choose a coordinate within a third of the picture, or return None if a thing is too wide for it."""
    low, high = _COLUMNS[third]
    low, high = max(low, half + _MARGIN), min(high, 1 - half - _MARGIN)
    return None if low > high else _between_lines(dice, low, high, is_free)


def _between_lines(dice: Dice, low: float, high: float, is_free: bool) -> float:
    """Choose a coordinate: anywhere, or in the middle of a cell."""
    if is_free:
        return between(dice, low, high)
    return (pick(dice, range(ceil(low * SIDE - 0.5), floor(high * SIDE - 0.5) + 1)) + 0.5) / SIDE


def _share_cells(things: Sequence[Thing]) -> bool:
    """Return True if an image token would have to tell two things at once, or one lies beyond the grid."""
    cells = [(row, column) for thing in things for row, column, _ in cells_of(thing)]
    is_beyond = any(not (0 <= row < SIDE and 0 <= column < SIDE) for row, column in cells)
    return is_beyond or len(set(cells)) < len(cells)


def _touch(first: Thing, second: Thing) -> bool:
    """Return True if two bounding boxes come closer than the gap that keeps objects apart at 64 pixels."""
    a, b = OUTLINES[first.shape], OUTLINES[second.shape]
    across = abs(first.x - second.x) - first.radius * a.half_width - second.radius * b.half_width
    down = abs(first.y - second.y) - first.radius * a.half_height - second.radius * b.half_height
    return max(across, down) < _GAP
