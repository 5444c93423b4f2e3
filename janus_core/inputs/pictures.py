"""Read any picture as upright, opaque 8-bit RGB: from a file, a PIL picture, a tensor or an array.

What cannot be read as a picture is refused with an error that names it. Knows nothing of models.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from ..errors import ImageError
from .colours import conversion_to_rgb, require_finite
from .opening import SAVE_AGAIN, in_bands, load_picture, open_file, pillow_failures_named, remark_on_frames

Picture: TypeAlias = Image.Image | str | os.PathLike[str] | Tensor | npt.NDArray[np.generic]

_NO_PIXELS = "has no pixels. Give a picture of at least 1×1."
_CHANNELS = (1, 3, 4)
_OVERSHOOT = 0.5  # beyond 0..1, as resampling and sharpening produce at hard edges; clamped
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
    """Return pictures as a tuple: a single one alone, a batch (b, h, w, c) split into its pictures."""
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

    EXIF orientation is applied, a colour profile is converted to sRGB, transparency is composited over white.
    An animated file gives its first frame, a PIL picture its current one. A picture above 67 megapixels is
    reduced. Grey of more than 8 bits is scaled: I;16 from 0..65535; I
    from 0..255 if nothing exceeds 255, else from 0..65535; F from 0..1 if nothing is above 2 (resampling
    overshoots), else from 0..255 if nothing is above 510, else from 0..65535.

    Args:
        source: a path, a PIL picture, or one picture as a tensor or array (h, w, c) with 1, 3 or 4 channels:
            floating point in 0..1, clamped and rounded to 8 bits, or uint8. Values beyond 0..1 by more than
            resampling produces are refused.

    Returns:
        A new picture in mode RGB; `source` is not changed.

    Raises:
        ImageError: the source cannot be read as one picture; the message names it and says why.
    """
    if isinstance(source, (Tensor, np.ndarray)):
        return samples_to_picture(read_samples(source))
    if isinstance(source, Image.Image):
        return _read_pil(source)
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(os.fsdecode(source)))
    kind = type(source).__name__
    if isinstance(source, (list, tuple)):
        raise ImageError(
            f"A {kind} of {len(source)} was given; one picture is expected. Pass them one by one."
        )
    raise ImageError(f"A {kind} is no picture. Give a path, a PIL picture, or a tensor or array (h, w, c).")


def _read_file(path: Path) -> Image.Image:
    name = f'The picture "{path}"'
    with open_file(path) as file, pillow_failures_named(name):
        picture = load_picture(file, name)
        upright = _to_upright_rgb(picture, name)
        remark_on_frames(picture, name)
    return upright


def _read_pil(source: Image.Image) -> Image.Image:
    name = f"The PIL picture {source.size[0]}×{source.size[1]} in mode {source.mode}"
    with pillow_failures_named(name):
        if source.format == "EPS":  # decoding it would start an external program
            raise ImageError(f"{name} is PostScript, a page description without pixels. {SAVE_AGAIN}")
        source.load()
        return _to_upright_rgb(source, name)


def _to_upright_rgb(picture: Image.Image, name: str) -> Image.Image:
    if 0 in picture.size:
        raise ImageError(f"{name} {_NO_PIXELS}")
    rgb = in_bands(picture, conversion_to_rgb(picture, name))  # turned last, when it is small
    upright = _turn_upright(rgb, picture)
    # A new picture without metadata, so that reading it again does not turn it again.
    result = upright.copy() if upright is picture else upright
    result.info = {}
    return result


def _turn_upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    orientation = None
    with suppress(Exception):  # unreadable metadata is no reason to refuse the pixels
        orientation = source.getexif().get(_ORIENTATION_TAG)
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return rgb if turn is None else rgb.transpose(turn)


def read_samples(source: Tensor | npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return checked, opaque samples (h, w, 3) in 0..1 of a tensor or array, not rounded to 8 bits.

    Raises:
        ImageError: it is not one picture; the message says what it is instead.
    """
    kind = "tensor" if isinstance(source, Tensor) else "array"
    name = f"The {str(source.dtype).removeprefix('torch.')} {kind} of shape {tuple(source.shape)}"
    _check_shape(tuple(source.shape), name)
    if isinstance(source, Tensor):
        source = _to_array(source, name)
    if source.dtype == np.uint8:
        samples = source.astype(np.float32) / np.float32(255)
    elif source.dtype.kind == "f":
        samples = _read_floats(source, name)
    else:
        raise ImageError(f"{name} is no picture: its values must be floating point in 0..1, or uint8.")
    if samples.shape[2] == 4:  # alpha over white
        samples = samples[..., :3] * samples[..., 3:] + (1 - samples[..., 3:])  # (h, w, 3)
    return samples.repeat(3 // samples.shape[2], axis=2)  # grey to three equal channels


def _to_array(source: Tensor, name: str) -> npt.NDArray[np.generic]:
    """Return a tensor's values; some kinds, such as sparse ones or those without data, have none to give."""
    try:
        source = source.detach().cpu()
        return source.float().numpy() if source.is_floating_point() else source.numpy()
    except (RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ImageError(f"{name} has no values that can be read: {reason}. Give a plain one.") from error


def check_picture(source: Tensor | npt.NDArray[np.generic]) -> None:
    """Raise the ImageError that reading a tensor or array would raise, without keeping what is read."""
    read_samples(source)


def _read_floats(source: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # float64 that overflows becomes infinite, which is refused below
        samples = source.astype(np.float32)
    require_finite(samples, name)
    low, top = float(samples.min()), float(samples.max())
    if top > 1 + _OVERSHOOT:
        what = "whole numbers" if (samples == np.rint(samples)).all() else "numbers"
        cure = "Divide by 255." if top <= 255 + _OVERSHOOT * 255 else "Scale it to 0..1."
        raise ImageError(f"{name} holds {what} up to {top:g} where 0..1 is expected. {cure}")
    if low < -_OVERSHOOT:
        raise ImageError(
            f"{name} holds numbers down to {low:g} where 0..1 is expected. If it is scaled to -1..1, add 1 "
            "and divide by 2."
        )
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
