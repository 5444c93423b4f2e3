"""IMAGE batches to the engine's pictures and back."""

import comfy.model_management as mm
import torch
from torch import Tensor

from ...janus_core import ImageError


def to_pictures(image: Tensor | None, name: str = "image") -> list[Tensor]:
    """Split an IMAGE batch (b, h, w, c) into pictures (h, w, c); no connection gives none.

    Raises:
        ImageError: an empty batch or another shape. The engine checks channels and values.
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
    return list(image.detach().to("cpu", torch.float32))


def to_image(images: Tensor) -> Tensor:
    """Return pictures (b, h, w, 3) in 0..1 with the device and dtype of ComfyUI's intermediate results."""
    dtype = mm.intermediate_dtype() if hasattr(mm, "intermediate_dtype") else torch.float32
    return images.to(mm.intermediate_device(), dtype)
