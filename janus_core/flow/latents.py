"""Latents as a value and in files: what a flow drawing begins with and what it hands out.

A JanusFlow model draws in the space of the SDXL VAE, scaled so that values are about as large as noise. Files
and hosts hold them unscaled, as a VAE decodes them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ImageError, OutputError

SCALING = 0.13025  # of the SDXL VAE; scaled = unscaled × SCALING
_KEY = "latent_tensor"
_UNSCALED_MARK = "latent_format_version_0"  # without it ComfyUI takes the values for those of SD 1.5, scaled
_NOISE_KEY = "noise"


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowDrawn:
    """Pictures drawn by flow, not yet decoded.

    Attributes:
        latents: (b, 4, h, w) float32 on the CPU, unscaled: what an SDXL VAE decodes.
        seeds: the seed of each picture; drawn alone with it, the picture is the same (in float32).
    """

    latents: Tensor
    seeds: tuple[int, ...]


def save_latents(latents: Tensor, path: str | os.PathLike[str]) -> None:
    """Write unscaled latents (b, 4, h, w) to a `.safetensors` file, as ComfyUI's Load Latent reads them.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {_KEY: latents.float().contiguous(), _UNSCALED_MARK: torch.tensor([])}
    try:
        save_file(content, path)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f'Cannot write latents to "{os.fspath(path)}": {error}. Choose a folder you may write to.'
        ) from error


def read_noise(path: str | os.PathLike[str], shape: tuple[int, ...]) -> Tensor:
    """Read the noise that drawings begin with from the tensor "noise" of a `.safetensors` file.

    Args:
        path: the file.
        shape: (b, 4, h, w), what it has to be.

    Returns: float32.

    Raises:
        ImageError: no such file, a damaged one, or noise of another shape.
    """
    name = os.fspath(path)
    try:
        with safe_open(path, framework="pt") as file:
            noise = file.get_tensor(_NOISE_KEY) if _NOISE_KEY in file.keys() else None  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise ImageError(f'Cannot read noise from "{name}": {error!s:.200}. Check the file.') from error
    if noise is None:
        raise ImageError(f'"{name}" has no tensor called "{_NOISE_KEY}". Store the noise under that name.')
    check_latents(noise, shape, f'The noise in "{name}"')
    return noise.float()


def check_latents(latents: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Raise ImageError unless latents have a shape and are finite numbers."""
    if tuple(latents.shape) != shape or not latents.is_floating_point():
        kind = str(latents.dtype).removeprefix("torch.")
        raise ImageError(f"{name} has shape {tuple(latents.shape)} of {kind}; this drawing needs {shape}.")
    if not bool(latents.isfinite().all()):
        raise ImageError(f"{name} contains NaN or infinite values. Look for the step that made them.")
