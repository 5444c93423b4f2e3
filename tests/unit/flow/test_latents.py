from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from janus_core import ImageError, OutputError, SamplingError
from janus_core.flow.flow_options import FlowOptions
from janus_core.flow.latents import check_latents, read_noise, save_latents

SHAPE = (1, 4, 8, 8)
NOISE = torch.arange(256, dtype=torch.float32).reshape(SHAPE)


def test_saved_latents_carry_the_mark_without_which_they_would_be_rescaled(tmp_path: Path) -> None:
    save_latents(NOISE, tmp_path / "drawn.latent")
    content = load_file(tmp_path / "drawn.latent")
    assert torch.equal(content["latent_tensor"], NOISE)
    assert "latent_format_version_0" in content


def test_latents_that_cannot_be_written_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write latents to"):
        save_latents(NOISE, tmp_path / "nowhere" / "drawn.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_noise_is_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"noise": NOISE.to(dtype)}, tmp_path / "noise.safetensors")
    found = read_noise(tmp_path / "noise.safetensors", SHAPE)
    assert found.dtype == torch.float32
    assert torch.equal(found, NOISE)


def test_noise_of_another_shape_is_refused(tmp_path: Path) -> None:
    save_file({"noise": NOISE}, tmp_path / "noise.safetensors")
    with pytest.raises(ImageError, match=r"has shape \(1, 4, 8, 8\) of float32; this drawing needs \(2, 4"):
        read_noise(tmp_path / "noise.safetensors", (2, 4, 8, 8))


def test_a_file_without_noise_is_refused(tmp_path: Path) -> None:
    save_file({"z": NOISE}, tmp_path / "noise.safetensors")
    with pytest.raises(ImageError, match='has no tensor called "noise"'):
        read_noise(tmp_path / "noise.safetensors", SHAPE)


@pytest.mark.parametrize("content", [None, b"", b"\x40\0\0\0\0\0\0\0{"], ids=["absent", "empty", "damaged"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "noise.safetensors").write_bytes(content)
    with pytest.raises(ImageError, match=r'Cannot read noise from ".*noise\.safetensors"'):
        read_noise(tmp_path / "noise.safetensors", SHAPE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ImageError, match="The latents contains NaN or infinite values"):
        check_latents(NOISE.clone().fill_(value), SHAPE, "The latents")


def test_whole_numbers_are_no_latents() -> None:
    with pytest.raises(ImageError, match="of int64"):
        check_latents(NOISE.long(), SHAPE, "The noise")


# --- options ---


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"steps": 0}, "steps is 0; it must be a whole number between 1 and 1000"),
        ({"steps": 1001}, "steps is 1001"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"cfg_weight": -1.0}, "cfg_weight is -1.0; it must be above 0 and at most 100"),
        ({"cfg_weight": 0.0}, "cfg_weight is 0.0; it must be above 0"),
        ({"cfg_weight": float("nan")}, "cfg_weight is nan"),
        ({"solver": "rk45"}, 'There is no solver "rk45"'),
    ],
)
def test_choices_out_of_their_range_are_refused(choice: dict[str, object], said: str) -> None:
    with pytest.raises(SamplingError) as caught:
        FlowOptions(**choice)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_guidance_of_0_in_widgets_and_flags_is_the_recommended_one() -> None:
    options = FlowOptions.from_numbers(steps=3, solver="heun", cfg_weight=0)
    assert options == FlowOptions(steps=3, solver="heun")
    assert options.decided(2.5).cfg_weight == 2.5
    assert FlowOptions(cfg_weight=1.5).decided(2.5).cfg_weight == 1.5
