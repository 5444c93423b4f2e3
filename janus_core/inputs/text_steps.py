"""Look through the steps of a tokenizer for those that take time or memory without end on an ordinary text.

A `tokenizer.json` comes from strangers, and its patterns and replacements run on every prompt, where nothing
can interrupt them. Those of published models repeat plain classes of letters. Knows nothing of vocabularies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from ..errors import shown

_MOST_GROWTH = 64  # by which replacements may lengthen a text
_MANY = 64  # a repeat of so many counts as one without end
_REPEAT = re.compile(r"[*+]|\{(?P<least>\d*)(?P<open>,?)(?P<most>\d*)\}")
_STEPS = ("normalizer", "pre_tokenizer", "decoder")


def refuse_endless_steps(definition: dict[str, Any]) -> None:
    """Raise ValueError if a step of a parsed `tokenizer.json` can take time or memory without end."""
    for name in _STEPS:
        objects = list(_objects(definition.get(name)))
        for pattern in (found["Regex"] for found in objects if isinstance(found.get("Regex"), str)):
            if repeats_a_repeat(pattern):
                raise ValueError(
                    f"its {name} has the pattern {shown(pattern)}, which can take hours for one line of text"
                )
        growth = math.prod(
            len(text)
            for found in objects
            for text in (found.get("content"), found.get("prepend"))
            if isinstance(text, str) and text
        )
        if growth > _MOST_GROWTH:
            raise ValueError(f"its {name} can make a text {growth:,} times as long")


def _objects(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value; a loop, since it may be nested deeply."""
    waiting = [part]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def repeats_a_repeat(pattern: str) -> bool:
    """Tell whether a pattern repeats a group that repeats or branches itself, such as (a+)+ or (a|b)*.

    Such a pattern tries every way to cut a text into pieces, which are exponentially many.
    """
    branches, at = [False], 0
    while at < len(pattern):
        mark, start = pattern[at], at
        at = _end_of_class(pattern, at) if mark == "[" else at + (2 if mark == "\\" else 1)
        if mark == "(":
            branches.append(False)
            continue
        inner = branches.pop() if mark == ")" and len(branches) > 1 else False
        repeat = _REPEAT.match(pattern, at) if mark not in "|*+" else None
        if repeat and _is_endless(repeat):
            if inner:
                return True
            branches[-1] = True
        branches[-1] |= inner or pattern[start] == "|"
    return False


def _is_endless(repeat: re.Match[str]) -> bool:
    if repeat[0] in "*+":
        return True
    most = repeat["most"] if repeat["open"] else repeat["least"]
    return most == "" or len(most) > 4 or int(most) >= _MANY


def _end_of_class(pattern: str, at: int) -> int:
    """Return the place behind a class in brackets, which may hold others."""
    depth = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
        elif pattern[at] == "]":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return at
