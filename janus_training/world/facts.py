"""What a text states or a scene shows, as comparable values: mentions of things, their relation, the ground.

The meeting point of pictures and words: captions are worded from facts, texts are parsed into facts, and
drawings are judged against them. Knows nothing of pixels or wordings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .compositions import Sort
from .scenes import Scene, Thing, place_of
from .vocabulary import OPPOSITE, Colour, GroundColour, Place, Relation, Shape, Size


@dataclass(frozen=True, kw_only=True)
class Mention:
    """One noun phrase: some equal things, their size and place if stated."""

    count: int
    colour: Colour
    shape: Shape
    size: Size | None = None
    place: Place | None = None

    @property
    def sort(self) -> Sort:
        """Colour and shape."""
        return self.colour, self.shape


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that a text states about a picture.

    Attributes:
        mentions: the noun phrases in the text's order.
        relation: how the first of two mentions stands to the second, if stated.
        ground: the background's colour, if stated.
    """

    mentions: tuple[Mention, ...]
    relation: Relation | None = None
    ground: GroundColour | None = None

    def counts(self) -> Counter[Sort]:
        """Return how many things of each colour and shape are stated."""
        total: Counter[Sort] = Counter()
        for mention in self.mentions:
            total[mention.sort] += mention.count
        return total

    def turned(self) -> Facts:
        """Return the same facts with the left, upper or inner thing first."""
        if self.relation not in ("right of", "below"):
            return self
        return replace(self, mentions=self.mentions[::-1], relation=OPPOSITE[self.relation])


def mention_group(group: tuple[Thing, ...], is_placed: bool) -> Mention:
    """Describe things of equal colour and shape: their common size, and if asked a single one's place."""
    first = group[0]
    return Mention(
        count=len(group),
        colour=first.colour,
        shape=first.shape,
        size=first.size if len({thing.size for thing in group}) == 1 else None,
        place=place_of(first) if is_placed and len(group) == 1 else None,
    )


def facts_of(scene: Scene) -> Facts:
    """Return all facts of a scene. Things one inside the other have no places: the relation says it."""
    relation = scene.relation
    mentions = tuple(mention_group(group, is_placed=relation != "inside") for group in scene.groups)
    return Facts(mentions=mentions, relation=relation, ground=scene.ground.colour)


def only_names(mentions: Iterable[Mention]) -> tuple[Mention, ...]:
    """Drop sizes and places: what remains is count, colour and shape."""
    return tuple(replace(mention, size=None, place=None) for mention in mentions)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which parts of a text are right.

    Attributes:
        things: colours, shapes and counts are complete and right.
        relation: the relation is stated where it is due, and right.
        details: every size, place and ground that is stated is right.
    """

    things: bool
    relation: bool
    details: bool

    @property
    def is_exact(self) -> bool:
        """Colour, shape, count and relation are all right."""
        return self.things and self.relation


def judge(stated: Facts | None, true: Facts, is_relation_due: bool = True) -> Verdict:
    """Compare what a text states with the truth.

    Args:
        stated: what the parser found, or None if it could not read the text: then nothing is right.
        true: all facts of the picture.
        is_relation_due: a true relation that the text leaves out counts as wrong.
    """
    if stated is None or stated.counts() != true.counts():
        return Verdict(things=False, relation=False, details=False)
    stated, true = stated.turned(), true.turned()
    if stated.relation is None:
        is_related = true.relation is None or not is_relation_due
    else:
        first_two = [mention.sort for mention in stated.mentions] == [
            mention.sort for mention in true.mentions
        ]
        is_related = first_two and stated.relation == true.relation
    return Verdict(things=True, relation=is_related, details=_are_details_right(stated, true))


def _are_details_right(stated: Facts, true: Facts) -> bool:
    truth = {mention.sort: mention for mention in true.mentions}
    for mention in stated.mentions:
        known = truth[mention.sort]
        if mention.size not in (None, known.size) or mention.place not in (
            None,
            known.place or mention.place,
        ):
            return False
    return stated.ground in (None, true.ground)
