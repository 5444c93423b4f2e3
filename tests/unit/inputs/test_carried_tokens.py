"""Image tokens inside a PNG: small, exact, and of these pixels only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from janus_core import ImageError, ImageTokens, carried_by, pixel_fingerprint, write_note
from janus_core.inputs.carried_tokens import TOKENS_NOTE, read_note

CODEBOOK = "16384x8-0123456789abcdef"


@pytest.fixture
def tokens() -> ImageTokens:
    generator = torch.Generator().manual_seed(3)
    grid = torch.randint(16384, (2, 24, 24), generator=generator)
    return ImageTokens(grid=grid, codebook=CODEBOOK, model="janus-shapes")


@pytest.fixture
def picture() -> Image.Image:
    return Image.linear_gradient("L").convert("RGB").resize((48, 32))


def saved(picture: Image.Image, note: str, path: Path) -> Path:
    notes = PngInfo()
    notes.add_text(TOKENS_NOTE, note, zip=True)
    picture.save(path, pnginfo=notes)
    return path


def test_tokens_of_a_row_come_back_exactly(tokens: ImageTokens, picture: Image.Image, tmp_path: Path) -> None:
    carried = carried_by(saved(picture, write_note(tokens, 1, picture), tmp_path / "a.png"))
    assert carried is not None
    assert torch.equal(carried.tokens.grid, tokens.grid[1:])
    assert carried.tokens.codebook == CODEBOOK
    assert carried.tokens.model == "janus-shapes"
    assert carried.pixels == pixel_fingerprint(tmp_path / "a.png")


def test_576_tokens_take_less_than_one_and_a_half_kilobytes(
    tokens: ImageTokens, picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "without.png")
    path = saved(picture, write_note(tokens, 0, picture), tmp_path / "with.png")
    assert path.stat().st_size - (tmp_path / "without.png").stat().st_size < 1500


def test_a_codebook_of_any_size_is_carried(picture: Image.Image) -> None:
    tokens = ImageTokens(grid=torch.tensor([[[0, 65535, 65536, 262143]]]), codebook="262144x8-0")
    assert torch.equal(read_note(write_note(tokens, 0, picture), "a.png").tokens.grid, tokens.grid)


def test_tokens_of_an_unfinished_drawing_are_of_no_picture(picture: Image.Image) -> None:
    tokens = ImageTokens.undrawn(2, 4, CODEBOOK)
    with pytest.raises(ImageError, match="tokens of picture 2 are not finished"):
        write_note(tokens, 1, picture)


def test_the_fingerprint_is_the_same_of_a_file_and_of_floats(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    floats = torch.tensor(list(picture.tobytes()), dtype=torch.float32).reshape(32, 48, 3) / 255
    assert pixel_fingerprint(tmp_path / "a.png") == pixel_fingerprint(floats)
    assert pixel_fingerprint(floats.to(torch.float16)) == pixel_fingerprint(floats)


def test_one_changed_pixel_or_another_shape_is_another_picture(picture: Image.Image) -> None:
    changed = picture.copy()
    changed.putpixel((5, 5), (1, 2, 3))
    reshaped = Image.frombytes("RGB", (32, 48), picture.tobytes())
    assert len({pixel_fingerprint(each) for each in (picture, changed, reshaped)}) == 3


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_without_tokens_carries_none(picture: Image.Image, tmp_path: Path, name: str) -> None:
    picture.save(tmp_path / name)
    assert carried_by(tmp_path / name) is None


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"tokens": "%%%"},
        {"tokens": "AAA="},
        {"grid": [3, 3]},
        {"grid": None},
        {"kind": "<f8"},
        {"kind": None},
    ],
)
def test_a_damaged_note_is_named(
    tokens: ImageTokens, picture: Image.Image, change: dict[str, object]
) -> None:
    note = json.loads(write_note(tokens, 0, picture)) | change
    with pytest.raises(ImageError, match=r'tokens inside "a\.png" cannot be read.*Encode the picture'):
        read_note(json.dumps(note), "a.png")


@pytest.mark.parametrize("note", ["", "[]", "{}", "null", "\ud800"])
def test_a_note_of_something_else_is_named(note: str) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_note(note, "a.png")


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ImageError, match=r'"[^"]*a\.png" is damaged, or in no known'):
        carried_by(tmp_path / "a.png")
