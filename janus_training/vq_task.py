"""Stages "vq_decoder" and "vq_encoder": the VQ tokenizer learns what its tokens mean, and to find them.

The world says which token a cell has (`roles`), so nothing is left to chance: the decoder learns pixels from
given codes, codes and all, and the encoder learns which code a cell of any picture has. Plain VQ training
gives equal patches different tokens by what lies elsewhere, and a decoder of text cannot learn to draw them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from janus_core.model.vq_tokenizer import VQTokenizer

_SQUARES = 2.0  # small objects on a plain ground are far off at first, and squares see that
_EDGES = 1.0
_DETAIL = 4.0  # what pixels near outlines count more: they tell shapes apart, and are few
_CLEAR_EDGE = 0.5  # difference of neighbouring pixels that is an outline
_SHARPNESS = 16.0  # of the choice among codes; cosines alone are too flat to tell hundreds apart

TokensAndPixels = Callable[[int], tuple[Tensor, Tensor]]


class RestoringTask:
    """Codes to pixels: the decoder and the codebook."""

    def __init__(self, vq_tokenizer: VQTokenizer, pictures: TokensAndPixels) -> None:
        """Keep what to train.

        Args:
            vq_tokenizer: the learner.
            pictures: sample number to image tokens (b, h', w') and pixel values (b, 3, h, w) in −1..1.
        """
        self.vq = vq_tokenizer
        self.pictures = pictures

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what turns tokens into pixels."""
        parts = (self.vq.codebook, self.vq.post_quant_conv, self.vq.decoder)
        return [parameter for part in parts for parameter in part.parameters()]

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return the terms for one micro-batch."""
        tokens, pixels = self.pictures(sample)
        restored = self.vq.decode_codes(
            rearrange(self.vq.codes(tokens), "b h w c -> b c h w")
        )  # (b, 3, h, w)
        return _picture_terms(restored, pixels)


class RecognisingTask:
    """Pixels to codes: the encoder. The codebook does not learn any more."""

    def __init__(self, vq_tokenizer: VQTokenizer, pictures: TokensAndPixels) -> None:
        """Keep what to train, as `RestoringTask` does."""
        self.vq = vq_tokenizer
        self.pictures = pictures

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what turns pixels into latents."""
        return [*self.vq.encoder.parameters(), *self.vq.quant_conv.parameters()]

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return the cross-entropy of each cell's own code among all codes."""
        tokens, pixels = self.pictures(sample)
        latents = F.normalize(
            self.vq.latents(pixels).float(), dim=1
        )  # (b, c, h', w'), unit length like codes
        table = self.vq.codes(torch.arange(self.vq.config.codebook_size, device=latents.device))  # (v, c)
        logits = (
            _SHARPNESS * rearrange(latents, "b c h w -> (b h w) c") @ table.T
        )  # (cells, v), scaled cosines
        return {"codes": F.cross_entropy(logits, tokens.flatten())}


def _picture_terms(restored: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    error, weight = restored - pixels, 1 + _DETAIL * _outlines(pixels)
    return {
        "pixels": (weight * error.abs()).mean(),
        "squares": _SQUARES * (weight * error.square()).mean(),
        "edges": _EDGES * _edge_difference(restored, pixels),
    }


def _outlines(pixels: Tensor) -> Tensor:
    """Return (b, 1, h, w) in 0..1: 1 within two pixels of a clear edge."""
    down = F.pad(pixels.diff(dim=2), (0, 0, 0, 1))  # (b, 3, h, w), the last row without a neighbour
    right = F.pad(pixels.diff(dim=3), (0, 1))  # likewise, the last column
    edges = torch.maximum(down.abs(), right.abs()).amax(dim=1, keepdim=True) / _CLEAR_EDGE
    return F.max_pool2d(edges.clamp(max=1), kernel_size=5, stride=1, padding=2)


def _edge_difference(first: Tensor, second: Tensor) -> Tensor:
    """Compare differences to the neighbours below and to the right."""
    down, right = ((first.diff(dim=axis) - second.diff(dim=axis)).abs().mean() for axis in (2, 3))
    return down + right
