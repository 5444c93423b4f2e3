"""Any picture as upright, opaque 8-bit RGB: a file, a PIL picture, a tensor or an array.

Whatever is no picture is refused by name. This file knows nothing of models and of what they want.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import ImageError

Picture: TypeAlias = Image.Image | str | os.PathLike[str] | Tensor | npt.NDArray[np.generic]

_SAVE_AGAIN = "Open it in a picture editor and save it as PNG or JPEG."
_NO_PIXELS = "has no pixels. Give a picture of at least 1×1."
_CHANNELS = (1, 3, 4)
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def as_several(pictures: Picture | Sequence[Picture]) -> tuple[Picture, ...]:
    """Return pictures one by one: a single one as the only one, a batch (b, h, w, c) as its pictures."""
    is_one = isinstance(pictures, (Image.Image, str, os.PathLike))
    if is_one or (isinstance(pictures, (Tensor, np.ndarray)) and pictures.ndim != 4):
        return (pictures,)  # type: ignore[return-value]  # `ndim` narrows no type
    if isinstance(pictures, Iterable):
        return tuple(pictures)
    raise ImageError(
        f"A {type(pictures).__name__} is neither a picture nor a list of pictures. Give a list, which may be "
        "empty."
    )


def read_picture(source: Picture) -> Image.Image:
    """Return any picture as upright, opaque 8-bit RGB without metadata.

    EXIF orientation is applied, transparency is laid over white, colour spaces are converted. Of an animated
    file the first frame is taken, of a PIL picture the one it stands at. Grey of more than 8 bits is scaled:
    I;16 from 0..65535; I from 0..255 if nothing exceeds 255, else from 0..65535; F from 0..1 if nothing is
    above 2 (resampling overshoots), else from 0..255 if nothing is above 510, else from 0..65535.

    Args:
        source: a path, a PIL picture, or one picture as a tensor or array (h, w, c) with 1, 3 or 4 channels:
            floating point in 0..1, clamped and rounded to 8 bits, or uint8.

    Returns:
        A new picture in mode RGB; `source` keeps its pixels.

    Raises:
        ImageError: the source cannot be read as one picture; the message names it and says why.
    """
    if isinstance(source, (Tensor, np.ndarray)):
        return samples_to_picture(read_samples(source))
    if isinstance(source, Image.Image):
        return _decode(source, f"The PIL picture {source.size[0]}×{source.size[1]} in mode {source.mode}")
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(os.fsdecode(source)))
    kind = type(source).__name__
    if isinstance(source, (list, tuple)):
        raise ImageError(
            f"A {kind} of {len(source)} was given; one picture is expected. Pass them one by one."
        )
    raise ImageError(f"A {kind} is no picture. Give a path, a PIL picture, or a tensor or array (h, w, c).")


def _read_file(path: Path) -> Image.Image:
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(_why_closed(path, error)) from error
    with file:
        return _decode(file, f'The picture "{path}"')


def _why_closed(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f'There is no picture "{path}" (relative paths start at "{Path.cwd()}"). Check the path.'
    if isinstance(error, IsADirectoryError) or (isinstance(error, PermissionError) and path.is_dir()):
        return f'"{path}" is a folder, not a picture. Name one of the files in it.'
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f'The picture "{path}" cannot be opened: {reason}. Check the path and its permissions.'


def _decode(source: Image.Image | BinaryIO, name: str) -> Image.Image:
    with _pillow_failures_named(name):
        picture = source if isinstance(source, Image.Image) else Image.open(source)
        if picture.format == "EPS":  # decoding it would start an external program
            raise ImageError(f"{name} is PostScript, a page description without pixels. {_SAVE_AGAIN}")
        if 0 in picture.size:
            raise ImageError(f"{name} {_NO_PIXELS}")
        picture.load()
        upright = _turn_upright(_to_rgb(picture, name), picture)
    # Without metadata, so that reading the result again does not turn it again.
    upright.info = {}
    return upright


@contextmanager
def _pillow_failures_named(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an ImageError that starts with `name`; drop its warnings."""
    with warnings.catch_warnings():
        # Filters are shared by all threads: name Pillow, so that overlapping calls can silence nothing else.
        warnings.filterwarnings("ignore", module=r"PIL\b")
        try:
            yield
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is damaged, or in no known picture format. {_SAVE_AGAIN}") from error
        except Image.DecompressionBombError as error:
            raise ImageError(f"{name} is too large to decode: {error} Make it smaller.") from error
        except Exception as error:  # the decoders raise nearly anything on damaged files
            reason = str(error).strip(" .")[:200] or type(error).__name__
            raise ImageError(f"{name} is damaged or unsupported: {reason}. {_SAVE_AGAIN}") from error


