"""The templates as files: what a person sees of them before and after opening."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

WORKFLOWS = Path(__file__).parents[3] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
_TITLE, _SLOT, _FIRST_SLOT = 30, 20, 14  # heights on the page, in pixels
_TRIED = 60  # points along a link


def opened(name: str) -> dict[str, Any]:
    return dict(json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))


def socket(node: dict[str, Any], slot: int, is_output: bool) -> tuple[float, float]:
    x, y = node["pos"]
    return x + (node["size"][0] if is_output else 0), y + _FIRST_SLOT + _SLOT * slot


def on_curve(start: tuple[float, float], end: tuple[float, float], share: float) -> tuple[float, float]:
    """Return a point of the curve that the page draws: it leaves and arrives level."""
    pull = 0.25 * ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
    a, b, c, d = (1 - share) ** 3, 3 * (1 - share) ** 2 * share, 3 * (1 - share) * share**2, share**3
    return (
        a * start[0] + b * (start[0] + pull) + c * (end[0] - pull) + d * end[0],
        (a + b) * start[1] + (c + d) * end[1],
    )


def behind(workflow: dict[str, Any]) -> list[str]:
    """Name links that run behind a node that they do not belong to."""
    by_id = {node["id"]: node for node in workflow["nodes"]}
    found = []
    for _, source, from_slot, target, to_slot, _ in workflow["links"]:
        (x0, y0), (x1, y1) = socket(by_id[source], from_slot, True), socket(by_id[target], to_slot, False)
        for step in range(1, _TRIED):
            x, y = on_curve((x0, y0), (x1, y1), step / _TRIED)
            for node in workflow["nodes"]:
                left, top = node["pos"]
                is_there = left < x < left + node["size"][0] and top - _TITLE < y < top + node["size"][1]
                if node["id"] not in (source, target) and is_there:
                    found.append(f"{by_id[source]['type']} to {by_id[target]['type']} behind {node['type']}")
    return sorted(set(found))


def test_there_are_templates_for_every_use() -> None:
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_who_searches_for_janus_finds_it(name: str) -> None:
    """The page compares the beginnings of words, and cuts a title into words at blanks and hyphens alone."""
    assert any(word.lower().startswith("janus") for word in re.split(r"[\s-]", name))


@pytest.mark.parametrize("name", NAMES)
def test_no_link_runs_behind_a_node(name: str) -> None:
    assert behind(opened(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_nodes_do_not_overlap(name: str) -> None:
    boxes = [(*node["pos"], *node["size"]) for node in opened(name)["nodes"]]
    for number, (x, y, width, height) in enumerate(boxes):
        for left, top, across, down in boxes[number + 1 :]:
            is_apart = x + width <= left or left + across <= x or y + height <= top - _TITLE
            assert is_apart or top + down <= y - _TITLE


@pytest.mark.parametrize("name", NAMES)
def test_a_second_run_gives_what_the_first_gave(name: str) -> None:
    controls = {"randomize", "increment", "decrement"}
    for node in opened(name)["nodes"]:
        assert not controls & {value for value in node["widgets_values"] if isinstance(value, str)}


@pytest.mark.parametrize("name", NAMES)
def test_a_note_tells_what_it_does(name: str) -> None:
    [note] = [node for node in opened(name)["nodes"] if node["type"] == "MarkdownNote"]
    title, *paragraphs = note["widgets_values"][0].split("\n\n")
    assert title.strip("*") == name.split(" (", maxsplit=1)[0]
    assert paragraphs


@pytest.mark.parametrize("name", NAMES)
def test_a_thumbnail_shows_pictures_or_words(name: str) -> None:
    with Image.open(WORKFLOWS / f"{name}.jpg") as picture:
        assert picture.size == (640, 400)
        assert len(picture.getcolors(640 * 400) or ()) > 50
