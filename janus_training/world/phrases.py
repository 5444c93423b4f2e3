"""Facts as pieces of English: noun phrases, lists, sentences. Knows nothing of styles or questions."""

from __future__ import annotations

from collections.abc import Sequence

from .facts import Mention
from .vocabulary import NUMBER_WORDS, PLACE_PHRASE, PLURAL

_VOWELS = "aeiou"


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun phrase."""
    return f"{'an' if noun[0] in _VOWELS else 'a'} {noun}"


def name(mention: Mention) -> str:
    """Return the bare noun phrase: "large red circle" or "red circles"."""
    noun = mention.shape if mention.count == 1 else PLURAL[mention.shape]
    return " ".join(filter(None, (mention.size, mention.colour, noun)))


def counted(mention: Mention) -> str:
    """Return the noun phrase with its number and place: "a red circle at the top", "three red circles"."""
    bare = name(mention)
    phrase = with_article(bare) if mention.count == 1 else f"{NUMBER_WORDS[mention.count]} {bare}"
    return phrase if mention.place is None else f"{phrase} {PLACE_PHRASE[mention.place]}"


def listed(phrases: Sequence[str]) -> str:
    """Join phrases: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def sentence(text: str) -> str:
    """Give a text a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
