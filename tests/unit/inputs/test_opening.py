"""Picture files of any size and kind: large ones are reduced, bombs refused, sequences remarked on."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from janus_core.errors import ImageError
from janus_core.inputs import opening
from janus_core.inputs.pictures import read_picture

from .icc import rgb_profile


def scene(width: int, height: int) -> Image.Image:
    """Return a smooth picture, red to the right, green downwards."""
    rows, columns = np.mgrid[0:height, 0:width]
    samples = np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 90)], axis=-1)
    return Image.fromarray(samples.astype(np.uint8))


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LARGE_PIXELS", 10_000)
    monkeypatch.setattr(opening, "_KEPT_SIDE", 50)
    monkeypatch.setattr(opening, "_BAND_PIXELS", 3_000)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean())


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "CMYK", "I;16", "F", "1"])
def test_a_large_picture_of_any_mode_comes_reduced_and_looks_the_same(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    picture = scene(401, 203)
    picture = picture.quantize(64) if mode == "P" else picture
    picture = picture.convert("I").point(lambda v: v * 257) if mode == "I;16" else picture
    large = picture.convert(mode)
    read = read_picture(large)
    assert read.size == (101, 51)
    monkeypatch.setattr(opening, "LARGE_PIXELS", 10**9)
    expected = read_picture(large).reduce(4)
    assert difference(read, expected) < 1


@pytest.mark.usefixtures("small_limits")
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(400, 200).save(tmp_path / "a.jpg", quality=95)
    decoded = []
    monkeypatch.setattr(opening, "in_bands", lambda *_: None)
    with (tmp_path / "a.jpg").open("rb") as file:
        decoded.append(opening.load_picture(file, "a").size)
    assert decoded == [(100, 50)]
    assert difference(read_picture(tmp_path / "a.jpg"), scene(400, 200).reduce(4)) < 3


@pytest.mark.usefixtures("small_limits")
def test_turning_and_profile_survive_reducing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "png"):
        path = tmp_path / f"a.{suffix}"
        scene(400, 200).save(path, exif=exif, icc_profile=rgb_profile("Adobe RGB"), quality=95)
        read = read_picture(path)
        assert read.size == (50, 100)
        right, left = read.getpixel((25, 95)), read.getpixel((25, 5))
        assert right[0] > 230 > 40 > left[0]


@pytest.mark.usefixtures("small_limits")
def test_a_narrow_picture_keeps_its_shorter_side() -> None:
    assert read_picture(scene(4000, 60)).size == (4000, 60)


def test_a_picture_beyond_pillows_own_limit_is_read(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    Image.new("1", (20_000, 10_000), 1).save(tmp_path / "a.png")
    read = read_picture(tmp_path / "a.png")
    assert read.size == (5000, 2500)
    assert read.getpixel((2500, 1250)) == (255, 255, 255)
    assert before == Image.MAX_IMAGE_PIXELS


def header_of_a_png(width: int, height: int) -> bytes:
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 1000) + b"IDAT"


@pytest.mark.parametrize("size", [(25_000, 20_001), (200_000, 200_000)])
def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(header_of_a_png(*size))
    with pytest.raises(ImageError, match=r'bomb\.png" is too large to decode: .* exceeds limit of 500000000'):
        read_picture(tmp_path / "bomb.png")


def test_a_limit_that_somebody_chose_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    scene(60, 40).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="exceeds limit of 2000 pixels"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff", "avif"])
def test_the_later_frames_of_a_file_are_remarked_on(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.WARNING, "janus.inputs"):
        read = read_picture(tmp_path / f"a.{suffix}")
    assert read.getpixel((4, 4)) == pytest.approx((255, 0, 0), abs=6)
    [record] = caplog.records
    assert record.getMessage().endswith(f'a.{suffix}" has 3 frames; only the first is looked at.')


@pytest.mark.parametrize("suffix", ["mpo", "ico"])
def test_previews_and_sizes_of_one_picture_are_no_frames(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    picture = scene(64, 64)
    more = {"save_all": True, "append_images": [picture.resize((16, 16))]} if suffix == "mpo" else {}
    picture.save(tmp_path / f"a.{suffix}", **more)
    with caplog.at_level(logging.WARNING, "janus.inputs"):
        read_picture(tmp_path / f"a.{suffix}")
    assert caplog.records == []
