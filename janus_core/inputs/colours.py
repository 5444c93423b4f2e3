"""From any of Pillow's modes to opaque 8-bit sRGB: colour profiles, transparency, grey of many bits.

Knows nothing of files, sizes or models.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ImageError

if TYPE_CHECKING:  # the rest of Pillow is imported when a picture first brings a profile
    from PIL import ImageCms

log = logging.getLogger("janus.inputs")

ToRGB: TypeAlias = Callable[[Image.Image], Image.Image]

# The mode in which a profile is applied, by the profile's colour space and the picture's kind of samples.
_THROUGH = {
    ("RGB", "RGB"): "RGB",
    ("RGB", "L"): "RGB",
    ("GRAY", "L"): "L",
    ("CMYK", "CMYK"): "CMYK",
    ("Lab", "LAB"): "LAB",
}
_GREYS = ("1", "L", "LA", "La", "I", "F")
_SAME = 2  # of 255: two ways of rounding differ by no more


def conversion_to_rgb(picture: Image.Image, name: str) -> ToRGB:
    """Return how to turn a picture, or a band of its rows, into opaque sRGB.

    A colour profile is applied (perceptual intent); an unusable one is ignored with a warning. Without one,
    samples are taken as sRGB and stay unchanged. Transparency is composited over white.

    Args:
        picture: in any mode, loaded.
        name: what to call it in a message.

    Raises:
        ImageError: grey of unknown scale, NaN or infinite values.
    """
    to_srgb = _to_srgb(picture, name)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return partial(_deep_grey, level=_level(picture, name), to_srgb=to_srgb)
    if picture.has_transparency_data:
        return partial(_over_white, to_srgb=to_srgb)
    return to_srgb


@dataclass(frozen=True)
class _Transform:
    """Converts pictures of one colour profile to sRGB.

    Attributes:
        mode: Pillow's mode of the pictures that `cms` takes.
        cms: the transform.
    """

    mode: str
    cms: ImageCms.ImageCmsTransform

    def __call__(self, opaque: Image.Image) -> Image.Image:
        """Return a picture without transparency in sRGB."""
        from PIL import ImageCms

        if opaque.mode != self.mode:
            opaque = opaque.convert(self.mode)
        converted = ImageCms.applyTransform(opaque, self.cms)
        assert converted is not None  # only in-place transforms return nothing
        return converted


def _plain(opaque: Image.Image) -> Image.Image:
    return opaque if opaque.mode == "RGB" else opaque.convert("RGB")


def _to_srgb(picture: Image.Image, name: str) -> ToRGB:
    content = picture.info.get("icc_profile")
    if not content:
        return _build(_created("LAB"), "LAB") if picture.mode == "LAB" else _plain
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        space = profile.profile.xcolor_space.strip()
        through = _THROUGH.get((space, _kind(picture.mode)))
        if through is None:
            raise ValueError(f"it describes {space}, the picture is {picture.mode}")
        transform = _build(profile, through)
        return _plain if _is_identity(transform) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError) as error:
        reason = str(error).partition("\n")[0][:100] or type(error).__name__
        log.warning(
            "Janus: %s has a colour profile that cannot be used (%s); its colours are taken as sRGB.",
            name,
            reason,
        )
        return _plain


def _kind(mode: str) -> str:
    if mode in _GREYS or mode.startswith("I;16"):
        return "L"
    return mode if mode in ("CMYK", "LAB") else "RGB"


def _created(space: Literal["LAB", "sRGB"]) -> ImageCms.ImageCmsProfile:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space))


def _build(profile: ImageCms.ImageCmsProfile, mode: str) -> _Transform:
    from PIL import ImageCms

    cms = ImageCms.buildTransform(profile, _created("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    return _Transform(mode, cms)


def _is_identity(transform: _Transform) -> bool:
    """Tell whether a profile is that of sRGB under any name, so that samples can stay unchanged."""
    if transform.mode not in ("RGB", "L"):
        return False
    steps = np.linspace(0, 255, 18).astype(np.uint8)  # every 15th value of a channel
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    probe = Image.fromarray(cube if transform.mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
    before, after = (np.asarray(image).astype(int) for image in (_plain(probe), transform(probe)))
    return int(np.abs(after - before).max()) <= _SAME


def _over_white(picture: Image.Image, to_srgb: ToRGB) -> Image.Image:
    if picture.mode == "La":  # Pillow offers no direct way from here
        picture = picture.convert("LA")
    rgba = picture.convert("RGBA")
    if to_srgb is not _plain:  # profiles describe colours only, so alpha goes round the transform
        converted = to_srgb(rgba.convert("RGB"))
        converted.putalpha(rgba.getchannel("A"))
        rgba = converted
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _level(picture: Image.Image, name: str) -> int:
    """Return which value of deep grey is white.

    Raises:
        ImageError: the values fit no known scale.
    """
    samples = np.asarray(picture)  # a copy of the picture
    require_finite(samples, name)
    top = float(samples.max())
    if picture.mode == "F":  # resampling overshoots, so up to twice a scale still counts as that scale
        levels = [level for level in (1, 255, 65535) if top <= 2 * level]
    else:
        smallest = 255 if picture.mode == "I" else 65535
        levels = [level for level in (255, 65535) if level >= max(smallest, top)]
    if not levels:
        raise ImageError(f"{name} has values up to {top:g}, of unknown scale. Scale it to 0..255 first.")
    return levels[0]


def _deep_grey(picture: Image.Image, level: int, to_srgb: ToRGB) -> Image.Image:
    samples = np.asarray(picture).astype(np.float32)  # (h, w)
    grey = np.rint(np.clip(samples / level, 0, 1) * 255).astype(np.uint8)  # (h, w)
    rgb = to_srgb(Image.fromarray(grey))
    transparent = picture.info.get("transparency")  # PNG names one grey value that is transparent
    if isinstance(transparent, int):
        rgb.paste("white", mask=Image.fromarray(samples == transparent))
    return rgb


def require_finite(samples: npt.NDArray[np.generic], name: str) -> None:
    """Raise ImageError if any sample is NaN or infinite."""
    if not np.isfinite(samples).all():
        raise ImageError(f"{name} contains NaN or infinite values. Look for the step that made them.")
