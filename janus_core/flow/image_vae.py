"""The decoder of a VAE such as SDXL's: latents to pictures, at eight times their size.

It is built like the VQ tokenizer's decoder and shares its blocks. It runs in float32: SDXL's overflows in
float16. Source: Rombach et al. 2022 (arXiv:2112.10752).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError, ImageError
from ..model.vq_tokenizer import Decoder, Layers

_NORM_GROUPS = 32  # in every published one


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """The decoder's resolutions.

    Attributes:
        base_channels: at the picture's own resolution.
        channel_multipliers: of each resolution from the highest down, in units of `base_channels`.
        num_res_blocks: of an encoder's resolution; a decoder has one more.
        latent_channels: of the latents.
    """

    base_channels: int
    channel_multipliers: tuple[int, ...]
    num_res_blocks: int
    latent_channels: int

    def __post_init__(self) -> None:
        if self.base_channels % _NORM_GROUPS:
            raise ConfigError(
                f"The VAE has {self.base_channels} channels, which do not split into {_NORM_GROUPS} groups."
            )


class ImageVAE(nn.Module):
    """The decoding half of a VAE."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config, Layers(_NORM_GROUPS, nn), attends=False)

    def forward(self, latents: Tensor) -> Tensor:
        """Return pixel values (b, 3, 8h, 8w), about −1..1, of unscaled latents (b, c, h, w)."""
        return self.decoder(self.post_quant_conv(latents))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Return pixel values (b, 3, 8h, 8w) of unscaled latents (b, c, h, w), on the VAE's device.

        Raises:
            ImageError: they are not finite.
        """
        weight = self.post_quant_conv.weight
        pixels: Tensor = self(latents.to(weight.device, weight.dtype))  # (b, 3, 8h, 8w)
        if not bool(pixels.isfinite().all()):
            raise ImageError(
                "The VAE gave numbers that are not finite. Its file is damaged or was saved with overflown "
                "values: fetch another copy, for example sdxl_vae.safetensors."
            )
        return pixels
