"""IMAGE batches to the core's pictures and back; which picture of a batch an error is about."""

import contextlib
from collections.abc import Iterator

import comfy.model_management as mm
import torch
from torch import Tensor

from ...janus_core import ImageError, PromptTooLongError, SamplingError, check_picture


def to_pictures(image: Tensor | None, name: str = "image") -> list[Tensor]:
    """Split an IMAGE batch (b, h, w, c) into pictures (h, w, c); no connection gives none.

    Raises:
        ImageError: an empty batch, another shape, or a picture that cannot be used; its number is named,
            before any work is done on the others.
    """
    if image is None:
        return []
    if image.ndim != 4:
        raise ImageError(
            f'The input "{name}" has shape {tuple(image.shape)}; a batch of pictures has four axes '
            "(pictures, rows, columns, channels). Connect an IMAGE."
        )
    if 0 in image.shape:
        raise ImageError(
            f'The input "{name}" is an empty batch of shape {tuple(image.shape)}. Connect at least one '
            "picture."
        )
    pictures = list(image.detach().to("cpu", torch.float32))
    for number, picture in enumerate(pictures, start=1):
        try:
            check_picture(picture)
        except ImageError as error:
            if len(pictures) == 1:
                raise
            raise ImageError(f'Picture {number} of {len(pictures)} in "{name}": {error}') from error
    return pictures


@contextlib.contextmanager
def pictures_named(what: str, count: int) -> Iterator[None]:
    """Name the pictures or answers of a batch whose numbers are broken, where there are several."""
    try:
        yield
    except SamplingError as error:
        if not error.rows or count == 1:
            raise
        numbers = ", ".join(str(row + 1) for row in error.rows)
        raise SamplingError(f"{what} {numbers} of {count}: {error}", error.rows) from error


@contextlib.contextmanager
def ask_each_named(pictures: int) -> Iterator[None]:
    """Say of a question about more pictures than the context holds that it can be asked about each."""
    try:
        yield
    except PromptTooLongError as error:
        if pictures < 2:
            raise
        raise PromptTooLongError(
            f"{error} The question is about {pictures} pictures at once; ask_each asks it about each of them "
            "alone."
        ) from error


def to_image(images: Tensor) -> Tensor:
    """Return pictures (b, h, w, 3) in 0..1 with the device and dtype of ComfyUI's intermediate results."""
    return _as_intermediate(images)


def to_latent(latents: Tensor) -> Tensor:
    """Return latents (b, 4, h, w) with the device and dtype of ComfyUI's intermediate results."""
    return _as_intermediate(latents)


def _as_intermediate(result: Tensor) -> Tensor:
    dtype = mm.intermediate_dtype() if hasattr(mm, "intermediate_dtype") else torch.float32
    return result.to(mm.intermediate_device(), dtype)
