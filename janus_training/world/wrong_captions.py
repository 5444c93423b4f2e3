"""Captions that do not hold: a scene's own with one attribute changed, and another scene's.

For measuring whether a model tells them from right ones. A wrong caption never holds of a part of the
picture either: "two red circles" would, of three.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from .captions import short_caption
from .dice import Dice, new_dice, pick, shuffled
from .facts import Facts, facts_of, only_names
from .scene_sampling import sample_scene
from .scenes import Scene
from .vocabulary import COLOURS, NUMBER_WORDS, OPPOSITE, SHAPES


def phrase(scene: Scene) -> str:
    """Return the short caption of a scene as a phrase: "a red circle above a blue square"."""
    return phrase_of(facts_of(scene))


def near_phrase(scene: Scene, seed: int) -> str:
    """Return a scene's phrase with one colour, shape, number or the relation changed, so that it is wrong."""
    return phrase_of(near_facts(only_what_is_named(facts_of(scene)), new_dice("near caption", seed)))


def only_what_is_named(facts: Facts) -> Facts:
    """Return facts without sizes and places, which short captions do not tell."""
    return replace(facts, mentions=only_names(facts.mentions))


def near_facts(facts: Facts, dice: Dice) -> Facts:
    """Change one colour, shape, number or the relation, so that the facts do not hold any more."""
    for change in shuffled(dice, (_other_sort, _other_count, _other_relation)):
        changed = change(facts, dice)
        if changed is not None:
            return changed
    raise AssertionError("a colour can always be changed")


def foreign_phrase(scene: Scene, seed: int) -> str:
    """Return the phrase of another scene, one that shows something which this one lacks."""
    present = set(facts_of(scene).counts())
    others = (sample_scene(number, "test") for number in count(seed))
    return next(phrase(other) for other in others if not set(facts_of(other).counts()) <= present)


def phrase_of(facts: Facts) -> str:
    """Return facts as the phrase of a short caption."""
    caption = short_caption(facts).removesuffix(".")
    return caption[0].lower() + caption[1:]


def _other_sort(facts: Facts, dice: Dice) -> Facts | None:
    """Change the colour or the shape of something to one that makes it absent."""
    place = pick(dice, range(len(facts.mentions)))
    mention = facts.mentions[place]
    changed = [
        *(replace(mention, colour=colour) for colour in COLOURS),
        *(replace(mention, shape=shape) for shape in SHAPES),
    ]
    present = set(facts.counts())
    absent = pick(dice, [one for one in changed if one.sort not in present])
    return replace(facts, mentions=(*facts.mentions[:place], absent, *facts.mentions[place + 1 :]))


def _other_count(facts: Facts, dice: Dice) -> Facts | None:
    """Claim more things of a sort than there are; a relation is between single things."""
    places = [i for i, mention in enumerate(facts.mentions) if mention.count + 1 < len(NUMBER_WORDS)]
    if facts.relation is not None or not places:
        return None
    place = pick(dice, places)
    mention = facts.mentions[place]
    more = replace(mention, count=pick(dice, range(mention.count + 1, len(NUMBER_WORDS))))
    return replace(facts, mentions=(*facts.mentions[:place], more, *facts.mentions[place + 1 :]))


def _other_relation(facts: Facts, dice: Dice) -> Facts | None:
    """Turn the relation round: the other side, or the outer thing inside the inner one."""
    if facts.relation is None:
        return None
    if facts.relation == "inside":
        return replace(facts, mentions=facts.mentions[::-1])
    return replace(facts, relation=OPPOSITE[facts.relation])
