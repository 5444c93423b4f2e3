from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from janus_core.errors import ImageError
from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import (
    Fit,
    fit_picture,
    to_images,
    to_pixel_values,
    to_square,
    to_uint8,
    to_vq_input,
)
from janus_core.model.config import PreprocessConfig

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
HALVES = (0.5, 0.5, 0.5)
CONFIG = PreprocessConfig(
    image_size=64, min_size=14, image_mean=HALVES, image_std=HALVES, rescale_factor=1 / 255, do_normalize=True
)
ALL_SAMPLES = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).repeat(1, 1, 3)
RED_ON_BLUE = Image.new("P", (2, 2), 1)
RED_ON_BLUE.putpalette([0, 0, 255, 255, 0, 0])


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "janus-tiny.golden.safetensors")


def golden_picture(name: str) -> Image.Image:
    return read_picture(GOLDEN / "images" / f"{name}.png")


def noise_picture(width: int, height: int) -> Image.Image:
    samples = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(samples)


def smooth_picture(width: int, height: int) -> Image.Image:
    return noise_picture(5, 4).resize((width, height), Image.Resampling.BICUBIC)


def samples_of(picture: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(picture).astype(int)


# --- the vision tower's input ---


@pytest.mark.parametrize("name", ["landscape", "portrait", "tiny"])
def test_pixel_values_equal_the_golden_ones(golden: dict[str, Tensor], name: str) -> None:
    pixel_values = to_pixel_values(golden_picture(name), CONFIG)
    assert torch.equal(pixel_values, golden[f"preprocess.{name}.pixel_values"])


def test_pixel_values_without_normalisation_equal_the_golden_ones(golden: dict[str, Tensor]) -> None:
    pixel_values = to_pixel_values(golden_picture("landscape"), replace(CONFIG, do_normalize=False))
    assert torch.equal(pixel_values, golden["preprocess_not_normalized.landscape.pixel_values"])


@pytest.mark.parametrize(
    ("size", "first", "last"), [((97, 53), 15, 48), ((64, 33), 15, 47), ((98, 49), 16, 47)]
)
def test_sides_are_truncated_and_the_larger_half_of_the_padding_is_below(
    size: tuple[int, int], first: int, last: int
) -> None:
    pixel_values = to_pixel_values(Image.new("RGB", size, "white"), CONFIG)
    rows_of_white = (pixel_values == 1).all(dim=(0, 2)).nonzero().flatten()
    assert rows_of_white.tolist() == list(range(first, last + 1))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (64, 64), (3, 4000), (63, 64)])
def test_pixel_values_are_a_square_of_the_models_size(size: tuple[int, int]) -> None:
    assert to_pixel_values(Image.new("RGB", size, "white"), CONFIG).shape == (3, 64, 64)


@pytest.mark.parametrize("size", [(97, 53), (29, 49), (1, 5000), (640, 480), (64, 64), (383, 384)])
def test_a_picture_that_waits_as_its_square_gives_the_same_pixel_values(size: tuple[int, int]) -> None:
    samples = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(samples)
    square = to_square(picture, CONFIG)
    assert square.size == (64, 64)
    assert torch.equal(to_pixel_values(square, CONFIG), to_pixel_values(picture, CONFIG))


def test_no_side_becomes_smaller_than_min_size() -> None:
    columns_of_white = (to_pixel_values(Image.new("RGB", (1, 5000), "white"), CONFIG) == 1).all(dim=(0, 1))
    assert int(columns_of_white.sum()) == CONFIG.min_size


def test_padding_colour_is_the_truncated_mean() -> None:
    config = replace(CONFIG, image_mean=(0.48145466, 0.4578275, 0.40821073), do_normalize=False)
    corner = to_pixel_values(Image.new("RGB", (64, 20), "white"), config)[:, 0, 0]
    assert (corner * 255).round().tolist() == [122, 116, 104]


def test_a_square_of_the_models_size_keeps_every_sample() -> None:
    picture = noise_picture(64, 64)
    values = to_pixel_values(picture, replace(CONFIG, do_normalize=False))
    assert np.array_equal((values * 255).round().permute(1, 2, 0).numpy(), samples_of(picture))


