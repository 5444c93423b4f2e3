"""Scenes that differ from another in one thing only, so that telling them apart takes more than a glance.

Knows nothing of pixels, words or training.
"""

from __future__ import annotations

from dataclasses import replace

from .compositions import Sort, is_test_composition
from .dice import Dice, chance, pick
from .scenes import Scene, Thing
from .vocabulary import COLOUR_RGB, COLOURS, RGB, SHAPES, Colour

_MOST_TRIES = 20


def near_miss(scene: Scene, dice: Dice) -> Scene | None:
    """Give one sort of things another colour or shape, keeping to the training side of the split.

    Returns: the other scene, or None where no try fits.
    """
    for _ in range(_MOST_TRIES):
        group = pick(dice, scene.groups)
        colour, shape = group[0].colour, group[0].shape
        if scene.relation == "inside" or chance(dice, 0.5):
            sort: Sort = pick(dice, COLOURS), shape
        else:
            sort = colour, pick(dice, SHAPES)
        changed = _with_sort(scene, group, sort)
        if changed is not None and not is_test_composition(changed):
            return changed
    return None


def _with_sort(scene: Scene, group: tuple[Thing, ...], sort: Sort) -> Scene | None:
    """Return the scene with another sort for a group; None if that is there already or hides another."""
    colour, shape = sort
    if any((thing.colour, thing.shape) == sort for thing in scene.things):
        return None
    if scene.relation == "inside" and any(thing.colour == colour for thing in scene.things):
        return None
    things = tuple(
        replace(thing, colour=colour, shape=shape, rgb=_shade(thing, colour)) if thing in group else thing
        for thing in scene.things
    )
    return replace(scene, things=things)


def _shade(thing: Thing, colour: Colour) -> RGB:
    """Return the new colour, varied as the old one was."""
    red, green, blue = (
        min(255, max(0, new + was - old))
        for new, was, old in zip(COLOUR_RGB[colour], thing.rgb, COLOUR_RGB[thing.colour], strict=True)
    )
    return red, green, blue
