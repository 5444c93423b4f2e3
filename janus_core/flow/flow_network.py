"""Latents to tokens and the language model's answer back to a velocity: what stands round the decoder.

It runs no decoder and steps through no time. Source: Ma et al. 2024 (arXiv:2411.07975); the authors' uvit.py
and modeling_vlm.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..model.layers import Operations
from .conv_blocks import BlockStack
from .flow_config import PATCH, FlowConfig

_LONGEST_PERIOD = 10000.0
_ALIGNER_NORM_EPS = 1e-6  # constant in the authors' class


def sinusoids(timesteps: Tensor, width: int) -> Tensor:
    """Return cosines, then sines, of timesteps (b,) at geometric frequencies: (b, width) float32.

    The timestep stays exact. The authors round it to the model's dtype first, which in bfloat16 moves 433.3
    to 434 and the velocity with it.
    """
    half = width // 2
    exponents = torch.arange(half, device=timesteps.device, dtype=torch.float32) / half  # (width / 2,)
    angles = timesteps.float()[:, None] * torch.exp(-math.log(_LONGEST_PERIOD) * exponents)  # (b, width / 2)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class TimeEmbedding(nn.Module):
    """The time as a vector of the model's width."""

    def __init__(self, sinusoid_width: int, width: int, operations: Operations) -> None:
        super().__init__()
        self.sinusoid_width = sinusoid_width
        self.linear_1 = operations.Linear(sinusoid_width, width)
        self.linear_2 = operations.Linear(width, width)

    def forward(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        """Return embeddings (b, d) in `dtype` of timesteps (b,) in 0..1000."""
        wave = sinusoids(timesteps, self.sinusoid_width).to(dtype)  # (b, sinusoid_width)
        return self.linear_2(F.silu(self.linear_1(wave)))


class FlowEncoder(nn.Module):
    """Latents to a feature map at half their size."""

    def __init__(self, config: FlowConfig, width: int, operations: Operations) -> None:
        super().__init__()
        self.time_embed = TimeEmbedding(config.channels, width, operations)
        self.in_conv = operations.Conv2d(config.latent_channels, config.channels, PATCH, stride=PATCH)
        self.mid_block = BlockStack(
            config.channels, config.encoder_blocks, width, config.norm_eps, operations
        )

    def forward(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (b, c, h, w) and the embedded time (b, d) of latents (b, 4, 2h, 2w)."""
        time = self.time_embed(timesteps, latents.dtype)  # (b, d)
        return self.mid_block(self.in_conv(latents), time), time


class FlowDecoder(nn.Module):
    """The language model's map, joined to the encoder's, to a velocity at twice their size."""

    def __init__(self, config: FlowConfig, width: int, operations: Operations) -> None:
        super().__init__()
        joined = 2 * config.channels
        self.input_norm = operations.RMSNorm(config.channels, eps=config.norm_eps)
        self.mid_block = BlockStack(joined, config.decoder_blocks, width, config.norm_eps, operations)
        self.norm = operations.RMSNorm(joined, eps=config.norm_eps)
        self.unpatch_conv = operations.Conv2d(joined, config.latent_channels * PATCH**2, 1)

    def forward(self, x: Tensor, skip: Tensor, time: Tensor) -> Tensor:
        """Map x and `skip`, both (b, c, h, w), to a velocity (b, 4, 2h, 2w)."""
        x = _over_channels(self.input_norm, x)
        x = self.mid_block(torch.cat((x, skip), dim=1), time)  # (b, 2c, h, w)
        return F.pixel_shuffle(self.unpatch_conv(_over_channels(self.norm, x)), PATCH)


def _over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    return rearrange(norm(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Latents at one time, as the language model and the decoder read them.

    Attributes:
        embeddings: (b, 1 + n, d): the time, then the latent tokens row by row.
        features: (b, c, h, w), for the decoder.
        time: (b, d).
    """

    embeddings: Tensor
    features: Tensor
    time: Tensor

    def repeated(self, times: int) -> Encoded:
        """Return the whole batch `times` times over."""
        return Encoded(
            embeddings=self.embeddings.repeat(times, 1, 1),
            features=self.features.repeat(times, 1, 1, 1),
            time=self.time.repeat(times, 1),
        )


class FlowNetwork(nn.Module):
    """Encoder, decoder and the aligners between them and the language model."""

    def __init__(self, config: FlowConfig, width: int, operations: Operations) -> None:
        super().__init__()
        self.encoder = FlowEncoder(config, width, operations)
        self.encoder_aligner = operations.Linear(config.channels, width)
        self.decoder_aligner_norm = operations.RMSNorm(width, eps=_ALIGNER_NORM_EPS)
        self.decoder_aligner = operations.Linear(width, config.channels)
        self.decoder = FlowDecoder(config, width, operations)

    def encode(self, latents: Tensor, timesteps: Tensor) -> Encoded:
        """Return what is read of latents (b, 4, 2h, 2w) at timesteps (b,) in 0..1000."""
        features, time = self.encoder(latents, timesteps)
        tokens = self.encoder_aligner(rearrange(features, "b c h w -> b (h w) c"))  # (b, n, d)
        return Encoded(embeddings=torch.cat((time[:, None], tokens), dim=1), features=features, time=time)

    def decode(self, hidden: Tensor, encoded: Encoded) -> Tensor:
        """Return the velocity (b, 4, 2h, 2w) from hidden states (b, n, d) at the places of the tokens."""
        return self.decoder(self.joined_input(hidden, encoded), encoded.features, encoded.time)

    def joined_input(self, hidden: Tensor, encoded: Encoded) -> Tensor:
        """Return hidden states (b, n, d) as a map (b, c, h, w)."""
        aligned = self.decoder_aligner(self.decoder_aligner_norm(hidden))  # (b, n, c)
        return rearrange(aligned, "b (h w) c -> b c h w", h=encoded.features.shape[2])