# --- reading: modes ---


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_an_opaque_colour_survives_every_colour_mode(mode: str) -> None:
    picture = Image.new("RGBA" if mode == "RGBa" else "RGB", (3, 2), "red").convert(mode)
    read = read_picture(picture)
    assert (read.mode, read.size) == ("RGB", (3, 2))
    assert np.abs(samples_of(read) - (255, 0, 0)).max() <= 6  # LAB keeps eight bits per band


@pytest.mark.parametrize("way", [["LA"], ["LA", "La"], ["RGBA"], ["RGBA", "RGBa"], ["RGBA", "PA"]])
def test_half_transparent_black_becomes_mid_grey(way: list[str]) -> None:
    picture = Image.new("LA", (2, 2), (0, 128))
    for mode in way:
        picture = picture.convert(mode)
    assert read_picture(picture).getpixel((1, 1)) == (127, 127, 127)


@pytest.mark.parametrize(("mode", "key"), [("1", 0), ("L", 9), ("RGB", (1, 2, 3)), ("P", 1), ("I;16", 900)])
def test_a_colour_declared_transparent_becomes_white(tmp_path: Path, mode: str, key: Any) -> None:
    picture = RED_ON_BLUE if mode == "P" else Image.new(mode, (2, 2), key)
    picture.save(tmp_path / "a.png", transparency=key)
    assert read_picture(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


def test_partly_transparent_palette_entries_are_laid_over_white(tmp_path: Path) -> None:
    RED_ON_BLUE.save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert read_picture(tmp_path / "a.png").getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize(
    ("mode", "samples"),
    [
        ("1", {0: 0, 255: 255}),
        ("L", {0: 0, 77: 77, 255: 255}),
        ("I;16", {0: 0, 128: 0, 129: 1, 257 * 77: 77, 65535: 255}),
        ("I;16B", {129: 1, 257 * 77: 77, 65535: 255}),
        ("I;16L", {129: 1, 257 * 77: 77, 65535: 255}),
        ("I", {-4: 0, 77: 77, 255: 255, 256: 1, 257 * 77: 77, 65535: 255}),
        ("F", {-3.0: 0, 0.5: 128, 1.0: 255, 1.2: 255, 77.0: 77, 255.0: 255, 65535.0: 255}),
    ],
)
def test_grey_of_any_depth_is_scaled_to_eight_bits(mode: str, samples: dict[float, int]) -> None:
    read = [read_picture(Image.new(mode, (1, 1), sample)).getpixel((0, 0)) for sample in samples]
    assert read == [(expected,) * 3 for expected in samples.values()]


@pytest.mark.parametrize(("mode", "sample"), [("I", 70_000), ("F", 1e9), ("F", math.nan), ("F", math.inf)])
def test_grey_of_unknown_scale_is_refused(mode: str, sample: float) -> None:
    with pytest.raises(ImageError, match=rf"PIL picture 2×2 in mode {mode} (has values up to|contains NaN)"):
        read_picture(Image.new(mode, (2, 2), sample))


# --- reading: tensors and arrays ---


def test_floating_point_is_rounded_not_truncated() -> None:
    assert read_picture(torch.full((1, 1, 3), 0.7 / 255)).getpixel((0, 0)) == (1, 1, 1)


@pytest.mark.parametrize(
    "source",
    [
        ALL_SAMPLES,
        ALL_SAMPLES.numpy(),
        ALL_SAMPLES[..., :1],
        ALL_SAMPLES.numpy()[..., ::-1],
        ALL_SAMPLES / 255,
        ALL_SAMPLES.half() / 255,
        (ALL_SAMPLES.numpy() / 255).astype(">f8"),
        (ALL_SAMPLES / 255).requires_grad_(),
        (ALL_SAMPLES / 255).permute(2, 0, 1).contiguous().permute(1, 2, 0),
    ],
    ids=["uint8", "array", "one channel", "reversed", "float", "half", "big endian", "gradient", "strided"],
)
def test_every_kind_of_tensor_and_array_is_read(source: Any) -> None:
    assert np.array_equal(np.asarray(read_picture(source)), ALL_SAMPLES.numpy())


@pytest.mark.parametrize(
    "source", [torch.tensor([[[0.0, 0.0, 0.0, 0.5]]]), np.array([[[0, 0, 0, 127]]], dtype=np.uint8)]
)
def test_the_fourth_channel_is_laid_over_white(source: Any) -> None:
    assert read_picture(source).getpixel((0, 0)) == (128, 128, 128)


def test_bfloat16_is_read() -> None:
    assert read_picture(torch.ones(2, 3, 3, dtype=torch.bfloat16)).size == (3, 2)


def test_values_outside_the_range_are_clamped() -> None:
    assert read_picture(torch.tensor([[[-0.5, 1.5, 1.2]]])).getpixel((0, 0)) == (0, 255, 255)


# --- refusals ---


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(4, 4), r"float32 tensor of shape \(4, 4\) is no picture\. Give one with three axes"),
        (torch.zeros(2, 4, 4, 3), "is a batch; one picture is expected. Pass its 2 pictures one by one"),
        (np.zeros((1, 4, 4, 3)), r"float64 array of shape \(1, 4, 4, 3\) is a batch"),
        ([torch.zeros(4, 4, 3)] * 5, "list of 5 was given; one picture is expected"),
        (torch.zeros(4, 4, 0), "has 0 channels"),
        (torch.zeros(5, 4, 2), r"has 2 channels; \(h, w, c\) with 1, 3 or 4 is expected. Convert it to RGB"),
        (torch.zeros(3, 4, 8), "has 8 channels.*Move the channels to the end"),
        (torch.zeros(0, 4, 3), "has no pixels"),
        (torch.full((2, 2, 3), float("nan")), "contains NaN or infinite values"),
        (np.full((2, 2, 3), np.inf), "contains NaN or infinite values"),
        (np.full((2, 2, 3), 1e300), "contains NaN or infinite values"),
        (torch.full((2, 2, 3), 200.0), "holds whole numbers up to 200 where 0..1 is expected. Divide by 255"),
        (torch.full((2, 2, 3), 200.5), "holds numbers up to 200.5 where 0..1 is expected. Divide by 255"),
        (torch.full((2, 2, 3), 1.6), "holds numbers up to 1.6 where 0..1 is expected. Divide by 255"),
        (np.full((2, 2, 3), 260.3), "holds numbers up to 260.3 where 0..1 is expected. Divide by 255"),
        (np.full((2, 2, 3), 60000.5), "holds numbers up to 60000.5 where 0..1 is expected. Scale it to 0..1"),
        (np.full((2, 2, 3), -0.9), "holds numbers down to -0.9 .* scaled to -1..1, add 1 and divide by 2"),
        (torch.zeros(2, 2, 3, dtype=torch.int64), "int64 tensor .* must be floating point in 0..1, or uint8"),
        (np.zeros((2, 2, 3), dtype=complex), "complex128 array .* must be floating point"),
        (np.full((2, 2, 3), None), "object array .* must be floating point"),
        (Image.new("RGB", (0, 4)), r"The PIL picture 0×4 in mode RGB has no pixels"),
        (None, "A NoneType is no picture. Give a path"),
        (b"\x89PNG", "A bytes is no picture. Give a path"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_single_picture_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_picture(source)


# --- fit ---


@pytest.mark.parametrize("fit", get_args(Fit))
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (97, 53), (64, 63), (400, 800)])
def test_every_fit_gives_a_square(fit: Fit, size: tuple[int, int]) -> None:
    assert fit_picture(Image.new("RGB", size), 64, fit).size == (64, 64)


