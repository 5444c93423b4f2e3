"""The VQ tokenizer: pictures to image tokens and back. Knows nothing of language, prompts or sampling.

Both halves are convolutional, with attention at the lowest resolution only. Codes have unit length wherever
they are compared or looked up. Pixel values lie in −1..1.
Source: Esser et al. 2021 (arXiv:2012.09841), Sun et al. 2024 (arXiv:2406.06525); the authors' vq_model.py.
Unlike theirs, upsampling keeps its input's dtype, so float16 works.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import VQConfig
from .layers import Operations, embedding

_NORM_EPS = 1e-6  # the authors'; torch's own default is 1e-5


class Resolutions(Protocol):
    """What an encoder or decoder is built from: how many channels and blocks each resolution has."""

    @property
    def base_channels(self) -> int:
        """Channels at the picture's own resolution, in units of which the others are given."""

    @property
    def channel_multipliers(self) -> tuple[int, ...]:
        """Channels of each resolution from the highest down, in units of `base_channels`."""

    @property
    def num_res_blocks(self) -> int:
        """Residual blocks of each resolution; a decoder has one more."""

    @property
    def latent_channels(self) -> int:
        """Channels between encoder and decoder."""


class Layers:
    """Makes the tokenizer's convolutions and group norms, with its number of groups filled in."""

    def __init__(self, norm_groups: int, operations: Operations) -> None:
        self.conv = operations.Conv2d
        self._norm = operations.GroupNorm
        self._groups = norm_groups

    def norm(self, channels: int) -> nn.GroupNorm:
        """Return a group norm over `channels` channels."""
        return self._norm(self._groups, channels, eps=_NORM_EPS)


