"""A random VAE of SDXL's shape, small enough for a test to decode with it."""

from __future__ import annotations

import numpy as np


def vae_tensors(latent_channels: int = 4) -> dict[str, np.ndarray]:
    """Return a random decoder of SDXL's shape, a quarter as wide, under the names of its own file."""
    made = np.random.default_rng(0)
    channels, tensors = 32, {}

    def layer(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = (made.standard_normal(shape) * np.prod(shape[1:]) ** -0.5).astype(
            np.float32
        )
        tensors[f"{name}.bias"] = np.zeros(shape[0], np.float32)

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = (
            np.ones(width, np.float32),
            np.zeros(width, np.float32),
        )

    def block(name: str, before: int, after: int) -> None:
        norm(f"{name}.norm1", before)
        layer(f"{name}.conv1", after, before, 3, 3)
        norm(f"{name}.norm2", after)
        layer(f"{name}.conv2", after, after, 3, 3)
        if before != after:
            layer(f"{name}.nin_shortcut", after, before, 1, 1)

    top = 4 * channels
    layer("post_quant_conv", latent_channels, latent_channels, 1, 1)
    layer("decoder.conv_in", top, latent_channels, 3, 3)
    block("decoder.mid.block_1", top, top)
    block("decoder.mid.block_2", top, top)
    norm("decoder.mid.attn_1.norm", top)
    for name in ("q", "k", "v", "proj_out"):
        layer(f"decoder.mid.attn_1.{name}", top, top, 1, 1)
    widths = {3: top, 2: top, 1: 2 * channels, 0: channels}
    before = top
    for level, width in widths.items():
        for index in range(3):
            block(f"decoder.up.{level}.block.{index}", before if index == 0 else width, width)
        if level:
            layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
        before = width
    norm("decoder.norm_out", channels)
    layer("decoder.conv_out", 3, channels, 3, 3)
    return tensors
