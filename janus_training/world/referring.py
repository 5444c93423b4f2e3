"""How questions point at things: unmistakable names, what is absent, and pairs in a clear relation."""

from __future__ import annotations

from itertools import pairwise, product

from .compositions import Sort
from .dice import Dice, chance, shuffled
from .facts import Facts, Mention, only_names
from .phrases import name
from .scenes import Scene, Thing, is_clear, relation_between
from .vocabulary import COLOURS, PLURAL, SHAPES


def is_or_are(mention: Mention) -> str:
    """Return the verb for a mention."""
    return "is" if mention.count == 1 else "are"


def is_only_shape(mention: Mention, facts: Facts) -> bool:
    """Return True if no other mention has this shape."""
    return [other.shape for other in facts.mentions].count(mention.shape) == 1


def is_only_colour(mention: Mention, facts: Facts) -> bool:
    """Return True if no other mention has this colour."""
    return [other.colour for other in facts.mentions].count(mention.colour) == 1


def short_name(mention: Mention) -> str:
    """Return colour and shape alone, in the plural where due."""
    return name(only_names([mention])[0])


def refer(dice: Dice, mention: Mention, facts: Facts) -> str:
    """Name a mention unmistakably: by colour and shape, or now and then by its shape if that is enough."""
    if is_only_shape(mention, facts) and chance(dice, 0.25):
        return mention.shape if mention.count == 1 else PLURAL[mention.shape]
    return short_name(mention)


def absent_sorts(facts: Facts) -> list[Sort]:
    """Return what is not in the picture: first what shares a colour or a shape with something that is."""
    present = {mention.sort for mention in facts.mentions}
    absent = [sort for sort in product(COLOURS, SHAPES) if sort not in present]
    colours, shapes = zip(*present, strict=True)
    return sorted(absent, key=lambda sort: sort[0] not in colours and sort[1] not in shapes)


def clear_pair(dice: Dice, scene: Scene) -> tuple[Thing, Thing] | None:
    """Choose two things that stand alone in their sort and in a clear relation, an inner one first."""
    loners = [group[0] for group in scene.groups if len(group) == 1]
    order = shuffled(dice, loners)
    for first, second in pairwise(order):
        if is_clear(first, second):
            return (second, first) if relation_between(second, first) == "inside" else (first, second)
    return None


def either_order(dice: Dice, pair: tuple[Thing, Thing]) -> tuple[Thing, Thing]:
    """Look at a pair from either side; only from the inner one where one lies inside the other."""
    if relation_between(*pair) == "inside" or chance(dice, 0.5):
        return pair
    return pair[1], pair[0]
