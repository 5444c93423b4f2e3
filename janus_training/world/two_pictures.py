"""Questions about two pictures shown together: which of them has something, and what one of them shows."""

from __future__ import annotations

from collections.abc import Callable

from .answers import Question, ask
from .captions import short_caption
from .dice import Dice, new_dice, pick, shuffled
from .facts import facts_of
from .phrases import with_article
from .scenes import Scene, Thing

_WHICH = (
    "Which picture has {it}?",
    "Which picture has {it}?",
    "Which image has {it}?",
    "Which picture shows {it}?",
    "In which picture is {it}?",
)
_CONTENT = (
    "What is in the {order} picture?",
    "What is in the {order} image?",
    "What does the {order} picture show?",
)
_ORDERS = ("first", "second")
_ANSWERS = {
    (True, False): ("The first picture.", "the first", "the first one", "picture 1", "first"),
    (False, True): ("The second picture.", "the second", "the second one", "picture 2", "second"),
    (True, True): ("Both pictures.", "both", "both of them"),
}


def questions_about_two(first: Scene, second: Scene, seed: int) -> list[Question]:
    """Ask which picture has something three times over, and what each of them shows, in random order."""
    dice = new_dice("two pictures", seed)
    which = [_ask_which((first, second), dice) for _ in range(3)]
    contents = [
        ask("content", pick(dice, _CONTENT).format(order=order), short_caption(facts_of(scene)))
        for order, scene in zip(_ORDERS, (first, second), strict=True)
    ]
    return shuffled(dice, [*which, *contents])


def _ask_which(scenes: tuple[Scene, Scene], dice: Dice) -> Question:
    """Ask for something that one of the two has: a shape, a colour, or both together."""
    thing = pick(dice, pick(dice, scenes).things)
    noun, is_it = pick(dice, _descriptions(thing))
    in_first, in_second = (any(map(is_it, scene.things)) for scene in scenes)
    answer, *others = _ANSWERS[in_first, in_second]
    return ask("which", pick(dice, _WHICH).format(it=with_article(noun)), answer, *others)


def _descriptions(thing: Thing) -> tuple[tuple[str, Callable[[Thing], bool]], ...]:
    colour, shape = thing.colour, thing.shape
    return (
        (shape, lambda other: other.shape == shape),
        (f"{colour} object", lambda other: other.colour == colour),
        (f"{colour} {shape}", lambda other: (other.colour, other.shape) == (colour, shape)),
    )
