"""The ConvNeXt block that JanusFlow's encoder and decoder are made of, steered by the time.

Source: Woo et al. 2023 (arXiv:2301.00808); Ma et al. 2024 (arXiv:2411.07975); the authors' uvit.py. Norms
over channels are RMS norms there, not layer norms.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..model.layers import Operations

_KERNEL = 7
_WIDENING = 4
_RESPONSE_EPS = 1e-6


class GlobalResponseNorm(nn.Module):
    """Let channels compete: each is scaled by its share of the whole map's energy, and added to itself.

    Its two parameters belong to no layer of a host, so they are cast where they are used.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, 1, 1, channels))
        self.bias = nn.Parameter(torch.empty(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)  # (b, 1, 1, c)
        share = energy / (energy.mean(dim=-1, keepdim=True) + _RESPONSE_EPS)  # (b, 1, 1, c)
        weight, bias = self.weight.to(x.device, x.dtype), self.bias.to(x.device, x.dtype)
        return bias + (weight * share + 1) * x


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and a widened MLP, added to the input; the time scales and shifts the sum."""

    def __init__(self, channels: int, time_width: int, eps: float, operations: Operations) -> None:
        super().__init__()
        inner = _WIDENING * channels
        self.depthwise = operations.Conv2d(channels, channels, _KERNEL, padding=_KERNEL // 2, groups=channels)
        self.norm = operations.RMSNorm(channels, eps=eps)
        self.channelwise_linear_1 = operations.Linear(channels, inner)
        self.channelwise_norm = GlobalResponseNorm(inner)
        self.channelwise_linear_2 = operations.Linear(inner, channels)
        self.cond_embeds_mapper = operations.Linear(time_width, 2 * channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h, w); `time` (b, d) is the embedded time."""
        inner = rearrange(self.depthwise(x), "b c h w -> b h w c")  # linear layers want channels last
        inner = F.gelu(self.channelwise_linear_1(self.norm(inner)))  # (b, h, w, inner)
        inner = self.channelwise_linear_2(self.channelwise_norm(inner))  # (b, h, w, c)
        x = x + rearrange(inner, "b h w c -> b c h w")
        scale, shift = self.cond_embeds_mapper(F.silu(time))[..., None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift  # (b, c, 1, 1) each


class BlockStack(nn.Module):
    """Blocks one after the other."""

    def __init__(
        self, channels: int, blocks: int, time_width: int, eps: float, operations: Operations
    ) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList(
            ConvNeXtBlock(channels, time_width, eps, operations) for _ in range(blocks)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h, w)."""
        for block in self.res_blocks:
            x = block(x, time)
        return x
