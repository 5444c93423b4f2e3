"""Read the decoder of a VAE from a `.safetensors` file: one of its own or inside a whole checkpoint.

original    names as in the first checkpoints of latent diffusion: decoder.up.3.block.0…
diffusers   decoder.up_blocks.0.resnets.0…, with either generation of names in the attention

Sizes follow from the shapes. Only the decoder's tensors are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError
from .flow_config import LATENT_SCALE
from .image_vae import ImageVAE, VAEConfig

_LATENT_CHANNELS = 4
_FIRST = "decoder.conv_in.weight"
_CHOOSE = "Choose the SDXL VAE, for example sdxl_vae.safetensors, or an SDXL checkpoint that contains one."

# Patterns of our names and what files call them; the first that matches counts.
_ORIGINAL = (
    (r"decoder\.mid\.0\.", "decoder.mid.block_1."),
    (r"decoder\.mid\.1\.", "decoder.mid.attn_1."),
    (r"decoder\.mid\.2\.", "decoder.mid.block_2."),
    (r"decoder\.conv_blocks\.(\d+)\.res\.", r"decoder.up.\1.block."),
    (r"decoder\.conv_blocks\.(\d+)\.", r"decoder.up.\1."),
)
_DIFFUSERS = (
    (r"decoder\.mid\.0\.", "decoder.mid_block.resnets.0."),
    (r"decoder\.mid\.2\.", "decoder.mid_block.resnets.1."),
    (r"decoder\.mid\.1\.norm", "decoder.mid_block.attentions.0.group_norm"),
    (r"decoder\.mid\.1\.proj_out", "decoder.mid_block.attentions.0.to_out.0"),
    (r"decoder\.mid\.1\.([qkv])\b", r"decoder.mid_block.attentions.0.to_\1"),
    (
        r"decoder\.conv_blocks\.(\d+)\.res\.(\d+)\.nin_shortcut",
        r"decoder.up_blocks.\1.resnets.\2.conv_shortcut",
    ),
    (r"decoder\.conv_blocks\.(\d+)\.res\.", r"decoder.up_blocks.\1.resnets."),
    (r"decoder\.conv_blocks\.(\d+)\.upsample\.", r"decoder.up_blocks.\1.upsamplers.0."),
    (r"decoder\.norm_out", "decoder.conv_norm_out"),
)
_OLDER_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


class _File:
    """The names and shapes of one file, those of its VAE without their prefix."""

    def __init__(self, name: str, shapes: dict[str, list[int]]) -> None:
        found = sorted((key for key in shapes if key.endswith(_FIRST)), key=len)
        self.prefix = found[0].removesuffix(_FIRST) if found else ""
        self.name = name
        self.shapes = {
            key.removeprefix(self.prefix): shape
            for key, shape in shapes.items()
            if found and key.startswith(self.prefix)
        }
        self.is_diffusers = any(key.startswith("decoder.up_blocks.") for key in self.shapes)

    def shape(self, key: str) -> list[int]:
        if key not in self.shapes:
            raise CheckpointError(f'"{self.name}" has no VAE decoder: "{key}" is missing. {_CHOOSE}')
        return self.shapes[key]

    def config(self) -> VAEConfig:
        """Read the sizes off the shapes.

        Raises:
            CheckpointError: there is no decoder, or one of another kind.
        """
        latent_channels = self.shape(_FIRST)[1]
        if latent_channels != _LATENT_CHANNELS:
            raise CheckpointError(
                f'"{self.name}" is a VAE of another kind: its latents have {latent_channels} channels (Flux '
                f"and SD3 have 16), JanusFlow's have {_LATENT_CHANNELS}. {_CHOOSE}"
            )
        level = (
            r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)"
            if self.is_diffusers
            else r"decoder\.up\.(\d+)\.block\.(\d+)"
        )
        places = [(int(f[1]), int(f[2])) for f in map(re.compile(level).match, self.shapes) if f]
        base = self.shape("decoder.conv_out.weight")[1]
        levels, blocks = (
            1 + max((p[0] for p in places), default=0),
            1 + max((p[1] for p in places), default=0),
        )
        if 2 ** (levels - 1) != LATENT_SCALE:
            raise CheckpointError(
                f'"{self.name}" is a VAE of another kind: it enlarges latents {2 ** (levels - 1)} times, '
                f"JanusFlow's are {LATENT_SCALE} times smaller than the picture. {_CHOOSE}"
            )
        lowest_first = [
            self.shape(self.published(f"decoder.conv_blocks.{i}.res.0.conv1.weight", levels))[0]
            for i in range(levels)
        ]
        return VAEConfig(
            base_channels=base,
            channel_multipliers=tuple(channels // base for channels in reversed(lowest_first)),
            num_res_blocks=blocks - 1,
            latent_channels=latent_channels,
        )

    def published(self, ours: str, levels: int) -> str:
        """Return what the file calls one of our tensors."""
        for pattern, name in _DIFFUSERS if self.is_diffusers else _ORIGINAL:
            found = re.match(pattern, ours)
            if found:
                called = found.expand(name) + ours[found.end() :]
                return self._as_stored(called) if self.is_diffusers else _from_below(called, levels)
        return ours

    def _as_stored(self, called: str) -> str:
        """Return the older name of an attention's layer where the file has that."""
        for new, old in _OLDER_ATTENTION.items():
            older = called.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
            if older in self.shapes:
                return older
        return called


def _from_below(called: str, levels: int) -> str:
    """Count levels as original files do: 0 is the highest resolution."""
    return re.sub(r"decoder\.up\.(\d+)", lambda found: f"decoder.up.{levels - 1 - int(found[1])}", called)


def read_vae(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> ImageVAE:
    """Read a VAE's decoder, in float32 on a device.

    Raises:
        CheckpointError: no such file, a damaged one, one without a VAE, or a VAE of another kind.
    """
    name = os.fspath(path)
    try:
        with safe_open(path, framework="pt") as opened:
            shapes = {key: opened.get_slice(key).get_shape() for key in opened.keys()}  # noqa: SIM118
            file = _File(name, shapes)
            return _fill(file, opened.get_tensor).to(device)
    except CheckpointError:
        raise
    except Exception as error:  # the library raises nearly anything on damaged files
        reason = str(error).partition("\n")[0][:200]
        raise CheckpointError(f'Cannot read the VAE "{name}": {reason}. {_CHOOSE}') from error


def _fill(file: _File, get: Callable[[str], Tensor]) -> ImageVAE:
    """Build the VAE of a file and give it the file's tensors."""
    config = file.config()
    with torch.device("meta"):
        vae = ImageVAE(config)
    weights: dict[str, Tensor] = {}
    for ours, expected in vae.state_dict().items():
        called = file.published(ours, len(config.channel_multipliers))
        shape = file.shape(called)
        # diffusers stores the attention's 1×1 convolutions as matrices
        if shape != list(expected.shape) and [*shape, 1, 1] != list(expected.shape):
            raise CheckpointError(
                f'"{file.name}" is a VAE of another kind: "{called}" has shape {shape} instead of '
                f"{list(expected.shape)}. {_CHOOSE}"
            )
        weights[ours] = get(file.prefix + called).float().reshape(expected.shape)
    vae.load_state_dict(weights, assign=True)
    return vae.eval().requires_grad_(False)
