"""What a model of this world is shown when it is asked: its own pictures and, as often, foreign ones."""

from __future__ import annotations

from itertools import count

from .dice import chance, new_dice
from .foreign import Sight, see_foreign
from .rendering import render
from .scene_sampling import sample_foreign_scene, sample_scene
from .scenes import Scene
from .vocabulary import KINDS, Kind

_FOREIGN_SHARE = 0.5
_ANOTHER = 700_000_000_000  # beyond the numbers of all stages


def sight(number: int, size_px: int, kinds: tuple[Kind, ...] = KINDS, is_varied: bool = False) -> Sight:
    """Return the sight with this number, from the training side of the split.

    Args:
        number: from 0 upwards.
        size_px: side of the picture.
        kinds: of its scene.
        is_varied: only a scene of several colours and shapes, so that the one thing that a question is about
            must be found by what it is called.
    """
    dice = new_dice("sight", number)
    is_foreign = chance(dice, _FOREIGN_SHARE)
    sample = sample_foreign_scene if is_foreign else sample_scene
    scene = next(
        scene
        for scene in (sample(seed, kinds=kinds) for seed in count(number, _ANOTHER))
        if not is_varied or _is_varied(scene)
    )
    if is_foreign:
        return see_foreign(scene, dice, size_px)
    return Sight(scene=scene, picture=render(scene, size_px))


def _is_varied(scene: Scene) -> bool:
    colours, shapes = ({getattr(thing, name) for thing in scene.things} for name in ("colour", "shape"))
    return min(len(colours), len(shapes)) > 1
