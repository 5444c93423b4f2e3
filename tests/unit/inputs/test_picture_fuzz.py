"""Picture files: whole ones are read as they were written, damaged ones are read or refused."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from janus_core.errors import ImageError
from janus_core.inputs.pictures import read_picture

ORIENTATION_TAG = 0x0112
# What a camera that stores this orientation did to the upright picture.
AS_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

MUTANTS_PER_FILE = 30


def noise_picture(width: int, height: int) -> Image.Image:
    samples = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(samples)


def samples_of(picture: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(picture).astype(int)


# --- whole files ---


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "ppm", "webp"])
def test_a_lossless_file_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    picture = noise_picture(7, 5).quantize(16).convert("RGB")
    picture.save(tmp_path / f"a.{suffix}", lossless=True)
    assert np.array_equal(samples_of(read_picture(tmp_path / f"a.{suffix}")), samples_of(picture))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = Image.new("RGB", (32, 48), "blue")
    upright.paste("red", (0, 0, 16, 16))
    turn = AS_STORED.get(orientation)
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    read = read_picture(read_picture(tmp_path / f"a.{suffix}"))
    assert read.size == upright.size
    assert np.abs(samples_of(read) - samples_of(upright)).mean() < 12


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    assert read_picture(tmp_path / f"a.{suffix}").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("exif", [b"no header", b"MM\0*", b"MM\0*\0\0\0\x08\xff\xff\x01"])
def test_broken_exif_does_not_refuse_the_picture(tmp_path: Path, exif: bytes) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png", exif=b"Exif\0\0" + exif)
    assert read_picture(tmp_path / "a.png").getpixel((4, 4)) == (255, 0, 0)


def test_a_large_picture_below_pillows_limit_is_read_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (12, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_picture(str(tmp_path / "a.png")).size == (12, 10)


def test_reading_leaves_the_warning_filters_alone(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    read_picture(tmp_path / "a.png")
    assert warnings.filters == before


def test_a_pil_picture_is_left_as_it_was() -> None:
    picture = noise_picture(4, 4)
    picture.getexif()[ORIENTATION_TAG] = 6
    before = picture.tobytes()
    read = read_picture(picture)
    read.paste("white", (0, 0, 4, 4))
    assert picture.tobytes() == before
    assert picture.getexif()[ORIENTATION_TAG] == 6


# --- refusals ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged, or in no known picture format. Open it in a picture editor"),
        (b"once upon a time", "is damaged, or in no known picture format"),
        (b"\x89PNG\r\n\x1a\n", "is damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is PostScript"),
    ],
    ids=["empty", "text", "signature only", "PostScript"],
)
def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "letter.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf'^The picture ".*letter\.png" {message}'):
        read_picture(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.png", r'There is no picture ".*absent\.png"'),
        ("", "is a folder, not a picture"),
        ("a\0b", "cannot be opened: embedded null"),
        ("x" * 300, "cannot be opened: File name too long"),
    ],
    ids=["absent", "folder", "null character", "long name"],
)
def test_a_path_that_cannot_be_opened_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tiff"])
def test_half_a_file_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half.{suffix}"
    noise_picture(60, 60).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf'half\.{suffix}" is damaged'):
        read_picture(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"is too large to decode: .*900 pixels.* Make it smaller"):
        read_picture(tmp_path / "a.png")


def test_a_closed_pil_picture_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pass
    with pytest.raises(ImageError, match="The PIL picture 2×2 in mode RGB is damaged or unsupported"):
        read_picture(picture)


# --- damaged files ---


def encoded(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def base_files() -> dict[str, bytes]:
    rgb = noise_picture(24, 18)
    palette = rgb.quantize(32)
    rgba = rgb.copy()
    rgba.putalpha(100)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(90), rgb], "duration": 50}
    return {
        "png": encoded(rgb, "PNG", exif=exif, dpi=(72, 72)),
        "png alpha": encoded(rgba, "PNG"),
        "png palette": encoded(palette, "PNG", transparency=bytes(range(32))),
        "png 16 bit": encoded(Image.new("I;16", (9, 9), 700), "PNG", transparency=700),
        "png animated": encoded(rgb, "PNG", **frames),
        "jpeg": encoded(rgb, "JPEG", exif=exif),
        "jpeg progressive": encoded(rgb, "JPEG", progressive=True, restart_marker_rows=1),
        "jpeg cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "gif": encoded(palette, "GIF", transparency=3),
        "gif animated": encoded(rgb, "GIF", **frames),
        "bmp": encoded(rgb, "BMP"),
        "bmp palette": encoded(palette, "BMP"),
        "webp": encoded(rgb, "WEBP", exif=exif),
        "webp lossless": encoded(rgba, "WEBP", lossless=True),
        "webp animated": encoded(rgb, "WEBP", **frames),
        "tiff": encoded(rgb, "TIFF", exif=exif),
        "tiff lzw": encoded(rgba, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "tiff float": encoded(rgb.convert("F"), "TIFF"),
        "tiff 16 bit": encoded(Image.new("I;16", (9, 9), 700), "TIFF"),
    }


BASES = base_files()


def flip_bytes(data: bytes, dice: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(dice.choice((1, 2, 8, 40))):
        mutant[dice.randrange(len(mutant))] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
    return bytes(mutant)


def flip_header_bytes(data: bytes, dice: random.Random) -> bytes:
    return flip_bytes(data[:80], dice) + data[80:]


def truncate(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))]


def repeat_a_piece(data: bytes, dice: random.Random) -> bytes:
    start, end = sorted(dice.randrange(len(data)) for _ in range(2))
    return data[:end] + data[start:]


def insert_noise(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + dice.randbytes(dice.randrange(1, 60)) + data[at:]


def splice_with_another(data: bytes, dice: random.Random) -> bytes:
    other = dice.choice(list(BASES.values()))
    return data[: dice.randrange(len(data))] + other[dice.randrange(len(other)) :]


def insert_png_chunks(data: bytes, dice: random.Random) -> bytes:
    """Insert chunks whose checksum is right, so that the decoder gets as far as their content."""
    chunks = b""
    for _ in range(dice.randrange(1, 4)):
        kind = dice.choice(
            (b"acTL", b"fcTL", b"fdAT", b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"gAMA", b"pHYs")
        )
        content = dice.randbytes(dice.choice((0, 1, 3, 8, 26, 40)))
        checksum = zlib.crc32(kind + content)
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return data[:33] + chunks + data[33:]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bytes,
    flip_header_bytes,
    truncate,
    repeat_a_piece,
    insert_noise,
    splice_with_another,
)


@pytest.mark.parametrize("seed", range(MUTANTS_PER_FILE))
@pytest.mark.parametrize("base", BASES)
def test_a_damaged_file_is_read_as_rgb_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, seed: int
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # a damaged size must not cost memory here
    mutations = (*MUTATIONS, insert_png_chunks) if base.startswith("png") else MUTATIONS
    mutate = mutations[seed % len(mutations)]
    path = tmp_path / "damaged"
    path.write_bytes(mutate(BASES[base], random.Random(f"{base} {seed}")))
    with suppress(ImageError):
        picture = read_picture(path)
        assert (picture.mode, picture.info) == ("RGB", {})


@pytest.mark.parametrize("base", BASES)
def test_every_undamaged_base_is_read(tmp_path: Path, base: str) -> None:
    path = tmp_path / "whole"
    path.write_bytes(BASES[base])
    assert read_picture(path).mode == "RGB"
