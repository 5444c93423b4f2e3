"""Masks over pictures: where to redraw, which cells of the grid that means, and how to paste the result back.

1 is redrawn, 0 is kept, and what lies between blends. Nothing here knows of models or sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange, reduce, repeat
from PIL import Image
from torch import Tensor

from ..errors import ImageError
from .preprocessing import Fit, fit_mask

Mask: TypeAlias = Image.Image | Tensor | npt.NDArray[np.generic]

_REDRAWN_ABOVE = 0.5  # a cell is redrawn when its largest mask value exceeds this


def read_masks(mask: Mask) -> list[npt.NDArray[np.float32]]:
    """Return the masks (h, w) float32 in 0..1 of one mask or of a batch (b, h, w).

    Raises:
        ImageError: no mask, another number of axes, no pixels, or values that are no numbers.
    """
    values = _values(mask)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ImageError(
            f"A mask has shape {tuple(values.shape)}; give one with the axes (rows, columns) or (masks, "
            "rows, columns), at least 1×1."
        )
    if not np.isfinite(values).all():
        raise ImageError("A mask holds values that are NaN or infinite. Give values in 0..1.")
    batch = values[None] if values.ndim == 2 else values  # (masks, h, w)
    return list(batch.clip(0, 1))


def _values(mask: Mask) -> npt.NDArray[np.float32]:
    if isinstance(mask, Image.Image):
        return np.asarray(mask.convert("L"), dtype=np.float32) / np.float32(255)
    try:
        if isinstance(mask, Tensor):
            return mask.detach().to("cpu", torch.float32).numpy()
        if isinstance(mask, np.ndarray):
            return mask.astype(np.float32)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ImageError(f"A mask has no values that can be read: {reason}. Give plain numbers.") from error
    raise ImageError(f"A {type(mask).__name__} is no mask. Give a tensor, an array or a PIL picture.")


def fit_masks(
    masks: Sequence[npt.NDArray[np.float32]], sizes: Sequence[tuple[int, int]], size_px: int, fit: Fit
) -> Tensor:
    """Bring masks to the model's size the way their pictures go.

    Args:
        masks: (h, w) each; one of another size than its picture is stretched over it first.
        sizes: (width, height) of each mask's picture.
        size_px: side of the model's pictures.
        fit: as for `fit_picture`.

    Returns: (b, size_px, size_px) float32 in 0..1.
    """
    fitted = []
    for values, size in zip(masks, sizes, strict=True):
        mask = Image.fromarray(np.ascontiguousarray(values))  # mode F
        if mask.size != size:
            mask = mask.resize(size, Image.Resampling.BILINEAR)
        fitted.append(np.asarray(fit_mask(mask, size_px, fit)))
    return torch.from_numpy(np.stack(fitted))  # (b, size_px, size_px)


def redrawn_cells(masks: Tensor, side: int) -> Tensor:
    """Return which cells (b, side²) bool of a grid masks (b, h, w) have redrawn."""
    largest = reduce(masks, "b (h y) (w x) -> b (h w)", "max", h=side, w=side)  # a single pixel counts
    return largest > _REDRAWN_ABOVE


def shares(masks: Tensor, cells: Tensor, side: int) -> Tensor:
    """Return how much (b, h, w, 1) of each pixel is taken from the new picture.

    It is the mask's value in cells that are redrawn, and 0 outside.

    Args:
        masks: (b, h, w).
        cells: (b, side²) bool.
        side: cells along one side.
    """
    size = masks.shape[-1] // side
    grid = rearrange(cells, "b (h w) -> b h w", h=side)  # (b, side, side)
    pixels = repeat(grid, "b h w -> b (h y) (w x)", y=size, x=size)  # every cell over its pixels
    return (masks * pixels)[..., None]  # (b, h, w, 1)


def paste(original: Tensor, new: Tensor, share: Tensor) -> Tensor:
    """Blend pictures (b, h, w, c); where the share (b, h, w, 1) is 0 or 1 one of them comes back exactly."""
    return new * share + original * (1 - share)
