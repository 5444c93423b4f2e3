"""SigLIP's vision transformer: pixel values in, one feature vector per patch out.

No class token, no pooling head, learned positions without interpolation. Knows nothing of language or
prompts.
Source: Zhai et al. 2023 (arXiv:2303.15343); the authors' siglip_vit.py.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import VisionConfig
from .layers import MLP, Operations, attend, embedding

_NORM_EPS = 1e-6  # timm's, which the authors' tower comes from; torch's own default is 1e-5


class VisionAttention(nn.Module):
    """Self-attention over patches with one fused projection for queries, keys and values."""

    def __init__(self, config: VisionConfig, operations: Operations) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = operations.Linear(config.width, 3 * config.width)
        self.proj = operations.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, n, c) to (b, n, c)."""
        q, k, v = rearrange(
            self.qkv(x), "b n (three heads head_dim) -> three b heads n head_dim", three=3, heads=self.heads
        )  # (b, heads, n, head_dim) each
        return self.proj(attend(q, k, v))  # (b, n, c)


class VisionBlock(nn.Module):
    """Pre-norm transformer block: attention and MLP, each added to its input."""

    def __init__(self, config: VisionConfig, operations: Operations) -> None:
        super().__init__()
        self.norm1 = operations.LayerNorm(config.width, eps=_NORM_EPS)
        self.attention = VisionAttention(config, operations)
        self.norm2 = operations.LayerNorm(config.width, eps=_NORM_EPS)
        self.mlp = MLP(config.width, config.mlp_width, operations)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, n, c) to (b, n, c)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTower(nn.Module):
    """Patch embedding, learned positions, blocks and a final norm."""

    def __init__(self, config: VisionConfig, operations: Operations) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = operations.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)
        # a module, not a parameter of the tower, so that a host can stream it as any other layer
        self.position_embedding = embedding(config.num_patches, config.width, operations)
        self.blocks = nn.ModuleList(VisionBlock(config, operations) for _ in range(config.layers))
        self.norm = operations.LayerNorm(config.width, eps=_NORM_EPS)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return image features (b, n, c) of pixel values (b, 3, h, w) in −1..1, in their dtype."""
        if self.config.pixel_mean is not None and self.config.pixel_std is not None:
            mean, std = pixel_values.new_tensor([self.config.pixel_mean, self.config.pixel_std])
            pixel_values = (pixel_values - mean[:, None, None]) / std[:, None, None]
        x = rearrange(self.patch_embedding(pixel_values), "b c h w -> b (h w) c")  # (b, n, c), row by row
        x = x + self.position_embedding(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            x = block(x)  # (b, n, c)
        return self.norm(x)
