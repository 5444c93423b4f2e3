"""Stage "vq": the VQ tokenizer learns to keep and restore pictures.

Reconstruction by absolute and squared difference of pixels, and of their differences to neighbours (edges);
codebook and commitment terms on the unit sphere; equal patches are drawn together. Source: van den Oord et
al. 2017 (arXiv:1711.00937); Yu et al. 2022 (arXiv:2110.04627) for unit-length codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from janus_core.model.vq_tokenizer import VQTokenizer

_COMMITMENT = 0.25
_SQUARES = 2.0  # small objects on a plain ground are far off at first, and squares see that
_EDGES = 1.0
_ALIKE = 4.0  # keeps the latents of equal patches within about 0.05 of each other
_LEVELS = 32  # to which pixels are rounded before patches are compared
_DETAIL = 4.0  # what pixels near outlines count more: they tell shapes apart, and are few
_CLEAR_EDGE = 0.5  # difference of neighbouring pixels that is an outline; the marks of a ground are fainter
_FREE_SHARE = 0.4  # share of the stage before codes are used
_BLUR = 0.05  # noise on each coordinate of a latent until then, about the error that codes will make
_PLACED_TO = 0.8  # share of the stage in which unused codes are still moved
_PLACINGS = 8  # of codes in that time
_PLACED_BY = 24  # micro-batches whose latents the codes are placed by
_ROUNDS = 8  # of k-means

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

    def begin(self) -> None:
        """Take over nothing: this stage starts from first weights."""

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return the terms for one micro-batch.

        At first latents pass without codes, blurred; then codes are placed among them and take part. From
        codes that mean nothing yet an encoder learns little.
        """
        pixels = self.pictures(sample)
        latents = self._latents(pixels)
        alike = _ALIKE * _difference_of_like(latents, pixels)
        first = int(_FREE_SHARE * self.samples)
        if sample < first:
            restored = self.vq.decode_codes(self._blurred(latents, sample))
            return {**_picture_terms(restored, pixels), "alike": alike}
        every = max(int((_PLACED_TO - _FREE_SHARE) * self.samples) // _PLACINGS, 1)
        if (sample - first) % every == 0 and sample <= _PLACED_TO * self.samples:
            self._place_codes(sample, are_new=sample == first)
        with torch.autocast(pixels.device.type, enabled=False):  # codes are compared in float32
            codes = rearrange(self.vq.codes(self.vq.nearest(latents.detach())), "b h w c -> b c h w")
        passed = latents + (codes - latents).detach()  # straight through
        return {
            **_picture_terms(self.vq.decode_codes(passed), pixels),
            "alike": alike,
            "codebook": (codes - latents.detach()).square().mean() * codes.shape[1],
            "commitment": _COMMITMENT * (latents - codes.detach()).square().mean() * codes.shape[1],
        }

    def _latents(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.vq.latents(pixels).float(), dim=1)

    def _blurred(self, latents: Tensor, sample: int) -> Tensor:
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(sample))
        return F.normalize(latents + _BLUR * noise.to(latents.device), dim=1)

    @torch.no_grad()
    def _place_codes(self, sample: int, are_new: bool) -> None:
        """Move codes onto latents of the coming pictures: all of them by k-means, or only the unused ones.

        Equal patches count once, or most codes would go to the ground, which is everywhere.
        """
        pixels = torch.cat([self.pictures(sample + ahead) for ahead in range(_PLACED_BY)])
        parts = torch.split(pixels, max(len(pixels) // _PLACED_BY, 1))
        latents = F.normalize(_means_of_like(torch.cat([self._latents(part) for part in parts]), pixels)[0])
        table, generator = self.vq.codebook.weight, torch.Generator().manual_seed(sample)
        unused = torch.ones(len(table), dtype=torch.bool, device=table.device)
        if not are_new:
            unused[(latents @ F.normalize(table, dim=1).T).argmax(dim=1)] = False
        chosen = torch.randint(len(latents), (int(unused.sum()),), generator=generator)
        table[unused] = latents[chosen.to(latents.device)]
        for _ in range(_ROUNDS if are_new else 0):
            nearest = (latents @ table.T).argmax(dim=1)
            sums = torch.zeros_like(table).index_add_(0, nearest, latents)
            table.copy_(torch.where(sums.any(dim=1, keepdim=True), F.normalize(sums, dim=1), table))


def _picture_terms(restored: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    error, weight = restored - pixels, 1 + _DETAIL * _outlines(pixels)
    return {
        "pixels": (weight * error.abs()).mean(),
        "squares": _SQUARES * (weight * error.square()).mean(),
        "edges": _EDGES * _edge_difference(restored, pixels),
    }


def _difference_of_like(latents: Tensor, pixels: Tensor) -> Tensor:
    """Return how far latents of equal patches lie from their mean.

    An encoder sees beyond its patch and gives every patch of a plain ground a code of its own, which costs
    nothing in restoring and makes drawing unpredictable: whoever draws has to guess the whole picture first.
    """
    means, which = _means_of_like(latents, pixels)
    return (rearrange(latents, "b c h w -> (b h w) c") - means[which]).square().sum(dim=1).mean()


def _means_of_like(latents: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean latent of each different patch (n, c), and for every patch in turn which one it is."""
    size_px = pixels.shape[2] // latents.shape[2]
    levels = (pixels * (_LEVELS / 2)).round()
    patches = rearrange(levels, "b c (h p) (w q) -> (b h w) (c p q)", p=size_px, q=size_px)
    _, which, count = torch.unique(patches, dim=0, return_inverse=True, return_counts=True)
    rows = rearrange(latents, "b c h w -> (b h w) c")
    return rows.new_zeros(len(count), rows.shape[1]).index_add_(0, which, rows) / count[:, None], which


def _outlines(pixels: Tensor) -> Tensor:
    """Return (b, 1, h, w) in 0..1: 1 within two pixels of a clear edge."""
    down = F.pad(pixels.diff(dim=2), (0, 0, 0, 1))
    right = F.pad(pixels.diff(dim=3), (0, 1))
    edges = torch.maximum(down.abs(), right.abs()).amax(dim=1, keepdim=True) / _CLEAR_EDGE
    return F.max_pool2d(edges.clamp(max=1), kernel_size=5, stride=1, padding=2)


def _edge_difference(first: Tensor, second: Tensor) -> Tensor:
    """Compare differences to the neighbours below and to the right."""
    down, right = ((first.diff(dim=axis) - second.diff(dim=axis)).abs().mean() for axis in (2, 3))
    return down + right
