"""Previews of a picture while it is drawn; cells not yet drawn are mid-grey.

They are rough: one colour per image token, a linear map of its code, fitted to a small decode. A real decode
would take a good part of the time of drawing on a CPU, and on a GPU it would delay the steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..inputs.preprocessing import to_uint8
from ..model.vq_tokenizer import VQTokenizer

_SIDE = 8  # the fit decodes a grid of 8 × 8 codes spread over the codebook
_GREY = 0.5


def fit_code_colours(vq_tokenizer: VQTokenizer, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the colour of every code: (v, 3) float32 in 0..1 on the CPU.

    Fits the mean colour of each decoded cell by least squares on its unit-length code and a constant.
    """
    size = vq_tokenizer.config.codebook_size
    spread = torch.arange(_SIDE * _SIDE, device=device) * size // (_SIDE * _SIDE)  # (64,), evenly spread
    decoded = vq_tokenizer.decode(rearrange(spread, "(h w) -> 1 h w", h=_SIDE), dtype).float()  # (1, 3, H, W)
    cells = F.adaptive_avg_pool2d((decoded.clamp(-1, 1) + 1) / 2, (_SIDE, _SIDE))  # (1, 3, 8, 8)
    colours = rearrange(cells, "1 c h w -> (h w) c").cpu()  # (64, 3)
    table = vq_tokenizer.codes(torch.arange(size, device=device)).float().cpu()  # (v, c)
    table = torch.cat((table, table.new_ones(size, 1)), dim=1)  # (v, c + 1), the constant last
    fitted: Tensor = torch.linalg.pinv(table[spread.cpu()]) @ colours  # (c + 1, 3)
    return (table @ fitted).clamp(0, 1)  # (v, 3)


def preview_image(tokens: Tensor, code_colours: Tensor, side: int, size_px: int) -> npt.NDArray[np.uint8]:
    """Return a picture (size_px, size_px, 3) in 8 bits of the cells drawn so far, the others mid-grey.

    Args:
        tokens: (cells so far,) int64.
        code_colours: from `fit_code_colours`.
        side: cells along one side of the grid.
        size_px: side of the picture, a multiple of `side`.
    """
    cells = code_colours.new_full((side * side, 3), _GREY)  # row by row
    cells[: len(tokens)] = code_colours[tokens.cpu()]
    samples: npt.NDArray[np.uint8] = to_uint8(cells.view(1, side, side, 3))[0]
    scale = size_px // side
    return samples.repeat(scale, axis=1).repeat(scale, axis=0)  # a row is widened before it is copied


class TokenWatch:
    """Copies the tokens drawn so far to the host, without waiting for the device.

    A copy is queued behind the steps so far and polled later; it arrives after the few steps that the host is
    ahead.
    """

    def __init__(self) -> None:
        self._copy: Tensor | None = None
        self._is_there: torch.cuda.Event | None = None

    def look(self, tokens: Tensor) -> None:
        """Begin a copy of tokens (cells so far,), unless one is pending."""
        if self._copy is not None:
            return
        self._copy = tokens.to("cpu", non_blocking=tokens.is_cuda, copy=True)
        if tokens.is_cuda:
            self._is_there = torch.cuda.Event()
            self._is_there.record(torch.cuda.current_stream(tokens.device))

    def seen(self) -> Tensor | None:
        """Return the copied tokens (cells,) on the CPU, once, after they have arrived; else None."""
        if self._copy is None or (self._is_there is not None and not self._is_there.query()):
            return None
        copy = self._copy
        self._copy = None
        self._is_there = None
        return copy
