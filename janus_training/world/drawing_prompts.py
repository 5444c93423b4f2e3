"""Drawing prompts: many wordings of what a picture is to show, from bare words to polite requests.

Unlike captions they vary: sizes, places and ground are asked for only sometimes, and relations from either
side.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from .dice import Dice, chance, new_dice, pick, pick_weighted, shuffled
from .facts import Facts, Mention, facts_of
from .phrases import counted, listed
from .scenes import Scene
from .vocabulary import NUMBER_WORDS, OPPOSITE, RELATION_WORDINGS, SIZE_WORDINGS, Relation

_FRAMES = (
    "{}",
    "draw {}",
    "a picture of {}",
    "an image of {}",
    "paint {}",
    "please draw {}",
    "draw me {}",
    "draw a picture of {}",
    "make an image of {}",
    "show me {}",
    "create a picture of {}",
    "generate an image of {}",
    "can you draw {}?",
    "I want a picture of {}",
    "draw {}, please",
)
_FRAME_WEIGHTS = (6, 4, 3, 2) + (1,) * 11
Detail = Literal["size", "place"]

_SIZE_SHARE = 0.5
_GROUND_SHARE = 0.3
_PLACE_SHARE = 0.35
_DIGIT_SHARE = 0.15
_TURNED_SHARE = 0.4
_SENTENCE_SHARE = 0.4


def drawing_facts(scene: Scene, seed: int, *, stated: Detail | None = None) -> Facts:
    """Choose what a prompt for this scene states; colours, shapes, counts and a relation always.

    Args:
        scene: what is to be drawn.
        seed: of the choice.
        stated: the detail to state whatever the seed says. A single thing is an unseen composition only
            together with its size or its place.
    """
    dice = new_dice("drawing facts", seed)
    facts = facts_of(scene)
    has_sizes = chance(dice, _SIZE_SHARE) or stated == "size"
    has_places = scene.kind == "single" and (chance(dice, _PLACE_SHARE) or stated == "place")
    mentions = tuple(
        replace(
            mention,
            size=mention.size if has_sizes else None,
            place=mention.place if has_places else None,
        )
        for mention in facts.mentions
    )
    if facts.relation is None:
        mentions = tuple(shuffled(dice, mentions))
    return replace(facts, mentions=mentions, ground=facts.ground if chance(dice, _GROUND_SHARE) else None)


def drawing_prompt(scene: Scene, seed: int, *, stated: Detail | None = None) -> str:
    """Word a prompt for a scene; `caption_facts` reads it back as `drawing_facts` with the same arguments."""
    return word_prompt(drawing_facts(scene, seed, stated=stated), seed)


def word_prompt(facts: Facts, seed: int) -> str:
    """Word given facts as a prompt in one of many ways."""
    dice = new_dice("drawing words", seed)
    wish = _related(dice, facts, facts.relation) if facts.relation else listed(_phrases(dice, facts))
    if facts.ground is not None:
        wish = f"{wish} on a {facts.ground} background"
    prompt = pick_weighted(dice, _FRAMES, _FRAME_WEIGHTS).format(wish)
    if chance(dice, _SENTENCE_SHARE):
        prompt = prompt[0].upper() + prompt[1:] + ("" if prompt.endswith("?") else ".")
    return prompt


def _phrases(dice: Dice, facts: Facts) -> list[str]:
    return [_phrase(dice, mention) for mention in facts.mentions]


def _phrase(dice: Dice, mention: Mention) -> str:
    """Word a mention, now and then with a digit or another word for its size."""
    phrase = counted(mention)
    if mention.count > 1 and chance(dice, _DIGIT_SHARE):
        phrase = phrase.replace(NUMBER_WORDS[mention.count], str(mention.count), 1)
    if mention.size is not None:
        phrase = phrase.replace(mention.size, pick(dice, SIZE_WORDINGS[mention.size]), 1)
    return phrase


def _related(dice: Dice, facts: Facts, relation: Relation) -> str:
    """Word two related things, from either side."""
    first, second = _phrases(dice, facts)
    is_turned = chance(dice, _TURNED_SHARE)
    if is_turned and relation == "inside":
        return f"{second} with {first} inside"
    if is_turned:
        first, second, relation = second, first, OPPOSITE[relation]
    wordings = RELATION_WORDINGS[relation]
    return f"{first} {wordings[0] if chance(dice, 0.5) else pick(dice, wordings)} {second}"