class ResBlock(nn.Module):
    """Two normalised 3×3 convolutions added to the input, which a 1×1 convolution widens where needed."""

    def __init__(self, in_channels: int, out_channels: int, layers: Layers) -> None:
        super().__init__()
        self.norm1 = layers.norm(in_channels)
        self.conv1 = layers.conv(in_channels, out_channels, 3, padding=1)
        self.norm2 = layers.norm(out_channels)
        self.conv2 = layers.conv(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = layers.conv(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c', h, w)."""
        inner = self.conv1(F.silu(self.norm1(x)))  # (b, c', h, w)
        inner = self.conv2(F.silu(self.norm2(inner)))
        return (x if self.nin_shortcut is None else self.nin_shortcut(x)) + inner


class SpatialAttention(nn.Module):
    """Single-head attention among all positions of a feature map, added to the input."""

    def __init__(self, channels: int, layers: Layers) -> None:
        super().__init__()
        self.norm = layers.norm(channels)
        self.q = layers.conv(channels, channels, 1)
        self.k = layers.conv(channels, channels, 1)
        self.v = layers.conv(channels, channels, 1)
        self.proj_out = layers.conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h, w)."""
        normed = self.norm(x)
        q, k, v = (rearrange(conv(normed), "b c h w -> b 1 (h w) c") for conv in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)  # (b, 1, n, c)
        return x + self.proj_out(rearrange(mixed, "b 1 (h w) c -> b c h w", h=x.shape[2]))


class Downsample(nn.Module):
    """Halve both sides by a strided convolution after padding right and bottom by one."""

    def __init__(self, channels: int, layers: Layers) -> None:
        super().__init__()
        self.conv = layers.conv(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h/2, w/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # one-sided, as trained; `padding=1` would shift by a pixel


class Upsample(nn.Module):
    """Double both sides by repetition, then smooth by a convolution."""

    def __init__(self, channels: int, layers: Layers) -> None:
        super().__init__()
        self.conv = layers.conv(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention if the level has it, then a resampler."""

    def __init__(self, res: nn.ModuleList, attn: nn.ModuleList, resample: dict[str, nn.Module]) -> None:
        super().__init__()
        self.res = res
        self.attn = attn  # one for each block, or none
        for name, module in resample.items():  # "downsample" or "upsample", as the published tensors say
            self.add_module(name, module)
        self.resample_name = next(iter(resample), None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c', h', w')."""
        for index, block in enumerate(self.res):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        return x if self.resample_name is None else self.get_submodule(self.resample_name)(x)


def _level(
    channels: tuple[int, int], blocks: int, attends: bool, resample: str | None, layers: Layers
) -> Level:
    """Build one level from `channels` (in, out); `resample` is "downsample", "upsample" or None."""
    first, out = channels  # only the first block changes the width
    res = nn.ModuleList(ResBlock(first if i == 0 else out, out, layers) for i in range(blocks))
    attn = nn.ModuleList(SpatialAttention(out, layers) for _ in range(blocks if attends else 0))
    kinds = {"downsample": Downsample, "upsample": Upsample}
    return Level(res, attn, {} if resample is None else {resample: kinds[resample](out, layers)})


def _middle(channels: int, layers: Layers) -> nn.Sequential:
    return nn.Sequential(
        ResBlock(channels, channels, layers),
        SpatialAttention(channels, layers),
        ResBlock(channels, channels, layers),
    )


class Encoder(nn.Module):
    """Pixel values (b, 3, H, W) to latents (b, latent_channels, h, w)."""

    def __init__(self, config: VQConfig, layers: Layers) -> None:
        super().__init__()
        widths = [config.base_channels * m for m in config.channel_multipliers]
        last = len(widths) - 1  # the lowest resolution: attends, and is not downsampled
        self.conv_in = layers.conv(3, config.base_channels, 3, padding=1)
        self.conv_blocks = nn.ModuleList(
            _level(
                (config.base_channels if i == 0 else widths[i - 1], widths[i]),
                config.num_res_blocks,
                i == last,
                None if i == last else "downsample",
                layers,
            )
            for i in range(len(widths))
        )
        self.mid = _middle(widths[-1], layers)
        self.norm_out = layers.norm(widths[-1])
        self.conv_out = layers.conv(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, 3, H, W) to (b, latent_channels, h, w)."""
        x = self.conv_in(x)  # (b, base_channels, H, W)
        for level in self.conv_blocks:
            x = level(x)  # halves both sides, except the last
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))  # (b, latent_channels, h, w)


class Decoder(nn.Module):
    """Latents (b, latent_channels, h, w) to pixel values; level 0 is the lowest resolution.

    A VAE's has attention in the middle alone, a VQ tokenizer's at the whole lowest level.
    """

    def __init__(self, config: Resolutions, layers: Layers, *, attends: bool = True) -> None:
        super().__init__()
        widths = [config.base_channels * m for m in reversed(config.channel_multipliers)]
        last = len(widths) - 1
        self.conv_in = layers.conv(config.latent_channels, widths[0], 3, padding=1)
        self.mid = _middle(widths[0], layers)
        self.conv_blocks = nn.ModuleList(
            _level(
                (widths[max(i - 1, 0)], widths[i]),
                config.num_res_blocks + 1,  # one more than in the encoder, as in the published weights
                attends and i == 0,
                None if i == last else "upsample",
                layers,
            )
            for i in range(len(widths))
        )
        self.norm_out = layers.norm(widths[-1])
        self.conv_out = layers.conv(widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Map (b, latent_channels, h, w) to (b, 3, H, W)."""
        x = self.mid(self.conv_in(z))  # (b, widths[0], h, w)
        for level in self.conv_blocks:
            x = level(x)  # doubles both sides, except the last
        return self.conv_out(F.silu(self.norm_out(x)))  # (b, 3, H, W)


class VQTokenizer(nn.Module):
    """Encoder, codebook and decoder."""

    def __init__(self, config: VQConfig, operations: Operations) -> None:
        super().__init__()
        self.config = config
        layers = Layers(config.norm_groups, operations)
        self.encoder = Encoder(config, layers)
        self.decoder = Decoder(config, layers)
        self.codebook = embedding(config.codebook_size, config.code_width, operations)
        self.quant_conv = operations.Conv2d(config.latent_channels, config.code_width, 1)
        self.post_quant_conv = operations.Conv2d(config.code_width, config.latent_channels, 1)

    def codes(self, tokens: Tensor) -> Tensor:
        """Return the codes (…, c) float32, of unit length, of image tokens (…,) int64."""
        # float32 whatever dtype the table is stored in: half precision would round every cosine
        return F.normalize(self.codebook(tokens).float(), dim=-1)

    def latents(self, pixel_values: Tensor) -> Tensor:
        """Return latents (b, c, h, w), not yet quantised, of pixel values (b, 3, H, W) in −1..1."""
        return self.quant_conv(self.encoder(pixel_values))

    def nearest(self, latents: Tensor) -> Tensor:
        """Return for each latent of (b, c, h, w) the image token of its nearest code, (b, h, w) int64.

        Both are of unit length, so the nearest code is the one with the largest cosine. Computed in float32,
        since half precision cannot tell neighbouring codes apart.
        """
        table = self.codes(torch.arange(self.config.codebook_size, device=latents.device))  # (v, c)
        directions = F.normalize(rearrange(latents.float(), "b c h w -> b h w c"), dim=-1)  # (b, h, w, c)
        return (directions @ table.T).argmax(dim=-1)  # (b, h, w)

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return the image tokens (b, h, w) int64 of pixel values (b, 3, H, W) in −1..1."""
        return self.nearest(self.latents(pixel_values))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Return pixel values (b, 3, H, W), about −1..1, of codes (b, c, h, w)."""
        return self.decoder(self.post_quant_conv(codes))

    def decode(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """Return pixel values (b, 3, H, W), about −1..1 and not clamped, of image tokens (b, h, w) int64."""
        # channels last in memory as codes are looked up, and so through all layers on a CPU
        return self.decode_codes(rearrange(self.codes(tokens).to(dtype), "b h w c -> b c h w"))
