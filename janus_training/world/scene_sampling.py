"""Scenes by seed: what a picture shows and where, on the right side of the split by composition.

A pure function of its arguments. Scenes that fall on the wrong side are drawn again from the same stream;
what a scene is to be (its kind, count and relation) is settled before, so that the split does not shift the
mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from janus_core.errors import ConfigError

from .compositions import Sort, count_key, is_held_out, is_test_composition, mixture_key, thing_key
from .dice import Dice, between, chance, new_dice, pick, pick_weighted, shuffled
from .outlines import OUTLINES
from .scenes import Ground, Scene, Thing, is_clear, relation_between
from .vocabulary import (
    COLOUR_RGB,
    COLOURS,
    GROUND_COLOURS,
    GROUND_RGB,
    KINDS,
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
_OUTER_RADIUS = 0.33
_SHADE_JITTER = 2
_MARK_CONTRAST = 10
_MARGIN, _GAP = 0.004, 0.045
_STEPS = 8  # centres lie in the middle of the cells of so many by so many, image tokens at 64 pixels
_COLUMNS = ((0.0, 0.335), (0.395, 0.605), (0.665, 1.0))  # centres keep off the lines between the thirds
_MOST_TRIES = 100_000

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
    seed: int, split: Split = "train", kinds: tuple[Kind, ...] = KINDS, is_plain: bool = False
) -> Scene:
    """Return the scene with this seed.

    Args:
        seed: from 0 upwards; each gives another scene.
        split: "train" never shows a held-out combination, "test" always shows at least one.
        kinds: which kinds of scene may come; ("single",) is the simple world.
        is_plain: leave out textures.

    Raises: ConfigError for a negative seed, an unknown split or no kinds.
    """
    if split not in ("train", "test") or not kinds or not set(kinds) <= set(KINDS):
        raise ConfigError(f"No scenes of kinds {kinds} for the {split!r} split. Kinds: {', '.join(KINDS)}.")
    dice = new_dice(f"scene {split}", seed)
    plan = _draw_plan(dice, kinds)
    for _ in range(_MOST_TRIES):
        things = _draw_things(dice, plan)
        if split == "train" and _has_held_out_things(things, plan):
            continue  # cheap: spares placing them
        placed = _place(dice, things, plan.relation)
        if placed is None:
            continue
        scene = Scene(kind=plan.kind, things=placed, ground=_draw_ground(dice, is_plain))
        if is_test_composition(scene) == (split == "test"):
            return scene
    raise AssertionError("no scene of this plan exists on this side of the split")


def in_pure_colours(scene: Scene) -> Scene:
    """Return the scene with every thing and the ground in exactly its colour, without shades or marks."""
    pure = GROUND_RGB[scene.ground.colour]
    return replace(
        scene,
        things=tuple(replace(thing, rgb=COLOUR_RGB[thing.colour]) for thing in scene.things),
        ground=replace(scene.ground, texture="plain", rgb=pure, mark_rgb=pure),
    )


def _draw_plan(dice: Dice, kinds: tuple[Kind, ...]) -> _Plan:
    kind = pick_weighted(dice, kinds, [_KIND_WEIGHTS[kind] for kind in kinds])
    counts = {"single": (1,), "pair": (2,), "count": (2, 3, 4), "mixed": (3, 4)}
    relation = pick_weighted(dice, _CANONICAL_RELATIONS, _RELATION_WEIGHTS) if kind == "pair" else None
    return _Plan(kind=kind, count=pick(dice, counts[kind]), relation=relation)


def _has_held_out_things(things: list[Thing], plan: _Plan) -> bool:
    """Return True if the things already betray the test, wherever they are put."""
    keys = {thing_key(thing.size, thing.colour, thing.shape) for thing in things}
    sorts: list[Sort] = [(thing.colour, thing.shape) for thing in things]
    keys |= {count_key(sorts.count(sort), *sort) for sort in sorts if sorts.count(sort) > 1}
    if plan.kind == "mixed":
        keys.add(mixture_key(sorts))
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
        outer = replace(_thing(dice, sorts[1], "large"), radius=_OUTER_RADIUS)  # holds another thing
        return [_thing(dice, sorts[0], "small"), outer]
    return [_thing(dice, sort, sizes[sort]) for sort in sorts]


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


def _thing(dice: Dice, sort: Sort, size: Size) -> Thing:
    colour, shape = sort
    return Thing(
        shape=shape,
        colour=colour,
        size=size,
        x=0.5,
        y=0.5,
        radius=RADIUS[size],
        rgb=_shade(dice, COLOUR_RGB[colour]),
    )


def _shade(dice: Dice, rgb: RGB) -> RGB:
    """Vary a colour a little."""
    red, green, blue = (
        min(255, max(0, level + round(between(dice, -_SHADE_JITTER, _SHADE_JITTER)))) for level in rgb
    )
    return red, green, blue


def _draw_ground(dice: Dice, is_plain: bool) -> Ground:
    colour = pick(dice, GROUND_COLOURS)
    texture = "plain" if is_plain else pick_weighted(dice, TEXTURES, _TEXTURE_WEIGHTS)
    rgb = _shade(dice, GROUND_RGB[colour])
    step = -_MARK_CONTRAST if sum(rgb) > 3 * 128 else _MARK_CONTRAST
    return Ground(
        colour=colour, texture=texture, rgb=rgb, mark_rgb=(rgb[0] + step, rgb[1] + step, rgb[2] + step)
    )


# Where it is


def _place(dice: Dice, things: list[Thing], relation: Relation | None) -> tuple[Thing, ...] | None:
    """Give every thing a centre, or return None if this throw does not fit."""
    if relation == "inside":
        return _place_inside(dice, *things)
    if len(things) == 2 and relation is not None:
        return _place_beside(dice, things, relation)
    return _put(dice, things, shuffled(dice, range(9)))


def _place_inside(dice: Dice, inner: Thing, outer: Thing) -> tuple[Thing, ...]:
    x, y = _on_grid(dice, *_COLUMNS[1]), _on_grid(dice, *_COLUMNS[1])
    heart = OUTLINES[outer.shape].heart
    inner_x, inner_y = x + outer.radius * heart[0], y + outer.radius * heart[1]
    return replace(inner, x=inner_x, y=inner_y), replace(outer, x=x, y=y)


def _place_beside(dice: Dice, things: list[Thing], relation: Relation) -> tuple[Thing, ...] | None:
    placed = _put(dice, things, pick(dice, _CELLS_BESIDE[relation]))
    if placed is None or not is_clear(*placed) or relation_between(*placed) != relation:
        return None
    return placed


def _put(dice: Dice, things: list[Thing], cells: Sequence[int]) -> tuple[Thing, ...] | None:
    """Put every thing into its ninth of the picture; None if two of them touch."""
    placed: list[Thing] = []
    for thing, cell in zip(things, cells, strict=False):
        outline = OUTLINES[thing.shape]
        x = _coordinate(dice, cell % 3, thing.radius * outline.half_width)
        y = _coordinate(dice, cell // 3, thing.radius * outline.half_height)
        candidate = replace(thing, x=x, y=y)
        if any(_touch(candidate, other) for other in placed):
            return None
        placed.append(candidate)
    return tuple(placed)


def _coordinate(dice: Dice, third: int, half: float) -> float:
    low, high = _COLUMNS[third]
    return _on_grid(dice, max(low, half + _MARGIN), min(high, 1 - half - _MARGIN))


def _on_grid(dice: Dice, low: float, high: float) -> float:
    return (pick(dice, range(ceil(low * _STEPS - 0.5), floor(high * _STEPS - 0.5) + 1)) + 0.5) / _STEPS


def _touch(first: Thing, second: Thing) -> bool:
    """Return True if two bounding boxes come closer than the gap that keeps objects apart at 64 pixels."""
    a, b = OUTLINES[first.shape], OUTLINES[second.shape]
    across = abs(first.x - second.x) - first.radius * a.half_width - second.radius * b.half_width
    down = abs(first.y - second.y) - first.radius * a.half_height - second.radius * b.half_height
    return max(across, down) < _GAP
