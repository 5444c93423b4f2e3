"""Dependency groups are read from pyproject.toml, by every pip and Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.install_group import ROOT, read_toml, requirements

GROUPS = '[dependency-groups]\ntest = ["pytest>=8", "colour"]\nlint = ["mypy"]\n'


@pytest.fixture
def pyproject(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(GROUPS, encoding="utf-8")
    return path


def test_groups_come_in_the_order_they_are_named(pyproject: Path) -> None:
    assert requirements("lint", "test", pyproject=pyproject) == ["mypy", "pytest>=8", "colour"]


@pytest.mark.parametrize("names", [("docs",), ("test", "docs"), ()])
def test_a_group_that_is_not_there_is_refused_with_those_that_are(
    names: tuple[str, ...], pyproject: Path
) -> None:
    with pytest.raises(SystemExit, match="test, lint"):
        requirements(*names, pyproject=pyproject)


@pytest.mark.parametrize("page", ["Makefile", "README.md", ".ci/run"])
def test_what_a_group_holds_is_written_nowhere_else(page: str) -> None:
    groups = read_toml(ROOT / "pyproject.toml")["dependency-groups"]
    names = {re.split(r"[<>=\[]", one)[0] for group in groups.values() for one in group}
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    installing = [line for line in lines if re.search(r"pip install|\$\(PIP\)", line)]
    assert [line for line in installing if any(name in line.split() for name in names)] == []


def test_every_group_that_the_makefile_installs_is_there() -> None:
    groups = read_toml(ROOT / "pyproject.toml")["dependency-groups"]
    asked = re.findall(r"\$\(GROUP\) (\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert set(asked) == set(groups)
