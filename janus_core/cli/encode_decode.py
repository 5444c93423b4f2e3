"""`encode` and `decode`: between pictures and files of image tokens."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..captions.finding import expanded
from ..inputs.image_tokens import ImageTokens
from ..inputs.pictures import read_picture
from .files import check_picture_name, ready_file, save_picture
from .models import load_autoregressive
from .terminal import report


def encode(arguments: Namespace) -> None:
    """Turn pictures into a file of image tokens."""
    out = ready_file(Path(arguments.out))
    pictures = [read_picture(path) for given in arguments.images for path in expanded(given)]
    tokens = load_autoregressive(arguments).encode(pictures, arguments.fit)
    tokens.save(out)
    ids = [grid.flatten().tolist() for grid in tokens.grid]  # row by row
    report(arguments, {"token_ids": ids, "grid": list(tokens.grid.shape[1:]), "file": str(out)}, str(out))


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
