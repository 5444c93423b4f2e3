"""Open picture files that Pillow can decode, up to 500 megapixels; large ones are reduced while reading.

Pillow's failures become ImageErrors that name the file. Knows nothing of models.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from .colours import ToRGB

log = logging.getLogger("janus.inputs")

SAVE_AGAIN = "Open it in a picture editor and save it as PNG or JPEG."
MOST_PIXELS = 500_000_000  # a larger picture is refused
LARGE_PIXELS = 2**26  # a larger picture is reduced while it is read
_KEPT_SIDE = 2048  # the shorter side is reduced to no less than this: several times any model's size
_BAND_PIXELS = 2**22  # converted at once
_PILLOWS_LIMIT = 1024 * 1024 * 1024 // 4 // 3  # its default; pictures of more than twice as much are refused
_lock = threading.Lock()  # held while Pillow's limit, which is global to all threads, is changed

# Formats whose further pictures are not a sequence: previews, layers, sizes of one icon.
_NO_SEQUENCE = ("MPO", "PSD", "ICO", "ICNS", "CUR")


def open_file(path: Path) -> BinaryIO:
    """Open a picture's file.

    Raises:
        ImageError: it is not there, a folder, or may not be read.
    """
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(_why_closed(path, error)) from error


def _why_closed(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f'There is no picture "{path}" (relative paths start at "{Path.cwd()}"). Check the path.'
    if isinstance(error, IsADirectoryError) or (isinstance(error, PermissionError) and path.is_dir()):
        return f'"{path}" is a folder, not a picture. Name one of the files in it.'
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f'The picture "{path}" cannot be opened: {reason}. Check the path and its permissions.'


def load_picture(file: BinaryIO, name: str) -> Image.Image:
    """Return a file's picture, decoded; a large JPEG at a fraction of its size.

    Raises:
        ImageError: it is PostScript. Whatever Pillow raises passes through.
    """
    try:
        return _load(file, name)
    except Image.DecompressionBombError:
        with _lock:
            if Image.MAX_IMAGE_PIXELS != _PILLOWS_LIMIT:  # somebody chose another
                raise
            try:
                Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow refuses from twice its limit on
                return _load(file, name)
            finally:
                Image.MAX_IMAGE_PIXELS = _PILLOWS_LIMIT


def _load(file: BinaryIO, name: str) -> Image.Image:
    file.seek(0)
    picture = Image.open(file)
    if picture.format == "EPS":  # decoding it would start an external program
        raise ImageError(f"{name} is PostScript, a page description without pixels. {SAVE_AGAIN}")
    factor = reduction(picture)
    if factor > 1:  # only JPEG can: it decodes at 1/2, 1/4 or 1/8; others ignore this and are cut into bands
        picture.draft(None, (picture.width // factor, picture.height // factor))
    picture.load()
    return picture


def reduction(picture: Image.Image) -> int:
    """Return the factor by which to reduce a large picture's sides; 1 for others."""
    is_large = picture.width * picture.height > LARGE_PIXELS
    return max(1, min(picture.size) // _KEPT_SIDE) if is_large else 1


def in_bands(picture: Image.Image, convert: ToRGB) -> Image.Image:
    """Convert a picture; a large one in bands of rows, each reduced before the next is converted.

    This way no intermediate copy has the size of the large picture.
    """
    if picture.width * picture.height <= LARGE_PIXELS:
        return convert(picture)
    factor = reduction(picture)
    small = Image.new("RGB", (-(-picture.width // factor), -(-picture.height // factor)))
    rows = factor * max(1, _BAND_PIXELS // (picture.width * factor))  # a multiple of the factor
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        small.paste(convert(band).reduce(factor), (0, top // factor))
    return small


def remark_on_frames(picture: Image.Image, name: str) -> None:
    """Warn that only the first of several frames or pages was read."""
    frames = 1
    with suppress(Exception):  # a damaged later frame is no reason to refuse the first
        if picture.format not in _NO_SEQUENCE:
            frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        log.warning("Janus: %s has %d frames; only the first is looked at.", name, frames)


@contextmanager
def pillow_failures_named(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an ImageError that starts with `name`; drop its warnings."""
    with warnings.catch_warnings():
        # Filters are shared by all threads: name Pillow, so that overlapping calls can silence nothing else.
        warnings.filterwarnings("ignore", module=r"PIL\b")
        try:
            yield
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is damaged, or in no known picture format. {SAVE_AGAIN}") from error
        except Image.DecompressionBombError as error:
            raise ImageError(f"{name} is too large to decode: {error} Make it smaller.") from error
        except Exception as error:  # the decoders raise nearly anything on damaged files
            reason = str(error).strip(" .")[:200] or type(error).__name__
            raise ImageError(f"{name} is damaged or unsupported: {reason}. {SAVE_AGAIN}") from error
