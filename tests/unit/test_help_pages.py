"""The help that the page shows for a node: whole, true to the schemas, in each language that has pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DOCS, WORKFLOWS = ROOT / "web" / "docs", ROOT / "workflows"
SCHEMAS = json.loads((ROOT / "tests" / "comfyui" / "snapshot.json").read_text(encoding="utf-8"))
LANGUAGES = ["en", "zh"]
LARGEST_BYTES, WIDEST_PX = 60_000, 500  # the panel that shows help is narrow
ROW = re.compile(r"^\| (.*) \| (.*) \| (.*) \|$", flags=re.MULTILINE)
CODE = re.compile(r"```.*?```|`[^`]*`", flags=re.DOTALL)
TEMPLATE = re.compile(r"^\*\*(?:Templates? to open:|可打开的模板\uff1a)\*\* (.*)$", flags=re.MULTILINE)
ENGLISH = re.compile(r"(?:\b[A-Za-z'-]+\b[ ,;]+){3,}[A-Za-z'-]+")  # four words or more

each_page = pytest.mark.parametrize(
    ("node", "language"), [(node, language) for node in SCHEMAS for language in LANGUAGES]
)


def read(node: str, language: str) -> str:
    """Return a help page."""
    return (DOCS / node / f"{language}.md").read_text(encoding="utf-8")


def rows(node: str, language: str) -> dict[str, tuple[str, str]]:
    """Return, of the table of inputs, what stands beside each input: what it does, and its values."""
    table = re.split(r"\n\n(?!\|)", read(node, language).split("|---|---|---|\n", 1)[1])[0]
    found = ROW.findall(table)
    return {name: (does, values) for head, does, values in found for name in re.findall(r"`(\w+)`", head)}


def templates(text: str) -> list[str]:
    """Return the templates that a page tells to open."""
    [line] = TEMPLATE.findall(text)
    found = [name for name in re.findall(r"\*([^*]+)\*", line) if (WORKFLOWS / f"{name}.json").exists()]
    assert found, line
    return found


def holds(template: str, node: str) -> bool:
    """Return True if a template has a node of a kind."""
    workflow = json.loads((WORKFLOWS / f"{template}.json").read_text(encoding="utf-8"))
    return any(one["type"] == node for one in workflow["nodes"])


def english_sentences(text: str) -> list[str]:
    """Return four words of English in a row and more, outside of code and names of templates."""
    plain = CODE.sub("", text)
    for path in WORKFLOWS.glob("*.json"):
        plain = plain.replace(path.stem, "")
    return ENGLISH.findall(plain)


def test_every_help_page_and_picture_belongs_to_a_node() -> None:
    files = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.is_file()}
    languages = [f"{language}.md" for language in LANGUAGES]
    expected = {f"{node}.md" for node in SCHEMAS}
    expected |= {f"{node}/{name}" for node in SCHEMAS for name in [*languages, "node.jpg"]}
    assert files == expected


@each_page
def test_the_heading_is_the_name_on_the_node(node: str, language: str) -> None:
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert read(node, language).splitlines()[0] == f"# {texts[node]['display_name']}"


@each_page
def test_every_input_is_explained_and_no_other(node: str, language: str) -> None:
    wanted = {one["id"] for one in SCHEMAS[node]["inputs"]}
    assert set(rows(node, language)) == wanted
    assert all(does and values for does, values in rows(node, language).values())


@each_page
def test_limits_are_those_of_the_schema(node: str, language: str) -> None:
    told = rows(node, language)
    for one in SCHEMAS[node]["inputs"]:
        if "max" not in one or one["id"] == "seed":  # every seed is as good as another
            continue
        limits = f"{one['min']:g}–{one['max']:.7g}"
        assert told[one["id"]][1].endswith(limits), (one["id"], limits)


@each_page
def test_every_choice_of_a_list_is_named(node: str, language: str) -> None:
    text = read(node, language)
    for one in SCHEMAS[node]["inputs"]:
        if one["id"] == "dtype":  # named by what they cost, and auto
            continue
        assert [choice for choice in one.get("choices", []) if choice not in text] == []


@each_page
def test_a_template_to_open_is_named(node: str, language: str) -> None:
    named = templates(read(node, language))
    can_be_shown = node == "JanusLoad" or any(holds(path.stem, node) for path in WORKFLOWS.glob("*.json"))
    assert not can_be_shown or all(holds(name, node) for name in named)


@pytest.mark.parametrize("node", SCHEMAS)
def test_both_languages_tell_the_same(node: str) -> None:
    english, chinese = read(node, "en"), read(node, "zh")
    assert templates(english) == templates(chinese)
    assert list(rows(node, "en")) == list(rows(node, "zh"))
    assert len(ROW.findall(english)) == len(ROW.findall(chinese))
    assert re.findall(r"```.*?```", english, re.DOTALL) == re.findall(r"```.*?```", chinese, re.DOTALL)


@pytest.mark.parametrize("node", SCHEMAS)
def test_other_languages_get_the_english_page(node: str) -> None:
    assert (DOCS / f"{node}.md").read_text(encoding="utf-8") == read(node, "en")


@pytest.mark.parametrize("node", SCHEMAS)
def test_no_english_sentence_is_left_in_chinese(node: str) -> None:
    assert english_sentences(read(node, "zh")) == []


@each_page
def test_a_picture_shows_the_node_in_use(node: str, language: str) -> None:
    assert re.findall(r"!\[.+\]\((.*)\)", read(node, language)) == [f"{node}/node.jpg"]
    path = DOCS / node / "node.jpg"
    assert path.stat().st_size < LARGEST_BYTES
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        assert picture.width <= WIDEST_PX


def test_an_english_sentence_would_be_noticed() -> None:
    assert english_sentences("把图像 turns pictures into image tokens 转换") != []
    assert english_sentences("打开 *Draw four pictures with Janus* 用 `a red circle`") == []
