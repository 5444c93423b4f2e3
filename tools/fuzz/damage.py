"""How bytes, JSON and texts are damaged, by a given random generator. Knows nothing of what they mean."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Mutate = Callable[[bytes, random.Random], bytes]

NESTED = "stands for a deeply nested value"
GIANT = "stands for an integer of thousands of digits"
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 32, 512, 10**6, 10**9, 10**12, 2**31, 2**63, 10**400, 1e-300, 1e308,
    float("inf"), float("nan"), "", "x", "\ud800", "\0", [], [1], {}, {"a": 1}, 0.5, "../../config.json",
    "/etc/passwd", "C:\\janus", "\\\\server\\share", "a" * 5000, NESTED, GIANT,
)  # fmt: skip


def a_place(data: bytes, rng: random.Random) -> int:
    """Return an offset; most of them near the start or the end, where formats keep their structure."""
    near = min(len(data), 600)
    return rng.choice((rng.randrange(near), len(data) - 1 - rng.randrange(near), rng.randrange(len(data))))


def flip(data: bytes, rng: random.Random) -> bytes:
    """Return data with some bytes changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 100))):
        changed[a_place(data, rng)] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(changed)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Return the beginning of data."""
    return data[: a_place(data, rng)]


def splice(data: bytes, rng: random.Random) -> bytes:
    """Return data with a piece of its own, noise or zeros put in or over."""
    start, length, target = a_place(data, rng), rng.choice((1, 8, 64, 4096)), a_place(data, rng)
    piece = rng.choice((data[start : start + length], rng.randbytes(length), bytes(length)))
    return data[:target] + piece + data[target + rng.choice((0, length)) :]


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every holder and key in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from places_in(inner)


def replace_values(data: bytes, rng: random.Random) -> bytes:
    """Return JSON with some values gone or replaced by odd ones, or keys stated twice."""
    try:
        content = json.loads(data)
    except ValueError:  # another change has spoilt it already
        return flip(data, rng)
    places = list(places_in(content))
    for holder, key in rng.sample(places, min(len(places), rng.choice((1, 1, 2, 4)))):
        if isinstance(holder, dict) and rng.random() < 0.2:
            holder.pop(key, None)
        else:
            holder[key] = rng.choice(ODD_VALUES)
    text = with_stand_ins(json.dumps(content), rng)
    if rng.random() < 0.1 and text.startswith("{"):
        text = "{" + f"{json.dumps(rng.choice(list(content) or ['x']))}: 7, " + text[1:]
    return text.encode()


def with_stand_ins(text: str, rng: random.Random) -> str:
    """Return a text of JSON with nested values and giant integers in place of what stands for them."""
    levels = rng.choice((300, 900, 960, 100_000))
    nested = '[{"a":' * (levels // 2) + "1" + "}]" * (levels // 2)
    return text.replace(f'"{NESTED}"', nested).replace(
        f'"{GIANT}"', "9" * rng.choice((30, 4000, 5000, 50_000))
    )


def damaged(data: bytes, rng: random.Random, *, is_json: bool) -> bytes:
    """Return data damaged in one way."""
    mutations: list[Mutate] = [flip, truncate, splice]
    if is_json:
        mutations += [replace_values] * 4
    return rng.choice(mutations)(data, rng) if data else data
