"""The gallery shows every template that people can open, with its picture and its file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from tools import gallery
from tools.templates.known import ALL

ROOT = Path(__file__).parents[3]


def test_the_page_is_the_one_that_the_templates_give() -> None:
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page(), "run python -m tools.gallery"


def test_every_template_is_shown_with_its_picture_and_its_file() -> None:
    text = gallery.page()
    assert [name for name in ALL if f"({quote('../workflows/' + name)}.json)" not in text] == []
    assert [name for name in ALL if f"({quote('../workflows/' + name)}.jpg)" not in text] == []


def test_every_template_is_shown_once_with_words_of_its_own() -> None:
    entries = gallery.page().split("\n### ")[1:]
    assert sorted(entry.split("\n")[0] for entry in entries) == sorted(ALL)
    words = [entry.split("\n\n")[1] for entry in entries]
    assert len(set(words)) == len(words)
    assert min(len(text) for text in words) > 30
