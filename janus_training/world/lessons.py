"""Which questions are asked about a picture while a model learns: kinds by their share, each on its own.

Knows nothing of tokens. What binds (colour, mix-up, relation, where, which) is asked twice as often as the
rest: it is what a model learns last. Lookups, in the last stage, have shares of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from janus_core.inputs.prompting import CAPTION_STYLES

from .answers import Question
from .captions import caption_question
from .dice import Dice, chance, new_dice, pick_weighted
from .foreign import Sight
from .questions import ask_of_kind
from .two_pictures import questions_about_two
from .vocabulary import STYLES, Style

_SHARES: dict[str, float] = {
    "caption": 4.7,  # a quarter
    "colour": 2.0,
    "mix_up": 2.0,
    "relation": 2.0,
    "where": 2.0,
    "shape": 1.0,
    "size": 1.0,
    "count": 1.0,
    "yes_no": 1.0,
    "compare": 1.0,
    "content": 0.5,
    "ground": 0.5,
    "absent": 1.0,
    "fit": 1.5,
    "outside": 0.7,
}
# What can be answered only by finding what is named, more of it where more is to be found or counted.
_LOOKUPS: dict[str, float] = {
    "colour": 0.8,
    "shape": 1.2,
    "where": 2.5,
    "mix_up": 1.2,
    "relation": 2.8,
    "size": 0.8,
    "compare": 1.7,
    "fit": 1.3,
    "count": 1.5,
    "content": 0.5,
    "outside": 0.3,
}
_STYLE_WEIGHTS = (0.4, 0.35, 0.2, 0.05)  # short, detailed, tags, text
_SEVERAL_TURNS_SHARE = 0.1
_SPEAK_OF_GROUND = ("ground", "yes_no")  # kinds that may name the ground
_MOST_TRIES = 50


def lessons_about_one(sight: Sight, seed: int, count: int, lookups: float = 0.0) -> list[list[Question]]:
    """Return `count` conversations about a picture, most of a single question.

    Args:
        sight: the picture.
        seed: of what is asked.
        count: of conversations.
        lookups: share of those that ask for what must be found by its name.
    """
    dice = new_dice("lessons", seed)
    asked: list[list[Question]] = []
    while len(asked) < count:
        if lookups and chance(dice, lookups):
            asked.append([_question(sight, dice, _LOOKUPS)])
            continue
        turns = 2 + chance(dice, 0.5) if chance(dice, _SEVERAL_TURNS_SHARE) else 1
        asked.append([_question(sight, dice, _SHARES) for _ in range(turns)])
    return asked


def lessons_about_two(first: Sight, second: Sight, seed: int, count: int) -> list[list[Question]]:
    """Return `count` conversations of a single question about two pictures."""
    asked = questions_about_two(first.scene, second.scene, seed, max(count - 2, 1))
    return [[question] for question in asked[:count]]


def _question(sight: Sight, dice: Dice, shares: Mapping[str, float]) -> Question:
    for _ in range(_MOST_TRIES):
        kind = pick_weighted(dice, tuple(shares), tuple(shares.values()))
        if kind == "caption":
            style = pick_weighted(dice, STYLES, _STYLE_WEIGHTS) if sight.has_named_ground else "short"
            return _caption(sight, style, dice)
        if kind in _SPEAK_OF_GROUND and not sight.has_named_ground:
            continue
        question = ask_of_kind(kind, sight.scene, dice)
        if question is not None:
            return question
    return _caption(sight, "short", dice)


def _caption(sight: Sight, style: Style, dice: Dice) -> Question:
    return caption_question(sight.scene, style, int(dice.random() * 2**40), CAPTION_STYLES[style])