@pytest.mark.parametrize("fit", get_args(Fit))
def test_a_picture_of_the_exact_size_passes_untouched(fit: Fit) -> None:
    picture = noise_picture(64, 64)
    assert fit_picture(picture, 64, fit) is picture


@pytest.mark.parametrize(
    ("size", "whole"), [((96, 160), (48, 80)), ((160, 96), (80, 48)), ((24, 30), (48, 60))]
)
def test_crop_equals_resizing_everything_and_cutting_out_the_middle(
    size: tuple[int, int], whole: tuple[int, int]
) -> None:
    picture = smooth_picture(*size)
    left, top = (whole[0] - 48) // 2, (whole[1] - 48) // 2
    expected = picture.resize(whole, Image.Resampling.BICUBIC).crop((left, top, left + 48, top + 48))
    assert np.abs(samples_of(fit_picture(picture, 48, "crop")) - samples_of(expected)).max() <= 1


def test_pad_keeps_everything_centred_on_mid_grey() -> None:
    fitted = samples_of(fit_picture(Image.new("RGB", (40, 20), "white"), 10, "pad"))
    assert fitted[:, 0, 0].tolist() == [127] * 2 + [255] * 5 + [127] * 3


def test_stretch_equals_plain_resizing() -> None:
    picture = smooth_picture(31, 70)
    assert (
        fit_picture(picture, 48, "stretch").tobytes()
        == picture.resize((48, 48), Image.Resampling.BICUBIC).tobytes()
    )


