"""Questions about two pictures shown together: which of them has something, and what one of them shows."""

from __future__ import annotations

from collections.abc import Callable

from .answers import Question, ask
from .captions import short_caption
from .dice import Dice, new_dice, pick, shuffled
from .facts import facts_of
from .phrases import listed, with_article
from .scenes import Scene, Thing
from .vocabulary import COLOURS, SHAPES

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
    (True, False): ("the first picture", "the first", "the first one", "picture 1", "first"),
    (False, True): ("the second picture", "the second", "the second one", "picture 2", "second"),
    (True, True): ("both pictures", "both", "both of them"),
}


def questions_about_two(first: Scene, second: Scene, seed: int, count: int = 3) -> list[Question]:
    """Ask which picture has something `count` times over, and what each of them shows, in random order."""
    dice = new_dice("two pictures", seed)
    which = [_ask_which((first, second), dice) for _ in range(count)]
    contents = [
        ask("content", pick(dice, _CONTENT).format(order=order), short_caption(facts_of(scene)))
        for order, scene in zip(_ORDERS, (first, second), strict=True)
    ]
    return shuffled(dice, [*which, *contents])


def _ask_which(scenes: tuple[Scene, Scene], dice: Dice) -> Question:
    """Ask for something that one of the two has: a shape, a colour, or both together; tell what both have."""
    thing = pick(dice, pick(dice, scenes).things)
    noun, is_it, tell = pick(dice, _descriptions(thing))
    in_first, in_second = (any(map(is_it, scene.things)) for scene in scenes)
    verdict, *others = _ANSWERS[in_first, in_second]
    answer = f"The first has {tell(scenes[0])}, the second {tell(scenes[1])}: {verdict}."
    return ask("which", pick(dice, _WHICH).format(it=with_article(noun)), answer, verdict, *others)


_Description = tuple[str, Callable[[Thing], bool], Callable[[Scene], str]]


def _descriptions(thing: Thing) -> tuple[_Description, ...]:
    colour, shape = thing.colour, thing.shape

    def has_shape(other: Thing) -> bool:
        return other.shape == shape

    def has_colour(other: Thing) -> bool:
        return other.colour == colour

    def tell_one(scene: Scene) -> str:
        return "one" if any(map(has_shape, scene.things)) else "none"

    def tell_shapes(scene: Scene) -> str:
        shown = {other.shape for other in scene.things if has_colour(other)}
        return listed([with_article(name) for name in SHAPES if name in shown] or ["none"])

    def tell_colours(scene: Scene) -> str:
        shown = {other.colour for other in scene.things if has_shape(other)}
        return listed([with_article(f"{name} one") for name in COLOURS if name in shown] or ["none"])

    return (
        (shape, has_shape, tell_one),
        (f"{colour} object", has_colour, tell_shapes),
        (f"{colour} {shape}", lambda other: has_shape(other) and has_colour(other), tell_colours),
    )