def _turn_upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    orientation = None
    with suppress(Exception):  # metadata that cannot be read says nothing against the pixels
        orientation = source.getexif().get(_ORIENTATION_TAG)
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return rgb if turn is None else rgb.transpose(turn)


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _deep_grey_to_rgb(picture, name)
    if picture.mode == "La":  # Pillow offers no direct way from here
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        return _over_white(picture.convert("RGBA"))
    return picture.convert("RGB")


def _over_white(rgba: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _deep_grey_to_rgb(picture: Image.Image, name: str) -> Image.Image:
    samples = np.asarray(picture).astype(np.float32)  # (h, w)
    _require_finite(samples, name)
    top = float(samples.max())
    if picture.mode == "F":
        levels = [level for level in (1, 255, 65535) if top <= 2 * level]
    else:
        smallest = 255 if picture.mode == "I" else 65535
        levels = [level for level in (255, 65535) if level >= max(smallest, top)]
    if not levels:
        raise ImageError(f"{name} has values up to {top:g}, of unknown scale. Scale it to 0..255 first.")
    grey = np.rint(np.clip(samples / levels[0], 0, 1) * 255).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _require_finite(samples: npt.NDArray[np.float32], name: str) -> None:
    if not np.isfinite(samples).all():
        raise ImageError(f"{name} contains NaN or infinite values. Look for the step that made them.")


def read_samples(source: Tensor | npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return checked, opaque samples (h, w, 3) in 0..1 of a tensor or array, not rounded to 8 bits.

    Raises:
        ImageError: it is not one picture; the message says what it is instead.
    """
    kind = "tensor" if isinstance(source, Tensor) else "array"
    name = f"The {str(source.dtype).removeprefix('torch.')} {kind} of shape {tuple(source.shape)}"
    _check_shape(tuple(source.shape), name)
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = source.float().numpy() if source.is_floating_point() else source.numpy()
    if source.dtype == np.uint8:
        samples = source.astype(np.float32) / np.float32(255)
    elif source.dtype.kind == "f":
        samples = _read_floats(source, name)
    else:
        raise ImageError(f"{name} is no picture: its values must be floating point in 0..1, or uint8.")
    if samples.shape[2] == 4:
        samples = samples[..., :3] * samples[..., 3:] + (1 - samples[..., 3:])
    return samples.repeat(3 // samples.shape[2], axis=2)


def _read_floats(source: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows is found infinite below
        samples = source.astype(np.float32)
    _require_finite(samples, name)
    top = float(samples.max())
    if top >= 2 and (samples == np.rint(samples)).all():
        raise ImageError(f"{name} holds whole numbers up to {top:g} where 0..1 is expected. Divide by 255.")
    return samples.clip(0, 1)


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) == 4:
        raise ImageError(
            f"{name} is a batch; one picture is expected. Pass its {shape[0]} pictures one by one."
        )
    if len(shape) != 3:
        raise ImageError(f"{name} is no picture. Give one with three axes, (h, w, c).")
    if shape[2] not in _CHANNELS:
        cure = "Move the channels to the end." if shape[0] in _CHANNELS else "Convert it to RGB."
        raise ImageError(f"{name} has {shape[2]} channels; (h, w, c) with 1, 3 or 4 is expected. {cure}")
    if 0 in shape:
        raise ImageError(f"{name} {_NO_PIXELS}")


def samples_to_picture(samples: npt.NDArray[np.float32]) -> Image.Image:
    """Round samples (h, w, 3) in 0..1 to an 8-bit RGB picture."""
    return Image.fromarray(np.rint(samples * 255).astype(np.uint8))
