"""Whether a whole description fits a picture: the question by which drawings are judged.

A false description is the true one with a single thing changed, or another scene's. It is never a held-out
combination: training would teach that those do not occur. The answer begins with what is there.
"""

from __future__ import annotations

from .answers import Question, decide
from .compositions import count_key, is_held_out, relation_key
from .dice import Dice, chance, pick
from .facts import Facts, facts_of
from .scene_sampling import sample_scene
from .scenes import Scene
from .wrong_captions import near_facts, only_what_is_named, phrase_of

_FITS = (
    "Does this picture show {}?",
    "Does this picture show {}?",
    "Does the picture show {}?",
    "Does the image show {}?",
    "Is this a picture of {}?",
    "Is this {}?",
)
_ANOTHER_SHARE = 0.3  # of false descriptions that are another scene's
_MOST_TRIES = 20
_SCENES = 2**40


def ask_fit(scene: Scene, dice: Dice) -> Question | None:
    """Ask whether a description fits; the answer is yes half the time."""
    is_yes = chance(dice, 0.5)
    true = only_what_is_named(facts_of(scene))
    supposed = true if is_yes else _false(true, dice)
    if supposed is None:
        return None
    question = pick(dice, _FITS).format(phrase_of(supposed))
    return decide("fit", question, f"it shows {phrase_of(true)}", is_yes)


def _false(true: Facts, dice: Dice) -> Facts | None:
    """Return what does not hold, and may be said in training; None if there is nothing."""
    for _ in range(_MOST_TRIES):
        if chance(dice, _ANOTHER_SHARE):
            other = only_what_is_named(facts_of(sample_scene(int(dice.random() * _SCENES))))
            if not set(other.counts()) <= set(true.counts()):
                return other
            continue
        changed = near_facts(true, dice)
        if not any(map(is_held_out, _keys(changed))):
            return changed
    return None


def _keys(facts: Facts) -> list[str]:
    """Name the combinations that a description without sizes and places states."""
    sorts = [mention.sort for mention in facts.mentions]
    keys = [count_key(mention.count, *mention.sort) for mention in facts.mentions if mention.count > 1]
    if facts.relation is not None:
        keys.append(relation_key(sorts[0], facts.relation, sorts[1]))
    return keys
