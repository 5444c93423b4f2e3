"""The split by composition: which combinations of shape, colour, size, count, relation only the test shows.

A scene belongs to the test if it holds at least one held-out combination; training never shows any of them,
in pictures or in words. One combination in ten is held out, by a hash of its name, so the split needs no
list, no seed and no agreement between machines. Every colour, shape, size, count and relation by itself is
seen in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations

from .scenes import Scene, Thing, relation_between
from .vocabulary import OPPOSITE, Colour, Relation, Shape, Size

_ONE_IN = 10
# Of the salts up to 3,000 the one that spreads the held-out things and counts most evenly over the words.
_SALT = 756
Sort = tuple[Colour, Shape]


def thing_key(size: Size, colour: Colour, shape: Shape) -> str:
    """Name one object, for example "thing large red circle"."""
    return f"thing {size} {colour} {shape}"


def count_key(count: int, colour: Colour, shape: Shape) -> str:
    """Name a number of equal objects, for example "count 3 red circle"."""
    return f"count {count} {colour} {shape}"


def relation_key(first: Sort, relation: Relation, second: Sort) -> str:
    """Name a relation so that "A right of B" and "B left of A" are the same combination."""
    if relation in ("right of", "below"):
        first, relation, second = second, OPPOSITE[relation], first
    return f"relation {first[0]} {first[1]} {relation} {second[0]} {second[1]}"


def mixture_key(sorts: Sequence[Sort]) -> str:
    """Name three or four objects of several sorts, whatever their order."""
    return "mixture " + ", ".join(sorted(f"{colour} {shape}" for colour, shape in sorts))


def is_held_out(key: str) -> bool:
    """Return True if only the test may show the combination with this name."""
    digest = hashlib.sha256(f"{_SALT} {key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % _ONE_IN == 0


def _pair_key(first: Thing, second: Thing) -> str:
    if relation_between(second, first) == "inside":
        first, second = second, first
    sorts = (first.colour, first.shape), (second.colour, second.shape)
    return relation_key(sorts[0], relation_between(first, second), sorts[1])


def compositions(scene: Scene) -> frozenset[str]:
    """Name every combination that a scene shows: its things, counts, relations and mixture."""
    keys = {thing_key(thing.size, thing.colour, thing.shape) for thing in scene.things}
    keys |= {
        count_key(len(group), group[0].colour, group[0].shape) for group in scene.groups if len(group) > 1
    }
    for first, second in combinations(scene.things, 2):
        if (first.colour, first.shape) != (second.colour, second.shape):
            keys.add(_pair_key(first, second))
    if scene.kind == "mixed":
        keys.add(mixture_key([(thing.colour, thing.shape) for thing in scene.things]))
    return frozenset(keys)


def unseen(scene: Scene) -> frozenset[str]:
    """Name every combination in a scene that training never shows."""
    return frozenset(filter(is_held_out, compositions(scene)))


def is_test_composition(scene: Scene) -> bool:
    """Return True if the scene shows a combination that training never shows."""
    return bool(unseen(scene))


def is_unseen_by_size_alone(scene: Scene) -> bool:
    """Return True if whoever leaves sizes out of account has seen all that a scene of the test shows."""
    return all(key.startswith("thing ") for key in unseen(scene))
