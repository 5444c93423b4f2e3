"""Open questions about a scene: colour, shape, size, number, place, relation, ground, content, absence.

Each builder asks only what has exactly one answer in the given scene, and returns None where it can ask
nothing.
"""

from __future__ import annotations

from .answers import Question, ask
from .captions import short_caption
from .dice import Dice, chance, pick
from .facts import Mention, facts_of
from .phrases import sentence, with_article
from .referring import (
    absent_sorts,
    clear_pair,
    either_order,
    is_only_colour,
    is_only_shape,
    is_or_are,
    refer,
    short_name,
)
from .scenes import Scene, relation_between
from .vocabulary import (
    NUMBER_WORDS,
    PLACE_PHRASE,
    PLURAL,
    RELATION_WORDINGS,
    SIZE_WORDINGS,
    Place,
    Relation,
)

_COLOUR = (
    "What colour {is_} the {noun}?",
    "Which colour {is_} the {noun}?",
    "What color {is_} the {noun}?",
    "What is the colour of the {noun}?",
    "Tell me the colour of the {noun}.",
)
_SHAPE = (
    "What shape {is_} the {colour} {object}?",
    "Which shape {is_} the {colour} {object}?",
    "What {is_} the {colour} {object}?",
    "Tell me the shape of the {colour} {object}.",
)
_SIZE = ("How big {is_} the {noun}?", "How large {is_} the {noun}?", "What size {is_} the {noun}?")
_COUNT = (
    "How many {nouns} are there?",
    "How many {nouns} are in the picture?",
    "How many {nouns} do you see?",
    "How many {nouns} does the image show?",
    "Count the {nouns}.",
)
_WHERE = (
    "Where is the {noun}?",
    "Where in the picture is the {noun}?",
    "In which part of the picture is the {noun}?",
    "Where can I find the {noun}?",
)
_RELATION = (
    "Where is the {first} relative to the {second}?",
    "Where is the {first} in relation to the {second}?",
    "Where is the {first}, seen from the {second}?",
    "How does the {first} stand to the {second}?",
)
_WHAT_IS = ("What is {relation} the {second}?", "Which object is {relation} the {second}?")
_GROUND = (
    "What colour is the background?",
    "What color is the background?",
    "Which colour is the ground?",
    "What is the background colour?",
)
_CONTENT = (
    "What is in the picture?",
    "What is in the picture?",
    "What is in this image?",
    "What do you see?",
    "What can you see in this picture?",
    "What does the picture show?",
    "What is this?",
)
_ABSENT = ("Where is the {noun}?", "How big is the {noun}?", "What size is the {noun}?")
_OBJECTS = ("object", "thing")
_CORNERS: tuple[Place, ...] = ("top left", "top right", "bottom left", "bottom right")


def ask_colour(scene: Scene, dice: Dice) -> Question | None:
    """Ask for the colour of a shape."""
    facts = facts_of(scene)
    known = [mention for mention in facts.mentions if is_only_shape(mention, facts)]
    if not known:
        return None
    mention = pick(dice, known)
    noun = mention.shape if mention.count == 1 else PLURAL[mention.shape]
    question = pick(dice, _COLOUR).format(is_=is_or_are(mention), noun=noun)
    said = f"the {noun} {is_or_are(mention)} {mention.colour}"
    return ask(
        "colour", question, sentence(mention.colour), said, short_name(mention), f"it is {mention.colour}"
    )


def ask_shape(scene: Scene, dice: Dice) -> Question | None:
    """Ask for the shape of what has a colour."""
    facts = facts_of(scene)
    known = [mention for mention in facts.mentions if is_only_colour(mention, facts)]
    if not known:
        return None
    mention = pick(dice, known)
    thing = pick(dice, _OBJECTS) + ("s" if mention.count > 1 else "")
    question = pick(dice, _SHAPE).format(is_=is_or_are(mention), colour=mention.colour, object=thing)
    singular, plural = mention.shape, PLURAL[mention.shape]
    answer = sentence(with_article(singular) if mention.count == 1 else plural)
    named = short_name(mention)
    return ask("shape", question, answer, singular, plural, f"a {singular}", named, with_article(named))


def ask_size(scene: Scene, dice: Dice) -> Question | None:
    """Ask for the size of something."""
    facts = facts_of(scene)
    known = [mention for mention in facts.mentions if mention.size]
    if not known:
        return None
    mention = pick(dice, known)
    question = pick(dice, _SIZE).format(is_=is_or_are(mention), noun=refer(dice, mention, facts))
    wordings = SIZE_WORDINGS[mention.size or "small"]
    return ask("size", question, sentence(wordings[0]), *wordings, f"it is {wordings[0]}")


