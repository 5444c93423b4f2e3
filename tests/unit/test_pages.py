"""The pages for readers: every relative link leads somewhere, and every file they name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
HELP = ROOT / "web" / "docs"
FOLDERS = ("docs", "benchmarks", "janus_core", "janus_training", "tests", "tools", "web", ".github")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)>]+)>?\)")
FENCE = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+)$", flags=re.MULTILINE)
# A file or folder of ours in inline code; <…> and * stand for something else.
NAMED = re.compile(
    r"`((?:janus_core|janus_training|nodes|tests|docs|tools|benchmarks|web|locales|workflows)/[\w./-]*)`"
)
# `a` in `file.py`, or `a` and `b` in `file.py`: what the file defines.
DEFINED = re.compile(r"`(\w+)`(?: and `(\w+)`)?,? in `([\w/]+\.py)`")

each_page = pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])


def anchors(text: str) -> set[str]:
    """Return what a page's headings are called in a link."""
    found = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-"))
    return found


def broken_links(page: Path, text: str) -> list[str]:
    """Return the targets of a page's relative links that are not there."""
    broken = []
    # ComfyUI looks for what a help page links to in the folder of all help pages, in every language
    folder = HELP if HELP in page.parents else page.parent
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        path = folder / unquote(place) if place else page
        is_there = path.exists() and path.resolve().is_relative_to(ROOT.resolve())
        if is_there and anchor:
            is_there = anchor in anchors(path.read_text(encoding="utf-8"))
        if not is_there:
            broken.append(target)
    return broken


def missing_files(text: str) -> list[str]:
    """Return the files of ours, or modules by their path, that a page names and that are not there."""
    named = NAMED.findall(text)
    return [name for name in named if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()]


def defined_names(path: Path) -> set[str]:
    """Return the classes, functions and constants that a file of ours defines, methods among them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def strange_names(text: str) -> list[str]:
    """Return the names that a page puts into files which do not define them."""
    placed = [(name, path) for first, second, path in DEFINED.findall(text) for name in (first, second)]
    return [f"{name} in {path}" for name, path in placed if name and name not in defined_names(ROOT / path)]


def test_there_are_pages() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {page.name for page in PAGES}


@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


@each_page
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert missing_files(page.read_text(encoding="utf-8")) == []


def test_every_name_on_the_page_of_papers_is_defined_where_it_is_said_to_be() -> None:
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert len(DEFINED.findall(text)) > 30
    assert strange_names(text) == []


def test_a_name_in_another_file_would_be_noticed() -> None:
    assert strange_names("`guide` in `janus_core/generation/sampling.py`") == []
    assert strange_names("`guide` in `janus_core/generation/noise.py`") == [
        "guide in janus_core/generation/noise.py"
    ]


def test_every_decision_is_in_the_list_of_decisions() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(LINK.findall((folder / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in folder.glob("*.md")} - {"README.md"}


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        ("[a](docs/architecture.md)", False),
        ("[a](docs/architecture.md#stairs)", False),
        ("[a](#models)", False),
        ("![a](<workflows/Draw four pictures with Janus.jpg>)", False),
        ("[a](workflows/Draw%20four%20pictures%20with%20Janus.jpg)", False),
        ("[a](https://example.org/none)", False),
        ("```\n[a](none.md)\n```", False),
        ("[a](none.md)", True),
        ("[a](docs/architecture.md#none)", True),
        ("[a](#none)", True),
        ("[a](../)", True),  # leads out of the project
    ],
)
def test_a_broken_link_would_be_noticed(link: str, is_broken: bool) -> None:
    assert bool(broken_links(ROOT / "README.md", link)) == is_broken


def test_a_file_that_is_gone_would_be_noticed() -> None:
    assert missing_files("`tests/unit/test_pages.py`, `tests/unit/`, `tests/<room>/`") == []
    assert missing_files("`tests/unit/none.py`") == ["tests/unit/none.py"]
