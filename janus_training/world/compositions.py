"""The split by composition: which combinations of what the world knows only the test shows.

A scene belongs to the test if it holds at least one held-out combination; training never shows any of them,
in pictures or in words. One combination in ten is held out, by a hash of its name, so the split needs no
list, no seed and no agreement between machines. Every colour, shape, size, place, count and relation by
itself is seen in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from typing import Literal, get_args

from .scenes import Scene, Thing, place_of, relation_between
from .vocabulary import COLOURS, OPPOSITE, PLACES, SHAPES, SIZES, Colour, Place, Relation, Shape, Size

Combination = Literal["relation", "place", "thing", "count"]
"""What can be held out: two sorts in a relation, a sort at a place, a sort of a size, a number of a sort."""

COMBINATIONS: tuple[Combination, ...] = get_args(Combination)

_ONE_IN = 10
# Of the salts up to 1,500 the one that spreads held-out things, places, counts most evenly over the words.
_SALT = 1158
_RELATIONS: tuple[Relation, ...] = ("left of", "above", "inside")
Sort = tuple[Colour, Shape]


def thing_key(size: Size, colour: Colour, shape: Shape) -> str:
    """Name one object, for example "thing large red circle"."""
    return f"thing {size} {colour} {shape}"


def place_key(colour: Colour, shape: Shape, place: Place) -> str:
    """Name one object where it is, for example "place red circle top left"."""
    return f"place {colour} {shape} {place}"


def count_key(count: int, colour: Colour, shape: Shape) -> str:
    """Name a number of equal objects, for example "count 3 red circle"."""
    return f"count {count} {colour} {shape}"


def relation_key(first: Sort, relation: Relation, second: Sort) -> str:
    """Name a relation so that "A right of B" and "B left of A" are the same combination."""
    if relation in ("right of", "below"):
        first, relation, second = second, OPPOSITE[relation], first
    return f"relation {first[0]} {first[1]} {relation} {second[0]} {second[1]}"


@cache
def is_held_out(key: str) -> bool:
    """Return True if only the test may show the combination with this name."""
    digest = hashlib.sha256(f"{_SALT} {key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % _ONE_IN == 0


def all_keys(combination: Combination) -> Iterator[str]:
    """Name every combination of a kind that the world knows, held out or not."""
    sorts = list(product(COLOURS, SHAPES))
    if combination == "relation":
        for first, second, relation in product(sorts, sorts, _RELATIONS):
            if first != second and (relation != "inside" or first[0] != second[0]):
                yield relation_key(first, relation, second)
    elif combination == "place":
        yield from (place_key(*sort, place) for sort, place in product(sorts, PLACES))
    elif combination == "thing":
        yield from (thing_key(size, *sort) for sort, size in product(sorts, SIZES))
    else:
        yield from (count_key(count, *sort) for sort, count in product(sorts, (2, 3, 4)))


def _pair_key(first: Thing, second: Thing) -> str:
    if relation_between(second, first) == "inside":
        first, second = second, first
    sorts = (first.colour, first.shape), (second.colour, second.shape)
    return relation_key(sorts[0], relation_between(first, second), sorts[1])


def compositions(scene: Scene) -> frozenset[str]:
    """Name every combination that a scene shows: its things, where they are, counts and relations."""
    keys = {thing_key(thing.size, thing.colour, thing.shape) for thing in scene.things}
    if scene.relation != "inside":  # then the relation says where they are
        keys |= {place_key(thing.colour, thing.shape, place_of(thing)) for thing in scene.things}
    keys |= {
        count_key(len(group), group[0].colour, group[0].shape) for group in scene.groups if len(group) > 1
    }
    for first, second in combinations(scene.things, 2):
        if (first.colour, first.shape) != (second.colour, second.shape):
            keys.add(_pair_key(first, second))
    return frozenset(keys)


def unseen(scene: Scene) -> frozenset[str]:
    """Name every combination in a scene that training never shows."""
    return frozenset(filter(is_held_out, compositions(scene)))


def is_test_composition(scene: Scene) -> bool:
    """Return True if the scene shows a combination that training never shows."""
    return any(map(is_held_out, compositions(scene)))


def is_unseen_by_size_alone(scene: Scene) -> bool:
    """Return True if whoever leaves sizes out of account has seen all that a scene of the test shows."""
    return all(key.startswith("thing ") for key in unseen(scene))
