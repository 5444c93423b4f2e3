"""Icon and banner are what the program draws, in the sizes that the registry shows."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tools import brand

SVGS = {"icon": brand.icon, "banner": brand.banner}
SIZES = {"icon": (400, 400), "banner": (1344, 576)}

each = pytest.mark.parametrize("name", sorted(SVGS))


def picture(name: str) -> Image.Image:
    with Image.open(brand.FOLDER / f"{name}.png") as opened:
        return opened.convert("RGBA")


@each
def test_the_svg_in_the_folder_is_the_one_that_is_drawn(name: str) -> None:
    assert (brand.FOLDER / f"{name}.svg").read_text(encoding="utf-8") == SVGS[name]()


@each
def test_the_svg_needs_no_font_and_no_other_file(name: str) -> None:
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(SVGS[name]()).iter()}
    assert tags <= {"svg", "defs", "linearGradient", "stop", "clipPath", "path", "rect", "circle", "g"}
    assert set(re.findall(r"url\((.)", SVGS[name]())) == {"#"}


@each
def test_the_png_has_the_size_that_the_registry_shows(name: str) -> None:
    assert picture(name).size == SIZES[name]
    assert (brand.FOLDER / f"{name}.png").stat().st_size < 300_000


def test_the_banner_is_21_by_9() -> None:
    assert 9 * SIZES["banner"][0] == 21 * SIZES["banner"][1]


def test_the_corners_of_the_icon_are_left_out_and_its_middle_is_not() -> None:
    alpha = np.asarray(picture("icon"))[..., 3]
    assert alpha[0, 0] == alpha[-1, -1] == 0
    assert alpha[200].min() == 255


def test_the_two_faces_are_of_one_head() -> None:
    """What differs from the ground is as wide on the left of the icon as on its right, row by row."""
    rows = np.asarray(picture("icon").convert("RGB")).astype(int)[60:380]
    is_head = rows.max(axis=2) > 110  # the ground is darker
    left = 200 - is_head[:, :200].argmax(axis=1)
    right = is_head.shape[1] - 200 - is_head[:, ::-1].argmax(axis=1)
    assert np.abs(left - right).mean() < 4


def test_letters_follow_each_other_without_touching() -> None:
    path, width = brand.written("as")
    _, alone = brand.written("a")
    assert path.count("<path") == 2
    assert width > 100 + alone / 2
    assert brand.written("a s")[1] > width


def test_a_letter_that_was_never_drawn_is_noticed() -> None:
    with pytest.raises(KeyError, match="q"):
        brand.written("q")


def test_paths_are_named_by_the_registry_file() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"docs/brand/{name}.png" in text for name in SVGS)
