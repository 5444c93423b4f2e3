"""`encode` and `decode`: between pictures and files of image tokens."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import torch
from PIL import Image

from ..captions.finding import expanded
from ..inputs.carried_tokens import carried_by, pixel_fingerprint
from ..inputs.image_tokens import ImageTokens
from ..inputs.pictures import read_picture
from .files import check_picture_name, ready_file, save_picture
from .models import load_autoregressive
from .terminal import remark, report


def encode(arguments: Namespace) -> None:
    """Turn pictures into a file of image tokens."""
    out = ready_file(Path(arguments.out))
    paths = [Path(path) for given in arguments.images for path in expanded(given)]
    pictures = [read_picture(path) for path in paths]
    carried = [_carried(path, picture) for path, picture in zip(paths, pictures, strict=True)]
    janus = load_autoregressive(arguments)
    of_the_model = (janus.codebook, janus.config.vq.codebook_size, janus.config.grid_side)
    known = [one if one is not None and one.is_decodable(*of_the_model) else None for one in carried]
    todo = [picture for picture, one in zip(pictures, known, strict=True) if one is None]
    encoded = iter(janus.encode(todo, arguments.fit).grid if todo else ())
    rows = [next(encoded) if one is None else one.grid[0] for one in known]
    tokens = ImageTokens(grid=torch.stack(rows), codebook=janus.codebook, model=janus.name)
    tokens.save(out)
    read = ", ".join(str(path) for path, one in zip(paths, known, strict=True) if one is not None)
    if read:
        remark(arguments, f"image tokens were read from {read}, not encoded")
    ids = [grid.flatten().tolist() for grid in tokens.grid]  # row by row
    report(arguments, {"token_ids": ids, "grid": list(tokens.grid.shape[1:]), "file": str(out)}, str(out))


def _carried(path: Path, picture: Image.Image) -> ImageTokens | None:
    """Return the tokens that a picture was drawn from, where its file carries them and it is unchanged."""
    carried = carried_by(path)
    if carried is None or carried.pixels != pixel_fingerprint(picture):
        return None
    return carried.tokens


def decode(arguments: Namespace) -> None:
    """Turn a file of image tokens into pictures."""
    out = Path(arguments.out)
    check_picture_name(out)
    tokens = ImageTokens.load(arguments.tokens)
    count = len(tokens)
    paths = [out] if count == 1 else [out.with_name(f"{out.stem}_{i + 1}{out.suffix}") for i in range(count)]
    for path in paths:
        ready_file(path)
    for image, path in zip(load_autoregressive(arguments).decode(tokens), paths, strict=True):
        save_picture(image, path)
    files = [str(path) for path in paths]
    report(arguments, {"files": files}, "\n".join(files))
