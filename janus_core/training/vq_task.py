"""Stage "vq": the VQ tokenizer learns to keep and restore pictures.

Reconstruction by absolute difference, of pixels and of their differences to neighbours (edges); codebook and
commitment terms on the unit sphere. Source: van den Oord et al. 2017 (arXiv:1711.00937); Yu et al. 2022
(arXiv:2110.04627) for unit-length codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..vq_tokenizer import VQTokenizer

_COMMITMENT = 0.25
_EDGES = 1.0
_REVIVE_EVERY = 50  # micro-batches between revivals of unused codes
_REVIVE_UNTIL = 0.6  # share of the stage in which codes are revived

Pictures = Callable[[int], Tensor]


class VQTask:
    """Reconstruction of the world's pictures through the codebook."""

    def __init__(self, vq_tokenizer: VQTokenizer, pictures: Pictures, samples: int) -> None:
        """Keep what to train.

        Args:
            vq_tokenizer: the learner.
            pictures: sample number to pixel values (b, 3, h, w) in −1..1 on the learner's device.
            samples: micro-batches of the whole stage.
        """
        self.vq, self.pictures, self.samples = vq_tokenizer, pictures, samples

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return all parameters of the VQ tokenizer."""
        return self.vq.parameters()

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return the terms for one micro-batch."""
        pixels = self.pictures(sample)
        latents = F.normalize(self.vq.latents(pixels).float(), dim=1)
        if sample % _REVIVE_EVERY == 0 and sample < _REVIVE_UNTIL * self.samples:
            self._revive(latents, sample)
        with torch.autocast(pixels.device.type, enabled=False):  # codes are compared in float32
            codes = rearrange(self.vq.codes(self.vq.nearest(latents.detach())), "b h w c -> b c h w")
        passed = latents + (codes - latents).detach()  # straight through
        restored = self.vq.decode_codes(passed)
        return {
            "pixels": (restored - pixels).abs().mean(),
            "edges": _EDGES * _edge_difference(restored, pixels),
            "codebook": (codes - latents.detach()).square().mean() * codes.shape[1],
            "commitment": _COMMITMENT * (latents - codes.detach()).square().mean() * codes.shape[1],
        }

    @torch.no_grad()
    def _revive(self, latents: Tensor, sample: int) -> None:
        """Move codes that this batch does not use onto some of its latents, chosen by the sample's number."""
        flat = rearrange(latents, "b c h w -> (b h w) c")
        used = torch.zeros(self.vq.config.codebook_size, dtype=torch.bool, device=flat.device)
        used[self.vq.nearest(latents).flatten()] = True
        unused = (~used).nonzero()[:, 0]
        generator = torch.Generator().manual_seed(sample)
        chosen = torch.randint(len(flat), (len(unused),), generator=generator)
        self.vq.codebook.weight[unused] = flat[chosen.to(flat.device)]


def _edge_difference(first: Tensor, second: Tensor) -> Tensor:
    """Compare differences to the neighbours below and to the right."""
    down, right = ((first.diff(dim=axis) - second.diff(dim=axis)).abs().mean() for axis in (2, 3))
    return down + right
