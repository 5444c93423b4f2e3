"""Small pieces that several networks share: layer classes to build from, attention, rotary embedding, MLP.

Nothing here knows of Janus. Every layer with weights comes from an `operations` namespace, so that a host may
pass classes that stream or cast their weights; `torch.nn` is the default.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Operations(Protocol):
    """The layer classes a model is built from; `torch.nn` satisfies it."""

    @property
    def Linear(self) -> type[nn.Linear]:
        """Matrix product."""

    @property
    def Embedding(self) -> type[nn.Embedding]:
        """Table look-up."""

    @property
    def Conv2d(self) -> type[nn.Conv2d]:
        """Convolution over (b, c, h, w)."""

    @property
    def LayerNorm(self) -> type[nn.LayerNorm]:
        """Normalise over the last axis, with bias."""

    @property
    def GroupNorm(self) -> type[nn.GroupNorm]:
        """Normalise over groups of channels."""

    @property
    def RMSNorm(self) -> type[nn.RMSNorm]:
        """Scale by the root mean square over the last axis."""


def embedding(rows: int, width: int, operations: Operations) -> nn.Embedding:
    """Return an embedding whose values are assigned later.

    torch's own class would initialise them, which on the meta device imports its compiler and takes two
    seconds.
    """
    if operations.Embedding is nn.Embedding:  # a host's class need not know `_weight`
        return nn.Embedding(rows, width, _weight=torch.empty(rows, width))
    return operations.Embedding(rows, width)


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Mix values by scaled dot-product attention; the one place where attention is computed.

    Args:
        q: (b, heads, t, head_dim).
        k: (b, kv_heads, s, head_dim); each serves `heads / kv_heads` query heads. Its dtype is that of the
            arithmetic.
        v: as `k`.
        mask: (b, 1, t, s) bool, True where a query may look; or numbers to add to the scores; or None.
        is_causal: query i sees keys 0 … i; only without `mask` and with t = s.

    Returns: (b, t, heads * head_dim) in the dtype of `q`.
    """
    if q.dtype != k.dtype:  # a float32 cache of a half-precision model on a CPU
        return attend(q.to(k.dtype), k, v, mask=mask, is_causal=is_causal).to(q.dtype)
    if q.shape[2] == 1 and mask is None and q.dtype == torch.float32 and q.device.type == "cpu":
        return _attend_to_all(q, k, v)
    groups = q.shape[1] // k.shape[1]  # query heads for each key head
    if groups > 1:  # torch before 2.5 has no grouped attention
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    # fused kernels accumulate the softmax in float32 for half-precision inputs
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
    return rearrange(mixed, "b heads t head_dim -> b t (heads head_dim)")


def blocked(dtype: torch.dtype) -> float:
    """Return what hides a key from a query when it is added to their score.

    It is finite, since a whole block of -inf, as padding before a row makes, gives NaN in some attention
    kernels; and half the smallest number, so that adding a score cannot overflow.
    """
    return torch.finfo(dtype).min / 2


def _attend_to_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with one query per row to every key: two plain products take half the time of torch's kernel."""
    q = rearrange(q, "b (kv_heads groups) 1 head_dim -> b kv_heads groups head_dim", kv_heads=k.shape[1])
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(dim=-1)  # (b, kv_heads, groups, s)
    mixed: Tensor = rearrange(weights @ v, "b kv_heads groups head_dim -> b 1 (kv_heads groups head_dim)")
    return mixed


@contextmanager
def full_precision_convolutions() -> Iterator[None]:
    """Have a GPU's convolutions take all bits of float32 inside this context, as a CPU does.

    By default NVIDIA's cards since Ampere cut their inputs to 10 bits of mantissa (TF32).
    """
    convolutions = torch.backends.cudnn
    try:
        is_allowed = convolutions.allow_tf32
    except RuntimeError:  # somebody chose by torch's newer names, and mixing both is refused
        with _by_newer_names():
            yield
        return
    convolutions.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32 = is_allowed


@contextmanager
def _by_newer_names() -> Iterator[None]:
    """Do the same by the names that torch has since 2.9."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # set by torch at run time
    chosen = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = chosen


def rotary_table(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute cosines and sines for rotary embedding on the device of `positions`.

    Args:
        positions: (b, t) int64.
        head_dim: even width of one head.
        theta: base of the geometric series of wavelengths.
        dtype: of the result; the angles are float32, since bfloat16 cannot tell neighbouring positions apart.

    Returns: cosines and sines, each (b, 1, t, head_dim), the second half repeating the first.
    Source: Su et al. 2021 (arXiv:2104.09864), in the half-split arrangement of Llama.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[:, None, :, None].float() * theta**-exponents  # (b, 1, t, head_dim / 2)
    angles = torch.cat((angles, angles), dim=-1)  # (b, 1, t, head_dim)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of x (b, heads, t, head_dim) by its angle."""
    cos, sin = table  # (b, 1, t, head_dim) each, the same for all heads
    first, second = x.chunk(2, dim=-1)  # (b, heads, t, head_dim / 2) each
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class GatedMLP(nn.Module):
    """Llama's feed-forward block: down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, width: int, inner_width: int, operations: Operations) -> None:
        super().__init__()
        self.gate_proj = operations.Linear(width, inner_width, bias=False)
        self.up_proj = operations.Linear(width, inner_width, bias=False)
        self.down_proj = operations.Linear(inner_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MLP(nn.Module):
    """Two linear layers with biases and an exact (erf) GELU between them."""

    def __init__(self, width: int, inner_width: int, operations: Operations) -> None:
        super().__init__()
        self.fc1 = operations.Linear(width, inner_width)
        self.fc2 = operations.Linear(inner_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        return self.fc2(F.gelu(self.fc1(x)))
