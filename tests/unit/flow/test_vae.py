"""The VAE's decoder, read from every layout of files; a parity test compares it with diffusers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from janus_core import CheckpointError, ConfigError, ImageError
from janus_core.flow.image_vae import ImageVAE, VAEConfig
from janus_core.flow.vae_files import read_vae

CONFIG = VAEConfig(base_channels=32, channel_multipliers=(1, 2, 2, 4), num_res_blocks=1, latent_channels=4)
MIDDLE = {"0": "block_1", "1": "attn_1", "2": "block_2"}
OLDER = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def vae() -> ImageVAE:
    made = ImageVAE(CONFIG)
    seeded = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=seeded) * 0.1
    return made.eval().requires_grad_(False)


def original(vae: ImageVAE) -> dict[str, Tensor]:
    """Name tensors as the first checkpoints of latent diffusion do, written down apart from the reader."""
    named = {}
    for ours, tensor in vae.state_dict().items():
        name = re.sub(r"mid\.(\d)", lambda m: f"mid.{MIDDLE[m[1]]}", ours)
        name = re.sub(r"conv_blocks\.(\d)", lambda m: f"up.{3 - int(m[1])}", name).replace(".res.", ".block.")
        named[name] = tensor
    return named


def diffusers(vae: ImageVAE) -> dict[str, Tensor]:
    named = {}
    for ours, tensor in vae.state_dict().items():
        name = ours.replace("mid.0.", "mid_block.resnets.0.").replace("mid.2.", "mid_block.resnets.1.")
        name = re.sub(r"mid\.1\.([qkv])\.", r"mid_block.attentions.0.to_\1.", name)
        name = name.replace("mid.1.norm", "mid_block.attentions.0.group_norm")
        name = name.replace("mid.1.proj_out", "mid_block.attentions.0.to_out.0")
        name = name.replace("conv_blocks.", "up_blocks.").replace(".res.", ".resnets.")
        name = name.replace("nin_shortcut", "conv_shortcut").replace("upsample.", "upsamplers.0.")
        name = name.replace("decoder.norm_out", "decoder.conv_norm_out")
        is_matrix = "attentions" in name and tensor.ndim == 4
        named[name] = tensor.flatten(1).contiguous() if is_matrix else tensor
    return named


def older_diffusers(vae: ImageVAE) -> dict[str, Tensor]:
    named = {}
    for name, tensor in diffusers(vae).items():
        for new, old in OLDER.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")  # noqa: PLW2901
        named[name] = tensor
    return named


def in_a_checkpoint(vae: ImageVAE) -> dict[str, Tensor]:
    named = {f"first_stage_model.{name}": tensor for name, tensor in original(vae).items()}
    return named | {"model.diffusion_model.out.2.weight": torch.zeros(4, 8, 3, 3)}


LAYOUTS = {
    "original": original,
    "diffusers": diffusers,
    "older diffusers": older_diffusers,
    "a whole checkpoint": in_a_checkpoint,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_vae_is_read_from_every_layout(vae: ImageVAE, tmp_path: Path, layout: str) -> None:
    save_file(LAYOUTS[layout](vae), tmp_path / "vae.safetensors")
    found, latents = read_vae(tmp_path / "vae.safetensors"), torch.randn(1, 4, 3, 5)
    assert found.config == CONFIG
    assert_close(found.decode(latents), vae.decode(latents))


def test_weights_in_half_precision_are_computed_in_float32(vae: ImageVAE, tmp_path: Path) -> None:
    halved = {name: tensor.half() for name, tensor in original(vae).items()}
    save_file(halved, tmp_path / "vae.safetensors")
    found, latents = read_vae(tmp_path / "vae.safetensors"), torch.randn(1, 4, 2, 2)
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    assert_close(found.decode(latents), vae.decode(latents), atol=0.05, rtol=0.05)


def test_pictures_are_eight_times_as_large_as_latents(vae: ImageVAE) -> None:
    assert vae.decode(torch.zeros(2, 4, 3, 5)).shape == (2, 3, 24, 40)


def test_attention_stands_in_the_middle_alone(vae: ImageVAE) -> None:
    attended = {name.split(".")[1] for name in vae.state_dict() if ".q." in name}
    assert attended == {"mid"}


def test_numbers_that_are_not_finite_are_an_error(vae: ImageVAE) -> None:
    with pytest.raises(ImageError, match="The VAE gave numbers that are not finite"):
        vae.decode(torch.full((1, 4, 2, 2), torch.inf))


# --- what is refused ---


def refusal(path: Path, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        read_vae(path)
    return str(caught.value)


def test_a_vae_of_16_channels_is_called_by_its_kind(vae: ImageVAE, tmp_path: Path) -> None:
    tensors = original(vae) | {"decoder.conv_in.weight": torch.zeros(128, 16, 3, 3)}
    said = refusal(tmp_path / "flux.safetensors", tensors)
    assert "flux.safetensors" in said
    assert (
        "its latents have 16 channels (Flux and SD3 have 16), JanusFlow's have 4. Choose the SDXL VAE" in said
    )


def test_a_checkpoint_without_a_vae_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "unet.safetensors", {"model.diffusion_model.out.2.weight": torch.zeros(4, 8)})
    assert "has no VAE decoder" in said
    assert "an SDXL checkpoint that contains one" in said


def test_a_vae_that_enlarges_otherwise_is_refused(tmp_path: Path) -> None:
    other = ImageVAE(
        VAEConfig(base_channels=32, channel_multipliers=(1, 2), num_res_blocks=1, latent_channels=4)
    )
    named = {
        re.sub(r"up\.(\d)", lambda m: f"up.{int(m[1]) - 2}", name): tensor
        for name, tensor in original(other).items()
    }
    assert "it enlarges latents 2 times, JanusFlow's are 8 times" in refusal(
        tmp_path / "v.safetensors", named
    )


def test_a_missing_tensor_is_named(vae: ImageVAE, tmp_path: Path) -> None:
    tensors = original(vae)
    del tensors["decoder.mid.attn_1.k.weight"]
    assert '"decoder.mid.attn_1.k.weight" is missing' in refusal(tmp_path / "vae.safetensors", tensors)


def test_a_tensor_of_another_shape_is_named(vae: ImageVAE, tmp_path: Path) -> None:
    tensors = original(vae) | {"decoder.mid.block_1.conv1.weight": torch.zeros(128, 64, 3, 3)}
    said = refusal(tmp_path / "vae.safetensors", tensors)
    assert '"decoder.mid.block_1.conv1.weight" has shape [128, 64, 3, 3] instead of [128, 128, 3, 3]' in said


@pytest.mark.parametrize("content", [None, b"", b"\x40\0\0\0\0\0\0\0{"], ids=["absent", "empty", "damaged"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "vae.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r'Cannot read the VAE ".*vae\.safetensors"'):
        read_vae(tmp_path / "vae.safetensors")


def test_channels_that_do_not_split_into_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="has 40 channels, which do not split into 32 groups"):
        VAEConfig(base_channels=40, channel_multipliers=(1, 2), num_res_blocks=1, latent_channels=4)
