"""Image tokens in the picture files that a graph loads.

A node gets pixels only, not the file that they were loaded from. But the graph says which files the nodes
before it load, so these are looked into, and pixels with the fingerprint that a file's tokens were saved with
are that picture, whichever way they came. No folder is searched, and nothing is remembered.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...janus_core import CarriedTokens, ImageError, ImageTokens, Janus, carried_by, pixel_fingerprint
from .folders import known_file

log = logging.getLogger("janus.carried")

_ENDING = ".png"


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What the picture files of a graph carry.

    Attributes:
        tokens: by the fingerprint of the pixels.
        files: names of the files, by the same.
        problems: why a file's tokens cannot be used.
    """

    tokens: Mapping[str, CarriedTokens]
    files: Mapping[str, str]
    problems: tuple[str, ...]


def carried_to(prompt: Mapping[str, Any] | None, node_id: str | None, input_name: str) -> Carried:
    """Return the tokens in the picture files that the nodes before an input load."""
    tokens: dict[str, CarriedTokens] = {}
    files: dict[str, str] = {}
    problems = []
    for path in _picture_files(prompt or {}, node_id, input_name):
        try:
            carried = carried_by(path)
        except ImageError as error:  # whoever loads the file says what is wrong with its pixels
            problems.append(str(error))
            log.warning("Janus: %s", error)
            continue
        if carried is not None:
            tokens[carried.pixels] = carried
            files[carried.pixels] = path.name
    return Carried(tokens=tokens, files=files, problems=tuple(problems))


def _picture_files(prompt: Mapping[str, Any], node_id: str | None, input_name: str) -> list[Path]:
    """List the PNGs in ComfyUI's folders that are named in the nodes before an input."""
    start = prompt.get(node_id or "", {}).get("inputs", {}).get(input_name)
    waiting, seen, found = [start], set[str](), dict[Path, None]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and _ENDING in value.lower():
            path = known_file(value)
            if path is not None:
                found[path] = None
        elif isinstance(value, list) and value and str(value[0]) not in seen:
            seen.add(str(value[0]))  # a link: the node and the number of its output
            waiting += prompt.get(str(value[0]), {}).get("inputs", {}).values()
    return list(found)


def encode_or_read(
    janus: Janus, pictures: Sequence[Tensor], carried: Carried, encode: Callable[[list[Tensor]], ImageTokens]
) -> tuple[ImageTokens, list[str]]:
    """Return the tokens of pictures, those that a file carries as they are and the others encoded.

    Args:
        janus: whose tokens are wanted; those of another model are of no use to it.
        pictures: (h, w, c) floats in 0..1.
        carried: what the files carry.
        encode: encodes those that no file knows.

    Returns: the tokens, and remarks on where they came from.
    """
    marks = [pixel_fingerprint(picture) if carried.tokens else "" for picture in pictures]
    of_the_model = (janus.codebook, janus.config.vq.codebook_size, janus.config.grid_side)
    known = {
        mark: one.tokens.grid[0]
        for mark, one in carried.tokens.items()
        if one.tokens.is_decodable(*of_the_model)
    }
    todo = [picture for picture, mark in zip(pictures, marks, strict=True) if mark not in known]
    encoded = iter(encode(todo).grid if todo else ())
    rows = [known[mark] if mark in known else next(encoded) for mark in marks]
    names = list(dict.fromkeys(carried.files[mark] for mark in marks if mark in known))
    said = [f"The image tokens were read from {', '.join(names)}, not encoded."] if names else []
    tokens = ImageTokens(grid=torch.stack(rows), codebook=janus.codebook, model=janus.name)
    return tokens, [*said, *carried.problems]
