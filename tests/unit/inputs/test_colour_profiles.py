"""Colour profiles: what a person sees in a picture is what the model is given."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from janus_core.inputs.pictures import read_picture

from .icc import cmyk_profile, grey_profile, power, rgb_profile, srgb_curve

SRGB = ImageCms.createProfile("sRGB")
FIVE = ["Display P3", "Adobe RGB", "ProPhoto", "Rec. 2020", "eciRGB"]
OFFSET_INKS = ((0, 158, 224), (229, 0, 125), (255, 236, 0), (20, 20, 20))


def photo() -> Image.Image:
    """Return something photo-like: soft gradients of muted colours and some grain, all inside sRGB."""
    rows, columns = np.mgrid[0:96, 0:128] / 128
    waves = [np.sin(5 * rows + phase) * np.cos(7 * columns - phase) for phase in (0.2, 1.1, 2.3)]
    grain = np.random.default_rng(3).normal(0, 0.02, (96, 128, 3))
    samples = (0.5 + 0.26 * np.stack(waves, axis=-1) + grain).clip(0.1, 0.9)
    return Image.fromarray(np.rint(samples * 255).astype(np.uint8))


def as_profile(content: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(content))


def through(picture: Image.Image, profile: bytes, mode: str = "RGB") -> Image.Image:
    converted = ImageCms.profileToProfile(
        picture, SRGB, as_profile(profile), outputMode=mode, renderingIntent=ImageCms.Intent.PERCEPTUAL
    )
    assert converted is not None
    return converted


def difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


def samples_of(picture: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(picture)


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
@pytest.mark.parametrize("space", FIVE)
def test_a_photo_comes_back_through_any_rgb_profile(tmp_path: Path, space: str, suffix: str) -> None:
    profile, path = rgb_profile(space), tmp_path / f"a.{suffix}"
    stored = through(photo(), profile)
    stored.save(path, icc_profile=profile, lossless=True)
    assert difference(read_picture(path), photo()) <= 3
    assert difference(stored, photo()) > 10  # the profile matters


def test_the_profile_of_a_jpeg_is_followed(tmp_path: Path) -> None:
    profile = rgb_profile("Adobe RGB")
    through(photo(), profile).save(tmp_path / "a.jpg", icc_profile=profile, quality=100, subsampling=0)
    read = np.asarray(read_picture(tmp_path / "a.jpg")).astype(int)
    assert np.abs(read - np.asarray(photo()).astype(int)).mean() < 2


def test_a_saturated_red_of_a_wide_space_is_red(tmp_path: Path) -> None:
    profile = rgb_profile("ProPhoto")
    red = through(Image.new("RGB", (4, 4), (255, 0, 0)), profile)
    assert red.getpixel((0, 0))[1] > 60  # in its own numbers it looks brownish
    red.save(tmp_path / "red.png", icc_profile=profile)
    r, g, b = read_picture(tmp_path / "red.png").getpixel((0, 0))
    assert (r > 248, g < 8, b < 8) == (True, True, True)


@pytest.mark.parametrize("gamma", [1.8, 2.2])
def test_a_grey_photo_comes_back_through_its_profile(tmp_path: Path, gamma: float) -> None:
    ramp = np.arange(8, 256, dtype=np.uint8)[None].repeat(4, axis=0)
    stored = np.rint(255 * np.vectorize(srgb_curve)(ramp / 255) ** (1 / gamma)).astype(np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", icc_profile=grey_profile(power(gamma)))
    assert difference(read_picture(tmp_path / "a.png"), Image.fromarray(ramp).convert("RGB")) <= 6


def test_grey_of_sixteen_bits_follows_its_profile_too(tmp_path: Path) -> None:
    Image.new("I;16", (4, 4), 128 * 257).save(tmp_path / "a.png", icc_profile=grey_profile(power(1.0)))
    assert read_picture(tmp_path / "a.png").getpixel((0, 0)) == pytest.approx((188,) * 3, abs=2)


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_the_inks_of_a_cmyk_picture_have_the_colours_of_its_profile(tmp_path: Path, suffix: str) -> None:
    inks = Image.new("CMYK", (32, 8))
    for index in range(4):
        inks.paste(tuple(255 * (index == i) for i in range(4)), (8 * index, 0, 8 * index + 8, 8))
    inks.save(tmp_path / f"a.{suffix}", icc_profile=cmyk_profile(*OFFSET_INKS), quality=100, subsampling=0)
    read = read_picture(tmp_path / f"a.{suffix}")
    for index, expected in enumerate(OFFSET_INKS):
        assert read.getpixel((8 * index + 4, 4)) == pytest.approx(expected, abs=6)


def test_lab_is_shown(tmp_path: Path) -> None:
    lab = ImageCms.profileToProfile(photo(), SRGB, ImageCms.createProfile("LAB"), outputMode="LAB")
    assert lab is not None
    lab.info = {}
    lab.save(tmp_path / "a.tiff")
    assert difference(read_picture(tmp_path / "a.tiff"), photo()) <= 10  # 8 bits of Lab are coarse


def test_transparency_is_laid_over_white_after_colours_are_converted(tmp_path: Path) -> None:
    profile = rgb_profile("ProPhoto")
    stored = through(Image.new("RGB", (8, 4), (200, 60, 40)), profile)
    stored.putalpha(Image.linear_gradient("L").resize((8, 4)).point(lambda v: 255 if v > 127 else 0))
    stored.save(tmp_path / "a.png", icc_profile=profile)
    read = read_picture(tmp_path / "a.png")
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert read.getpixel((0, 3)) == pytest.approx((200, 60, 40), abs=3)


@pytest.mark.parametrize("mode", ["P", "LA"])
def test_palettes_and_transparent_grey_follow_their_profile(tmp_path: Path, mode: str) -> None:
    profile = rgb_profile("Adobe RGB") if mode == "P" else grey_profile(power(1.0))
    stored = Image.new("RGB", (4, 4), (128, 128, 128)).convert(mode, palette=Image.Palette.ADAPTIVE)
    stored.save(tmp_path / "a.png", icc_profile=profile)
    wanted = 188 if mode == "LA" else 127
    assert read_picture(tmp_path / "a.png").getpixel((0, 0)) == pytest.approx((wanted,) * 3, abs=2)


def test_a_pil_picture_brings_its_profile(tmp_path: Path) -> None:
    profile = rgb_profile("Display P3")
    through(photo(), profile).save(tmp_path / "a.png", icc_profile=profile)
    with Image.open(tmp_path / "a.png") as picture:
        assert difference(read_picture(picture), photo()) <= 3
        assert picture.info["icc_profile"] == profile


def test_a_read_picture_is_not_converted_again(tmp_path: Path) -> None:
    profile = rgb_profile("ProPhoto")
    through(photo(), profile).save(tmp_path / "a.png", icc_profile=profile)
    once = read_picture(tmp_path / "a.png")
    assert difference(read_picture(once), once) == 0


@pytest.mark.parametrize("profile", [None, "sRGB", "Pillow's sRGB"])
def test_without_a_profile_and_with_that_of_srgb_no_bit_changes(tmp_path: Path, profile: str | None) -> None:
    made = ImageCms.ImageCmsProfile(SRGB).tobytes() if profile == "Pillow's sRGB" else None
    photo().save(tmp_path / "a.png", icc_profile=rgb_profile("sRGB") if profile == "sRGB" else made)
    assert np.array_equal(samples_of(read_picture(tmp_path / "a.png")), samples_of(photo()))


BROKEN = {
    "noise": b"no profile at all" * 20,
    "cut": rgb_profile("ProPhoto")[:300],
    "of another colour space": cmyk_profile(*OFFSET_INKS),
    "grey for colours": grey_profile(power(1.8)),
}


@pytest.mark.parametrize("profile", list(BROKEN.values()), ids=list(BROKEN))
def test_a_profile_that_cannot_be_used_is_passed_over_with_one_remark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, profile: bytes
) -> None:
    photo().save(tmp_path / "a.png", icc_profile=profile)
    with caplog.at_level(logging.WARNING, "janus.inputs"):
        read = read_picture(tmp_path / "a.png")
    assert np.array_equal(samples_of(read), samples_of(photo()))
    [record] = caplog.records
    assert 'a.png" has a colour profile that cannot be used' in record.getMessage()
    assert record.getMessage().endswith("its colours are taken as sRGB.")
