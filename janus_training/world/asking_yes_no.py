"""Yes-or-no questions and comparisons about a scene.

A coin decides whether the true answer is to be yes, so that the words of a question betray nothing. What a
false question supposes is never a held-out combination: training would teach that those do not occur. Answers
begin with the fact that decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations

from .answers import Question, ask, decide
from .compositions import is_held_out, relation_key, thing_key
from .dice import Dice, chance, pick, shuffled
from .facts import Facts, Mention, facts_of
from .phrases import listed, with_article
from .referring import (
    absent_sorts,
    clear_pair,
    either_order,
    is_only_shape,
    is_or_are,
    refer,
    short_name,
)
from .scenes import Scene, Thing, relation_between
from .vocabulary import (
    COLOURS,
    GROUND_COLOURS,
    NUMBER_WORDS,
    OPPOSITE,
    PLURAL,
    RELATIONS,
    SHAPES,
    SIZES,
    Colour,
    Relation,
    Shape,
)

_IS_THERE = ("Is there {}?", "Is there {} in the picture?", "Do you see {}?", "Can you see {}?")
_ARE_THERE = ("Are there {}?", "Are there exactly {}?", "Do you see {}?")
_LARGER = (
    "Which is larger, the {} or the {}?",
    "Which one is bigger, the {} or the {}?",
    "Is the {} or the {} larger?",
)
_SMALLER = ("Which is smaller, the {} or the {}?", "Is the {} or the {} smaller?")
_ALL_SAME = ("Do {} objects have the same {}?", "Are {} objects of the same {}?")
_YES_SHARE_ALL_SAME = 0.6  # few scenes can truly say yes, so the coin leans towards it
_OTHER_COLOURS = ("black", "white", "grey", "brown")

_Builder = Callable[[Scene, Facts, Dice, bool], Question | None]


def ask_yes_no(scene: Scene, dice: Dice) -> Question:
    """Ask whether something is there or is so; the answer is yes half the time."""
    facts, is_yes = facts_of(scene), chance(dice, 0.5)
    builders: list[_Builder] = [
        _is_sort_there,
        _is_relation,
        _is_colour,
        _is_shape_there,
        _is_count,
        _is_size,
        _is_ground,
    ]
    for builder in shuffled(dice, builders):
        question = builder(scene, facts, dice, is_yes)
        if question is not None:
            return question
    raise AssertionError("the ground's colour can always be asked for")


def _is_sort_there(scene: Scene, facts: Facts, dice: Dice, is_yes: bool) -> Question:
    """Suppose an object; a false one mostly shares its colour or shape with a true one."""
    absent = absent_sorts(facts)
    near = absent[: len(absent) // 2] if chance(dice, 0.7) else absent
    colour, shape = pick(dice, facts.mentions).sort if is_yes else pick(dice, near)
    foreign = pick(dice, _OTHER_COLOURS) if not is_yes and chance(dice, 0.1) else colour
    question = pick(dice, _IS_THERE).format(with_article(f"{foreign} {shape}"))
    return decide("yes_no", question, colours_of(facts, shape), is_yes)


def colours_of(facts: Facts, shape: Shape) -> str:
    """State the colours of a shape: "the circles are red and blue" or "there is no circle"."""
    mentions = [mention for mention in facts.mentions if mention.shape == shape]
    if not mentions:
        return f"there is no {shape}"
    is_one = sum(mention.count for mention in mentions) == 1
    colours = listed(sorted((mention.colour for mention in mentions), key=COLOURS.index))
    return f"the {shape} is {colours}" if is_one else f"the {PLURAL[shape]} are {colours}"


def _is_shape_there(scene: Scene, facts: Facts, dice: Dice, is_yes: bool) -> Question:
    shapes = {mention.shape for mention in facts.mentions}
    shape = pick(dice, [shape for shape in SHAPES if (shape in shapes) == is_yes])
    fact = f"there is {with_article(shape) if is_yes else f'no {shape}'}"
    return decide("yes_no", pick(dice, _IS_THERE).format(with_article(shape)), fact, is_yes)


def _is_colour(scene: Scene, facts: Facts, dice: Dice, is_yes: bool) -> Question | None:
    known = [mention for mention in facts.mentions if is_only_shape(mention, facts)]
    if not known:
        return None
    mention = pick(dice, known)
    colour = (
        mention.colour if is_yes else pick(dice, [colour for colour in COLOURS if colour != mention.colour])
    )
    return _ask_for_colour("yes_no", mention, colour)


def _ask_for_colour(kind: str, mention: Mention, colour: Colour) -> Question:
    noun = mention.shape if mention.count == 1 else PLURAL[mention.shape]
    question = f"{is_or_are(mention).capitalize()} the {noun} {colour}?"
    return decide(kind, question, f"{_it_is(mention)} {mention.colour}", colour == mention.colour)


def _it_is(mention: Mention) -> str:
    return "it is" if mention.count == 1 else "they are"


def _is_count(scene: Scene, facts: Facts, dice: Dice, is_yes: bool) -> Question | None:
    """Suppose a number, of a shape or of all things (counts of a sort can be held out)."""
    shape = pick(dice, facts.mentions).shape
    nouns, true = pick(
        dice,
        (
            ("objects", len(scene.things)),
            (PLURAL[shape], sum(thing.shape == shape for thing in scene.things)),
        ),
    )
    supposed = true if is_yes else pick(dice, [count for count in (2, 3, 4) if count != true])
    if supposed < 2:
        return None
    question = pick(dice, _ARE_THERE).format(f"{NUMBER_WORDS[supposed]} {nouns}")
    return decide("yes_no", question, f"there {'is' if true == 1 else 'are'} {NUMBER_WORDS[true]}", is_yes)


def _is_size(scene: Scene, facts: Facts, dice: Dice, is_yes: bool) -> Question | None:
    mention = pick(dice, facts.mentions)
    size = mention.size if is_yes else pick(dice, [size for size in SIZES if size != mention.size])
    if mention.size is None or size is None:
        return None
    if not is_yes and is_held_out(thing_key(size, mention.colour, mention.shape)):
        return None
    question = f"{is_or_are(mention).capitalize()} the {refer(dice, mention, facts)} {size}?"
    return decide("yes_no", question, f"{_it_is(mention)} {mention.size}", is_yes)


def _is_ground(scene: Scene, facts: Facts, dice: Dice, is_yes: bool) -> Question:
    true = scene.ground.colour
    colour = true if is_yes else pick(dice, [colour for colour in GROUND_COLOURS if colour != true])
    return decide("yes_no", f"Is the background {colour}?", f"it is {true}", is_yes)


def _is_relation(scene: Scene, facts: Facts, dice: Dice, is_yes: bool) -> Question | None:
    pair = clear_pair(dice, scene)
    if pair is None:
        return None
    first, second = either_order(dice, pair)
    true = relation_between(first, second)
    supposed = true if is_yes else _false_relation(dice, true)
    sorts = [(thing.colour, thing.shape) for thing in (first, second)]
    if not is_yes and is_held_out(relation_key(sorts[0], supposed, sorts[1])):
        return None
    names = [refer(dice, _mention(thing, facts), facts) for thing in (first, second)]
    question = f"Is the {names[0]} {supposed} the {names[1]}?"
    return decide("yes_no", question, f"it is {true} the {names[1]}", is_yes)


def _false_relation(dice: Dice, true: Relation) -> Relation:
    """Choose what surely does not hold; sideways of a true relation may hold a little."""
    if true == "inside":
        return pick(dice, [relation for relation in RELATIONS if relation != "inside"])
    return "inside" if chance(dice, 0.2) else OPPOSITE[true]


def _mention(thing: Thing, facts: Facts) -> Mention:
    return next(mention for mention in facts.mentions if mention.sort == (thing.colour, thing.shape))


def ask_mix_up(scene: Scene, dice: Dice) -> Question | None:
    """Ask of one of several colours whether a thing has it; a false one is that of another thing there."""
    facts = facts_of(scene)
    mixed = [
        (mention, other.colour)
        for mention in facts.mentions
        for other in facts.mentions
        if is_only_shape(mention, facts) and other.colour != mention.colour
    ]
    if not mixed:
        return None
    mention, foreign = pick(dice, mixed)
    return _ask_for_colour("mix_up", mention, mention.colour if chance(dice, 0.5) else foreign)


def ask_comparison(scene: Scene, dice: Dice) -> Question | None:
    """Ask which of two is larger, of which there are more, or whether all share a colour, shape or size."""
    facts = facts_of(scene)
    if len(facts.mentions) == 1:
        return None
    for builder in shuffled(dice, (_which_size, _is_more, _all_same)):
        question = builder(scene, facts, dice)
        if question is not None:
            return question
    return None


def _which_size(scene: Scene, facts: Facts, dice: Dice) -> Question | None:
    loners = [mention for mention in facts.mentions if mention.count == 1 and mention.size]
    pairs = [pair for pair in combinations(loners, 2) if pair[0].size != pair[1].size]
    if not pairs:
        return None
    first, second = shuffled(dice, pick(dice, pairs))
    is_larger = chance(dice, 0.6)
    chosen = (max if is_larger else min)(
        (first, second), key=lambda mention: SIZES.index(mention.size or "small")
    )
    question = pick(dice, _LARGER if is_larger else _SMALLER).format(short_name(first), short_name(second))
    noun = short_name(chosen)
    answer = f"The first is {first.size}, the second {second.size}: the {noun}."
    others = (
        f"the {noun}",
        noun,
        with_article(noun),
        f"the {noun} is {'larger' if is_larger else 'smaller'}",
    )
    return ask("compare", question, answer, *others)


def _is_more(scene: Scene, facts: Facts, dice: Dice) -> Question | None:
    counts = Counter(thing.shape for thing in scene.things)
    pairs = [pair for pair in combinations(counts, 2) if counts[pair[0]] != counts[pair[1]]]
    if not pairs:
        return None
    first, second = shuffled(dice, pick(dice, pairs))
    question = f"Are there more {PLURAL[first]} than {PLURAL[second]}?"
    told = [
        f"{NUMBER_WORDS[counts[shape]]} {shape if counts[shape] == 1 else PLURAL[shape]}"
        for shape in (first, second)
    ]
    verb = "is" if counts[first] == 1 else "are"
    return decide(
        "compare", question, f"there {verb} {told[0]} and {told[1]}", counts[first] > counts[second]
    )


def _all_same(scene: Scene, facts: Facts, dice: Dice) -> Question | None:
    """Ask whether all have one colour, shape or size, if one of these makes the coin's answer true."""
    is_yes = chance(dice, _YES_SHARE_ALL_SAME)
    shown: dict[str, list[str]] = {
        "colour": [colour for colour in COLOURS if any(t.colour == colour for t in scene.things)],
        "shape": [PLURAL[shape] for shape in SHAPES if any(t.shape == shape for t in scene.things)],
        "size": [size for size in SIZES if any(t.size == size for t in scene.things)],
    }
    fitting = [word for word, values in shown.items() if (len(values) == 1) == is_yes]
    if not fitting:
        return None
    word = pick(dice, fitting)
    who = "both" if len(scene.things) == 2 else "all"
    question = pick(dice, _ALL_SAME).format(who, word)
    return decide("compare", question, f"they are {listed(shown[word])}", is_yes)
