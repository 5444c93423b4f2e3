"""One image token for each different patch, whatever else the picture shows.

An encoder of convolutions and group norms sees the whole picture, so it gives one and the same patch now this
token, now a neighbouring one. A decoder restores either; but whoever learns to draw cannot tell which, and
learns noise. Here every patch keeps the token that it gets most often.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from janus_core.model.vq_tokenizer import VQTokenizer

_LEVELS = 255  # of a pixel, by which patches are compared
_NEVER_MET = -1


class PatchTokens:
    """The image tokens of pictures made of patches that have been met before; others get the encoder's."""

    def __init__(self, vq_tokenizer: VQTokenizer, pictures: Iterable[Tensor]) -> None:
        """Meet the patches of many pictures.

        Args:
            vq_tokenizer: trained; it does not learn any more.
            pictures: batches of pixel values (b, 3, h, w) in −1..1, on any device.
        """
        self._vq = vq_tokenizer
        met: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        for pixel_values in pictures:
            tokens = self._encode(pixel_values).flatten().tolist()
            for patch, token in zip(self._patches(pixel_values), tokens, strict=True):
                met[patch][token] += 1
        # of equally frequent tokens the lowest, so that the order of pictures does not matter
        self._token_of = {
            patch: min(tokens, key=lambda token: (-tokens[token], token)) for patch, tokens in met.items()
        }

    def __len__(self) -> int:
        return len(self._token_of)

    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Return the image tokens (b, h', w') int64 of pixel values (b, 3, h, w) in −1..1."""
        patches = self._patches(pixel_values)
        kept = [self._token_of.get(patch, _NEVER_MET) for patch in patches]
        device, side = self._vq.codebook.weight.device, pixel_values.shape[2] // self._vq.config.stride
        tokens = rearrange(torch.tensor(kept, device=device), "(b h w) -> b h w", b=len(pixel_values), h=side)
        strange = (tokens == _NEVER_MET).flatten(1).any(dim=1)
        if strange.any():  # rare, so that learning seldom waits for the encoder
            own = self._encode(pixel_values[strange.to(pixel_values.device)])
            tokens[strange] = torch.where(tokens[strange] == _NEVER_MET, own, tokens[strange])
        return tokens

    @torch.no_grad()
    def _encode(self, pixel_values: Tensor) -> Tensor:
        device = self._vq.codebook.weight.device
        with torch.autocast(device.type, enabled=False):  # codes are compared in float32
            return self._vq.encode(pixel_values.to(device))

    def _patches(self, pixel_values: Tensor) -> list[bytes]:
        """Return what each image token stands for, pixel by pixel, row by row and picture by picture."""
        size_px = self._vq.config.stride
        levels = ((pixel_values.detach().cpu() + 1) * (_LEVELS / 2)).round().to(torch.uint8)
        rows = rearrange(levels, "b c (h p) (w q) -> (b h w) (c p q)", p=size_px, q=size_px)
        return [patch.tobytes() for patch in np.asarray(rows)]