def ask_count(scene: Scene, dice: Dice) -> Question:
    """Ask for the number of all things, or those of a shape, colour or sort; now and then an absent one."""
    facts = facts_of(scene)
    mention = pick(dice, facts.mentions)
    colour, shape = pick(dice, absent_sorts(facts)) if chance(dice, 0.15) else mention.sort
    thing = f"{pick(dice, _OBJECTS)}s"
    nouns, count = pick(
        dice,
        (
            (thing, len(scene.things)),
            (PLURAL[shape], sum(other.shape == shape for other in scene.things)),
            (f"{colour} {thing}", sum(other.colour == colour for other in scene.things)),
            (f"{colour} {PLURAL[shape]}", facts.counts()[colour, shape]),
        ),
    )
    word = NUMBER_WORDS[count]
    others = (str(count), f"{word} {nouns}", f"there are {word} {nouns}")
    none = () if count else ("none", "no", f"no {nouns}", f"there are no {nouns}")
    return ask("count", pick(dice, _COUNT).format(nouns=nouns), sentence(word), *others, *none)


def ask_where(scene: Scene, dice: Dice) -> Question | None:
    """Ask in which part of the picture something is, or in what."""
    facts = facts_of(scene)
    known = [mention for mention in facts.mentions if mention.count == 1]
    if not known:
        return None
    mention = pick(dice, known)
    question = pick(dice, _WHERE).format(noun=refer(dice, mention, facts))
    if scene.relation == "inside" and mention is facts.mentions[0]:
        return ask(
            "where",
            question,
            sentence(f"inside the {short_name(facts.mentions[1])}"),
            "in the centre",
            "inside",
        )
    place = mention.place or "centre"
    corner = [f"in the {place} corner"] if place in _CORNERS else []
    phrase = PLACE_PHRASE[place]
    return ask(
        "where", question, sentence(phrase), place, f"it is {phrase}", f"{phrase} of the picture", *corner
    )


def ask_relation(scene: Scene, dice: Dice) -> Question | None:
    """Ask how one thing stands to another, or, in a pair, what stands so."""
    pair = clear_pair(dice, scene)
    if pair is None:
        return None
    pair = either_order(dice, pair)
    facts, relation = facts_of(scene), relation_between(*pair)
    first, second = (
        next(mention for mention in facts.mentions if mention.sort == (thing.colour, thing.shape))
        for thing in pair
    )
    if scene.kind == "pair" and chance(dice, 0.4):
        question = pick(dice, _WHAT_IS).format(relation=relation, second=refer(dice, second, facts))
        answer = short_name(first)
        return ask("relation", question, sentence(with_article(answer)), answer, f"the {answer}", first.shape)
    names = {"first": refer(dice, first, facts), "second": refer(dice, second, facts)}
    return _relation_question(pick(dice, _RELATION).format(**names), relation, second)


def _relation_question(question: str, relation: Relation, second: Mention) -> Question:
    wordings = RELATION_WORDINGS[relation]
    ends = ("", " it", f" the {short_name(second)}", f" the {second.shape}")
    others = [start + wording + end for start in ("", "it is ") for wording in wordings for end in ends]
    return ask("relation", question, sentence(f"{relation} the {short_name(second)}"), *others)


def ask_ground(scene: Scene, dice: Dice) -> Question:
    """Ask for the background's colour."""
    colour = scene.ground.colour
    return ask(
        "ground", pick(dice, _GROUND), sentence(colour), f"it is {colour}", f"the background is {colour}"
    )


def ask_content(scene: Scene, dice: Dice) -> Question:
    """Ask what is in the picture; any text that states the same is accepted."""
    return ask("content", pick(dice, _CONTENT), short_caption(facts_of(scene)))


def ask_absent(scene: Scene, dice: Dice) -> Question:
    """Ask about a shape of the world that the picture does not show."""
    facts = facts_of(scene)
    colour, shape = pick(dice, absent_sorts(facts))
    if shape not in [mention.shape for mention in facts.mentions] and chance(dice, 0.5):
        return ask(
            "absent", pick(dice, _COLOUR).format(is_="is", noun=shape), f"There is no {shape}.", "none"
        )
    noun = f"{colour} {shape}"
    return ask("absent", pick(dice, _ABSENT).format(noun=noun), f"There is no {noun}.", "none")
