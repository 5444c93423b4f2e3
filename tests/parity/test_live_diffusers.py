"""Compare our VAE decoder with diffusers' own, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from janus_core.flow.vae_files import read_vae

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

ATOL = 1e-4


@pytest.fixture
def reference() -> Any:
    torch.manual_seed(0)
    levels = 4
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    ).eval()
    for parameter in vae.parameters():  # norms begin as ones and zeros, which would hide mistakes
        parameter.data += torch.randn_like(parameter) * 0.05
    return vae


@torch.inference_mode()
def test_decoded_pixels_equal_those_of_diffusers(reference: Any, tmp_path: Path) -> None:
    save_file(reference.state_dict(), tmp_path / "vae.safetensors")
    latents = torch.randn(2, 4, 12, 8)
    expected = reference.decode(latents).sample
    assert float(expected.std()) > 0.1
    assert_close(read_vae(tmp_path / "vae.safetensors").decode(latents), expected, atol=ATOL, rtol=0)
