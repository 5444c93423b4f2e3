"""Questions about a scene, one of every kind that the scene allows, with short canonical answers."""

from __future__ import annotations

from collections.abc import Callable

from .answers import Question
from .asking import (
    ask_absent,
    ask_colour,
    ask_content,
    ask_count,
    ask_ground,
    ask_relation,
    ask_shape,
    ask_size,
    ask_where,
)
from .asking_fit import ask_fit
from .asking_yes_no import ask_comparison, ask_mix_up, ask_yes_no
from .dice import Dice, new_dice, shuffled
from .outside import outside_question
from .scenes import Scene
from .vocabulary import Split

_BUILDERS: dict[str, Callable[[Scene, Dice], Question | None]] = {
    "colour": ask_colour,
    "shape": ask_shape,
    "size": ask_size,
    "count": ask_count,
    "where": ask_where,
    "relation": ask_relation,
    "yes_no": ask_yes_no,
    "compare": ask_comparison,
    "content": ask_content,
    "ground": ask_ground,
    "absent": ask_absent,
    "mix_up": ask_mix_up,
    "fit": ask_fit,
}
_OUTSIDE_SEEDS = 2**40
QUESTION_KINDS: tuple[str, ...] = (*_BUILDERS, "outside")


def ask_of_kind(kind: str, scene: Scene, dice: Dice, split: Split = "train") -> Question | None:
    """Ask one question of a kind, or return None where the scene allows none."""
    if kind in _BUILDERS:
        return _BUILDERS[kind](scene, dice)
    return outside_question(int(dice.random() * _OUTSIDE_SEEDS), split)


def questions(scene: Scene, seed: int, split: Split = "train") -> list[Question]:
    """Ask one question of every kind that has exactly one answer in this scene.

    Args:
        scene: what is asked about.
        seed: of the choice of object and wording.
        split: from which side questions outside the world come.
    """
    dice = new_dice("questions", seed)
    asked = [builder(scene, dice) for builder in _BUILDERS.values()]
    return [*(question for question in asked if question is not None), outside_question(seed, split)]


def one_question(scene: Scene, seed: int, split: Split = "train") -> Question:
    """Ask one question of a random kind; the cheap way for training."""
    dice = new_dice("one question", seed)
    for kind in shuffled(dice, QUESTION_KINDS):
        question = ask_of_kind(kind, scene, dice, split)
        if question is not None:
            return question
    raise AssertionError("the ground's colour can always be asked for")
