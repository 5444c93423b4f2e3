"""Image tokens that travel inside a PNG: written beside the pixels, read again where these are unchanged.

A note holds the tokens of one picture and a fingerprint of its pixels, so that an edited picture that kept
its notes is not taken for the one that was drawn.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from ..errors import ImageError
from ..reading import parse_json
from .image_tokens import ImageTokens
from .opening import open_file, pillow_failures_named
from .pictures import Picture, read_picture

TOKENS_NOTE = "janus_image_tokens"  # the text chunk's keyword

_FORMAT = "janus-carried-tokens-1"


@dataclass(frozen=True, kw_only=True)
class CarriedTokens:
    """The image tokens of one picture, with the pixels that they belong to.

    Attributes:
        tokens: of one picture.
        pixels: fingerprint of the picture, from `pixel_fingerprint`.
    """

    tokens: ImageTokens
    pixels: str


def pixel_fingerprint(picture: Picture) -> str:
    """Return a fingerprint of a picture's size and its pixels in 8 bits."""
    rgb = read_picture(picture)
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()[:32]


def write_note(tokens: ImageTokens, row: int, picture: Picture) -> str:
    """Return the text chunk that carries the tokens of row `row` inside the PNG of a picture.

    Ids take two bytes each, or four for a codebook that needs them: 576 ids are about 1.5 kB of text.

    Raises:
        ImageError: the picture's drawing was interrupted, so that there is no picture of these tokens.
    """
    grid = tokens.grid[row].numpy()
    if int(grid.min()) < 0:
        raise ImageError(
            f"The image tokens of picture {row + 1} are not finished, so they cannot travel inside one. Save "
            "them with Save Janus Tokens, or finish the drawing."
        )
    kind = "<u2" if int(grid.max()) < 2**16 else "<u4"
    return json.dumps(
        {
            "format": _FORMAT,
            "codebook": tokens.codebook,
            "model": tokens.model,
            "grid": list(grid.shape),
            "kind": kind,
            "tokens": base64.b64encode(grid.astype(kind).tobytes()).decode("ascii"),
            "pixels": pixel_fingerprint(picture),
        }
    )


def read_note(note: str, source: str) -> CarriedTokens:
    """Read what `write_note` wrote.

    Raises:
        ImageError: it is something else, or damaged.
    """
    try:
        said: dict[str, Any] = parse_json(note)
        if said["format"] != _FORMAT or said["kind"] not in ("<u2", "<u4"):
            raise ValueError("another format")
        rows, columns = (int(side) for side in said["grid"])
        raw = base64.b64decode(said["tokens"], validate=True)
        ids = np.frombuffer(raw, dtype=said["kind"]).reshape(rows, columns)
        grid = torch.from_numpy(ids.astype(np.int64))[None]
        codebook, model, pixels = (said[key] for key in ("codebook", "model", "pixels"))
        if not all(isinstance(text, str) for text in (codebook, model, pixels)):
            raise ValueError("its codebook, model or fingerprint is no text")
        return CarriedTokens(tokens=ImageTokens(grid=grid, codebook=codebook, model=model), pixels=pixels)
    except (ValueError, KeyError, TypeError, OverflowError, binascii.Error) as error:
        raise ImageError(
            f'The image tokens inside "{source}" cannot be read: {error!s:.200}. Encode the picture instead.'
        ) from error


def carried_by(path: Path) -> CarriedTokens | None:
    """Return the tokens that a PNG carries; None for a picture without any.

    Raises:
        ImageError: the file cannot be read, or its note is damaged.
    """
    name = f'The picture "{path}"'
    with open_file(path) as file, pillow_failures_named(name), Image.open(file) as picture:
        # notes that another program moved behind the pixels are found as well
        notes = picture.text if isinstance(picture, PngImageFile) else {}
        note = notes.get(TOKENS_NOTE)
    return None if note is None else read_note(str(note), str(path))
