"""Texts back into facts: reads every wording this world writes, and refuses what it cannot read to the end.

A strict reader makes an honest judge: a caption with one foreign word counts as wrong, not as nearly right.
"""

from __future__ import annotations

import re
from dataclasses import replace

from .facts import Facts, Mention
from .vocabulary import (
    COLOURS,
    GROUND_COLOURS,
    NUMBER_WORDS,
    PLACE_PHRASE,
    PLURAL,
    RELATION_WORDINGS,
    SHAPES,
    SIZE_WORDINGS,
    Relation,
)

_AMERICAN = {"color": "colour", "colors": "colours", "gray": "grey", "center": "centre"}

_COLOUR_OF = {colour: colour for colour in COLOURS}
_GROUND_OF = {colour: colour for colour in GROUND_COLOURS}
_SHAPE_OF = {word: shape for shape in SHAPES for word in (shape, PLURAL[shape])}
_SIZE_OF = {word: size for size, words in SIZE_WORDINGS.items() for word in words}
_PLACE_OF = {phrase: place for place, phrase in PLACE_PHRASE.items()}
_RELATION_OF = {word: relation for relation, words in RELATION_WORDINGS.items() for word in words}
_COUNT_OF = {"a": 1, "an": 1, "the": 1} | {word: n for n, word in enumerate(NUMBER_WORDS)}
_COUNT_OF |= {str(count): count for count in range(1, len(NUMBER_WORDS))}


def _any_of(words: dict[str, object] | list[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_LEAD_IN = re.compile(
    r"(?:please |can you |could you |i want |i would like |i see |it shows |this is |there (?:is|are) )*"
    r"(?:(?:to )?(?:draw|paint|make|create|generate|show|sketch)(?: me)? )?"
    r"(?:(?:an?|the|this) (?:picture|image|drawing|painting) (?:of|with|shows|contains) )?"
)
_TAIL = re.compile(r"[ ,.?!]*(?:please)?[ .?!]*$")
_GROUND_WORDS = "|".join(GROUND_COLOURS)
_GROUND_TAIL = re.compile(rf",? (?:(?:on|against) an? )?({_GROUND_WORDS}) background$")
_GROUND_SENTENCE = re.compile(rf"the background is ({_GROUND_WORDS})")
_RELATION = re.compile(rf"(.+?) (is |are )?({_any_of([*_RELATION_OF])}) (.+)")
_AROUND = re.compile(r"(.+?) (?:with|around|containing) (.+?)(?: inside| inside it| in it)?")
_MENTION = re.compile(
    rf"(?:({_any_of([*_COUNT_OF])}) )?(?:({_any_of([*_SIZE_OF])}) )?({_any_of([*_COLOUR_OF])}) "
    rf"({_any_of([*_SHAPE_OF])})(?: ({_any_of([*_PLACE_OF])}))?"
)


def normalise(text: str) -> str:
    """Return a text in lower case and British spelling, without surplus blanks or closing punctuation."""
    words = _TAIL.sub("", " ".join(text.lower().split())).split(" ")
    return " ".join(_AMERICAN.get(word, word) for word in words)


def caption_facts(text: str) -> Facts | None:
    """Read a caption or drawing prompt of the world.

    Returns: what it states, or None if any part of it is not understood or contradicts another.
    """
    facts: Facts | None = None
    for sentence in normalise(text).split(". "):
        if facts is None:
            facts = _read_main(_LEAD_IN.sub("", sentence, count=1))
        else:
            facts = _read_addition(sentence, facts)
        if facts is None:
            return None
    return facts


def _read_main(text: str) -> Facts | None:
    """Read the sentence that names the things."""
    tail = _GROUND_TAIL.search(text)
    if tail is not None:
        facts = _read_main(text[: tail.start()])
        return facts and replace(facts, ground=_GROUND_OF[tail[1]])  # type: ignore[index]
    return _read_relation(text) or _read_list(text)


def _read_list(text: str) -> Facts | None:
    mentions = [_read_mention(part) for part in re.split(r",? and |, ", text)]
    known = tuple(mention for mention in mentions if mention is not None)
    return Facts(mentions=known) if len(known) == len(mentions) else None


def _read_relation(text: str) -> Facts | None:
    """Read "X above Y" or "Y with X inside"."""
    found = _RELATION.fullmatch(text)
    if found is not None:
        facts = _related(found[1], _RELATION_OF[found[3]], found[4])
        if facts is not None:
            return facts
    found = _AROUND.fullmatch(text)
    return None if found is None else _related(found[2], "inside", found[1])


def _related(first: str, relation: Relation, second: str) -> Facts | None:
    mentions = _read_mention(first), _read_mention(second)
    if mentions[0] is None or mentions[1] is None:
        return None
    return Facts(mentions=(mentions[0], mentions[1]), relation=relation)


def _read_mention(text: str) -> Mention | None:
    found = _MENTION.fullmatch(text)
    if found is None or (found[1] is None and found[4] not in SHAPES):
        return None  # a plural without a number leaves the count open
    return Mention(
        count=_COUNT_OF[found[1] or "a"],
        colour=_COLOUR_OF[found[3]],  # type: ignore[index]
        shape=_SHAPE_OF[found[4]],
        size=_SIZE_OF.get(found[2]),
        place=_PLACE_OF.get(found[5]),
    )


def _read_addition(sentence: str, facts: Facts) -> Facts | None:
    """Read a further sentence: the ground, or the relation of the things named before."""
    ground = _GROUND_SENTENCE.fullmatch(sentence)
    if ground is not None:
        return None if facts.ground else replace(facts, ground=_GROUND_OF[ground[1]])  # type: ignore[index]
    stated = _read_relation(sentence)
    if stated is None or facts.relation or stated.ground:
        return None
    sorts = [mention.sort for mention in stated.mentions]
    for mentions in (facts.mentions, facts.mentions[::-1]):
        if [mention.sort for mention in mentions] == sorts:
            return replace(facts, mentions=mentions, relation=stated.relation)
    return None
