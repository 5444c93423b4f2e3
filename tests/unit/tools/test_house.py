"""The whole survey, on a tree of a few files and on this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.house import House, report, survey
from tools.stairs import PAGE, ROOT

FILES = {
    "docs/architecture.md": "| 0 | `janus_core/low` | | Low. |\n| 1 | `janus_core/high` | a b | High. |\n",
    "janus_core/__init__.py": "from .high import a\n",
    "janus_core/low.py": "x = 1\n",
    "janus_core/high/__init__.py": "",
    "janus_core/high/a.py": "from ..low import x\n",
    "janus_core/high/b.py": "from .a import x\n",
    "tests/test_low.py": "y = 1\n\nz = 2\n",
    "out/left.py": "z = 1\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def surveyed(tree: Path) -> House:
    return survey(tree, tree / PAGE)


def test_source_and_tests_are_told_apart(tree: Path) -> None:
    house = surveyed(tree)
    assert (house.source.files, house.tests.files) == (4, 1)
    assert house.parts == {"janus_core": 4, "tests": 3}


def test_an_arrow_joins_two_rooms_once(tree: Path) -> None:
    house = surveyed(tree)
    assert [(upper.path, lower.path) for upper, lower in house.arrows] == [
        ("janus_core/high", "janus_core/low")
    ]
    assert house.upward == []
    assert "2 rooms, 1 arrows, running up: none." in report(house)


def test_an_arrow_that_goes_up_is_named(tree: Path) -> None:
    (tree / "janus_core" / "low.py").write_text("from .high.a import x\n", encoding="utf-8")
    assert "running up: janus_core/low to janus_core/high." in report(surveyed(tree))


def test_the_report_gives_each_measure_for_source_and_tests(tree: Path) -> None:
    text = report(surveyed(tree))
    assert "| files | 4 | 1 |\n| lines | 4 | 3 |" in text
    assert "| janus_core | 4 |\n| tests | 3 |" in text


def test_no_arrow_of_this_tree_goes_up() -> None:
    house = surveyed(ROOT)
    assert house.rooms
    assert house.arrows
    assert house.upward == []
