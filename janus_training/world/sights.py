"""What a model of this world is shown when it is asked: its own pictures and, as often, foreign ones."""

from __future__ import annotations

from .dice import chance, new_dice
from .foreign import Sight, see_foreign
from .rendering import render
from .scene_sampling import sample_foreign_scene, sample_scene
from .vocabulary import KINDS, Kind

_FOREIGN_SHARE = 0.5


def sight(number: int, size_px: int, kinds: tuple[Kind, ...] = KINDS) -> Sight:
    """Return the sight with this number, from the training side of the split.

    Args:
        number: from 0 upwards.
        size_px: side of the picture.
        kinds: of its scene.
    """
    dice = new_dice("sight", number)
    if chance(dice, _FOREIGN_SHARE):
        return see_foreign(sample_foreign_scene(number, kinds), dice, size_px)
    scene = sample_scene(number, kinds=kinds)
    return Sight(scene=scene, picture=render(scene, size_px))
