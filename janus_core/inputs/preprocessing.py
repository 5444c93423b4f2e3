"""Pictures to the models' input, and the models' output back to pictures.

`to_pixel_values` makes the input of the vision tower, `to_vq_input` that of the VQ tokenizer; `to_images` and
`to_uint8` convert the output. Knows nothing of models, tokens or the files of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..errors import ImageError
from ..model.config import PreprocessConfig
from .pictures import Picture, as_several, read_picture, read_samples, samples_to_picture

Fit: TypeAlias = Literal["crop", "pad", "stretch"]

_MID_GREY = (127, 127, 127)


def to_pixel_values(picture: Image.Image, config: PreprocessConfig) -> Tensor:
    """Turn an RGB picture into the vision tower's input: resized by its longer side, padded to a square.

    Args:
        picture: mode RGB, from `read_picture`.
        config: sizes and normalisation; with `do_normalize` false the values stay in 0..1.

    Returns:
        (c, h, w) float32, h = w = `config.image_size`.

    Source: the authors' image_processing_vlm.py. Sides are computed in their order and in double precision,
    since they are truncated (97×53 becomes 64×34); Pillow resamples in 8 bits.
    """
    square = to_square(picture, config)
    values = (np.asarray(square, dtype=np.float64) * config.rescale_factor).astype(np.float32)
    if config.do_normalize:
        mean, std = (np.array(c, dtype=np.float32) for c in (config.image_mean, config.image_std))
        values = (values - mean) / std
    return _to_channels_first(values)


def to_square(picture: Image.Image, config: PreprocessConfig) -> Image.Image:
    """Return the square that the vision tower sees of an RGB picture; one of that size stays as it is.

    So a picture that is to wait may wait as its square: `to_pixel_values` makes the same of both.
    """
    longer, size = max(picture.size), config.image_size
    width, height = (max(int(side / longer * size), config.min_size) for side in picture.size)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    background = tuple(int(mean * 255) for mean in config.image_mean)
    return _pad_to_square(resized, size, background)


def _pad_to_square(picture: Image.Image, size_px: int, background: tuple[int, ...] | float) -> Image.Image:
    if picture.size == (size_px, size_px):
        return picture
    square = Image.new(picture.mode, (size_px, size_px), background)
    square.paste(picture, ((size_px - picture.width) // 2, (size_px - picture.height) // 2))
    return square


def fit_picture(picture: Image.Image, size_px: int, fit: Fit) -> Image.Image:
    """Bring an RGB picture to a square, by bicubic resampling; one of the exact size is returned untouched.

    Args:
        picture: mode RGB, from `read_picture`.
        size_px: side of the square.
        fit: crop keeps the middle of the longer side, pad keeps everything on mid grey, stretch distorts.

    Returns:
        A picture of `size_px` × `size_px`.

    Raises:
        ImageError: `fit` is none of the three.
    """
    return _to_square(picture, size_px, fit, Image.Resampling.BICUBIC, _MID_GREY)


def fit_mask(mask: Image.Image, size_px: int, fit: Fit) -> Image.Image:
    """Bring a mask of mode F to a square as `fit_picture` does its picture; padding is not masked."""
    # bilinear: bicubic resampling would overshoot 0..1 at the mask's edge
    return _to_square(mask, size_px, fit, Image.Resampling.BILINEAR, 0.0)


def _to_square(
    picture: Image.Image,
    size_px: int,
    fit: Fit,
    resample: Image.Resampling,
    background: tuple[int, ...] | float,
) -> Image.Image:
    _check_fit(fit)
    if picture.size == (size_px, size_px):
        return picture
    if fit == "pad":
        longer = max(picture.size)
        width, height = (max(round(side / longer * size_px), 1) for side in picture.size)
        return _pad_to_square(picture.resize((width, height), resample), size_px, background)
    width, height = picture.size
    left = top = 0.0
    if fit == "crop":
        side = min(picture.size)
        left, top = (width - side) / 2, (height - side) / 2
    # Equals resizing the whole and cropping, without the huge intermediate of a 1×5000 picture.
    box = (left, top, width - left, height - top)
    return picture.resize((size_px, size_px), resample, box=box)


def _check_fit(fit: str) -> None:
    if fit not in get_args(Fit):
        raise ImageError(f'Unknown fit "{fit}": choose one of {", ".join(get_args(Fit))}.')


def to_vq_input(source: Picture, size_px: int, fit: Fit) -> Tensor:
    """Turn any picture into the VQ tokenizer's input.

    A floating point tensor or array of exactly the model's size is not rounded to 8 bits, so that a drawn
    picture is encoded without loss. Everything else goes through `read_picture` and `fit_picture`.

    Args:
        source: as for `read_picture`.
        size_px: side of the model's pictures.
        fit: as for `fit_picture`.

    Returns:
        (c, h, w) float32 in -1..1, h = w = `size_px`.

    Raises:
        ImageError: as `read_picture` and `fit_picture`.

    Source: the authors' vq_model.py.
    """
    return _to_channels_first(fitted_samples(source, size_px, fit) * 2 - 1)


def fitted_samples(source: Picture, size_px: int, fit: Fit) -> npt.NDArray[np.float32]:
    """Return any picture at the model's size as samples (h, w, 3) float32 in 0..1; see `to_vq_input`."""
    _check_fit(fit)
    if isinstance(source, (Tensor, np.ndarray)):
        samples = read_samples(source)
        if samples.shape[:2] == (size_px, size_px):
            return samples
        picture = samples_to_picture(samples)
    else:
        picture = read_picture(source)
    return np.asarray(fit_picture(picture, size_px, fit)).astype(np.float32) / np.float32(255)


def to_vq_inputs(sources: Picture | Sequence[Picture], size_px: int, fit: Fit) -> Tensor:
    """Turn one picture, a batch or several into the VQ tokenizer's input (b, c, h, w), each as `to_vq_input`.

    Raises:
        ImageError: there is no picture; also as `to_vq_input`.
    """
    several = as_several(sources)
    if not several:
        raise ImageError("There is no picture to encode. Give at least one.")
    return torch.stack([to_vq_input(source, size_px, fit) for source in several])


def _to_channels_first(values: npt.NDArray[np.float32]) -> Tensor:
    return rearrange(torch.from_numpy(values), "h w c -> c h w").contiguous()


def to_images(pixels: Tensor) -> Tensor:
    """Turn the VQ tokenizer's output into pictures for people and hosts.

    Args:
        pixels: (b, c, h, w) about -1..1, any floating dtype.

    Returns:
        (b, h, w, c) float32 in 0..1, on the same device.
    """
    return rearrange((pixels.float() + 1) / 2, "b c h w -> b h w c").clamp(0, 1).contiguous()


def to_uint8(images: Tensor) -> npt.NDArray[np.uint8]:
    """Turn pictures into 8-bit samples as the authors save them: truncated, not rounded.

    Args:
        images: (b, h, w, c) in 0..1.

    Returns:
        (b, h, w, c) uint8.

    Source: the authors' generation_inference.py.
    """
    truncated = (images.detach().float().clamp(0, 1) * 255).to(torch.uint8)  # conversion truncates
    samples: npt.NDArray[np.uint8] = truncated.cpu().numpy()
    return samples