@pytest.mark.parametrize("source", [Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8)), torch.zeros(8, 8, 3)])
def test_an_unknown_fit_is_refused_with_the_choices(source: Any) -> None:
    with pytest.raises(ImageError, match='Unknown fit "squeeze": choose one of crop, pad, stretch'):
        to_vq_input(source, 8, "squeeze")


# --- the VQ tokenizer's input and output ---


def test_vq_input_of_the_models_size_equals_the_pixel_values() -> None:
    picture = noise_picture(64, 64)
    assert torch.allclose(
        to_vq_input(picture, 64, "crop"), to_pixel_values(picture, CONFIG), atol=1e-6, rtol=0
    )


def test_vq_input_fits_other_sizes() -> None:
    picture = smooth_picture(50, 70)
    assert torch.equal(
        to_vq_input(picture, 16, "pad"), to_vq_input(fit_picture(picture, 16, "pad"), 16, "pad")
    )


def test_floating_point_of_the_exact_size_is_not_rounded() -> None:
    image = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_vq_input(image, 8, "crop"), (image * 2 - 1).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([0.25], [-0.5] * 3), ([0.0, 0.5, 1.0, 0.5], [0, 0.5, 1]), ([-0.5, 0.5, 1.5], [-1, 0, 1])],
    ids=["one channel", "transparent", "clamped"],
)
def test_vq_input_of_one_pixel(samples: list[float], expected: list[float]) -> None:
    assert to_vq_input(torch.tensor([[samples]]), 1, "crop").flatten().tolist() == expected


def test_uint8_of_the_exact_size_equals_the_same_pil_picture() -> None:
    picture = noise_picture(8, 8)
    assert torch.equal(to_vq_input(np.asarray(picture), 8, "crop"), to_vq_input(picture, 8, "crop"))


def test_floating_point_of_another_size_is_rounded_before_resampling() -> None:
    picture = noise_picture(12, 12)
    image = np.asarray(picture) / 255 + 0.001
    assert torch.equal(to_vq_input(image, 8, "crop"), to_vq_input(picture, 8, "crop"))


@pytest.mark.parametrize("prompt", [0, 1])
def test_decoded_pictures_in_eight_bits_equal_the_golden_ones(golden: dict[str, Tensor], prompt: int) -> None:
    samples = to_uint8(to_images(golden[f"gen.{prompt}.decoded"]))
    assert np.array_equal(samples, golden[f"gen.{prompt}.decoded_uint8"].numpy())


def test_eight_bits_are_the_references_for_any_pixels() -> None:
    pixels = torch.randn(1, 3, 500, 500, generator=torch.Generator().manual_seed(0))
    expected = np.clip((pixels.numpy() + 1) / 2 * 255, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    assert np.array_equal(to_uint8(to_images(pixels)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_images_are_clamped_float32_with_channels_last(dtype: torch.dtype) -> None:
    images = to_images(torch.tensor([-3.0, 0.0, 1.5], dtype=dtype).reshape(1, 3, 1, 1).expand(2, 3, 4, 5))
    assert (images.shape, images.dtype) == ((2, 4, 5, 3), torch.float32)
    assert images[1, 3, 4].tolist() == [0, 0.5, 1]


def test_eight_bit_samples_survive_the_way_through_images() -> None:
    assert np.array_equal(to_uint8(ALL_SAMPLES[None] / 255)[0], ALL_SAMPLES.numpy())
