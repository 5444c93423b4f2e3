"""The nodes' texts in other languages: every one that English has and no other, with the same facts in it.

English itself is held against the nodes' schemas by the tests on ComfyUI.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LOCALES = Path(__file__).parents[2] / "locales"
LANGUAGES = ["de", "es", "fr", "ja", "ko", "ru", "zh", "zh-TW"]
# Texts that the page compiles as messages (others it shows as they are): these signs are its grammar.
COMPILED, GRAMMAR = ("display_name", "description", "name"), re.compile(r"[{}|@]")
# What stands in every language alike: marks, files, models, units, numbers.
FACT = re.compile(
    r"""<\w+>|\{\w+\}
    |models/janus|extra_model_paths\.yaml|captions\.toml|janus_datasets|photos
    |(?<![A-Za-z])
     (?:Janus(?:Flow)?(?:-Pro)?-\d[\dB.]*|janus-shapes|JanusFlow|DeepSeek|ComfyUI
     |SDXL|GPU|PNG|GB|VAE|MODEL|cfg|custom|raw)
     (?![a-z_])
    |\d+(?:[.,]\d+)?""",
    re.VERBOSE,
)
SCRIPTS = {
    "ja": "[ぁ-ヿ一-鿿]",
    "ko": "[가-힣]",
    "ru": r"[\u0400-\u04ff]",
    "zh": "[一-鿿]",
    "zh-TW": "[一-鿿]",
}
ENGLISH_WORDS = re.compile(r"(?:[A-Za-z']+[ ,]+){3,}[A-Za-z]+")  # four in a row are a sentence
ONLY_TRADITIONAL, ONLY_SIMPLIFIED = "圖張權載輸檔資數這為與會從個時無", "图张权载输档资数这为与会从个时无"

Texts = dict[str, Any]


def read(language: str) -> Texts:
    """Return a language's texts as the page gets them."""
    return dict(json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8")))


def leaves(texts: Texts, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Return every text with the keys that lead to it."""
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


ENGLISH = dict(leaves(read("en")))
SCHEMAS = json.loads((LOCALES.parent / "tests/comfyui/snapshot.json").read_text(encoding="utf-8"))
each_language = pytest.mark.parametrize("language", LANGUAGES)


def facts(text: str) -> Counter[str]:
    """Return what has to stand in a text in every language, and how often."""
    return Counter(found.replace(",", ".") for found in FACT.findall(text))


def lost(english: str, translated: str) -> Counter[str]:
    """Return the facts of an English text that a translation lacks; a number word may have become a digit."""
    return facts(english) - facts(translated)


def named(text: str, called: dict[str, str]) -> list[str]:
    """Return the nodes that a text names, where one may be called like the beginning of another."""
    found = []
    for name in sorted(called, key=lambda name: -len(called[name])):
        if called[name] in text:
            found.append(name)
            text = text.replace(called[name], "")
    return found


def titles(texts: Texts) -> dict[str, str]:
    """Return what nodes are called where another text names them: without what stands in brackets."""
    return {name: re.split(r" ?[(\uff08]", node["display_name"])[0] for name, node in texts.items()}


def test_the_languages_are_those_of_the_folder() -> None:
    assert sorted(path.name for path in LOCALES.iterdir()) == sorted(["en", *LANGUAGES])


@each_language
def test_no_text_is_missing_and_none_is_left_over(language: str) -> None:
    translated = dict(leaves(read(language)))
    assert set(ENGLISH) - set(translated) == set()
    assert set(translated) - set(ENGLISH) == set()


@each_language
def test_every_text_says_something_of_its_own(language: str) -> None:
    translated = dict(leaves(read(language)))
    assert all(text.strip() == text and text for text in translated.values())
    sentences = [path for path, text in ENGLISH.items() if path[-1] in ("tooltip", "description")]
    assert [path for path in sentences if translated[path] == ENGLISH[path]] == []
    if language in SCRIPTS:
        assert [path for path in sentences if not re.search(SCRIPTS[language], translated[path])] == []
        assert [text for text in translated.values() if ENGLISH_WORDS.search(text)] == []


@each_language
def test_numbers_marks_files_and_names_of_models_are_kept(language: str) -> None:
    translated = dict(leaves(read(language)))
    assert {path: gone for path, text in ENGLISH.items() if (gone := lost(text, translated[path]))} == {}


@each_language
def test_choices_are_named_as_the_list_shows_them(language: str) -> None:
    texts, english = read(language), read("en")
    for node, schema in SCHEMAS.items():
        for one in schema["inputs"]:
            told, translated = (lot[node]["inputs"][one["id"]]["tooltip"] for lot in (english, texts))
            choices = [choice for choice in one.get("choices", []) if choice in told]
            assert [choice for choice in choices if choice not in translated] == [], (node, one["id"])


@each_language
def test_a_text_names_other_nodes_as_the_page_does(language: str) -> None:
    texts = read(language)
    translated, ours, theirs = dict(leaves(texts)), titles(read("en")), titles(texts)
    wrong = [
        (path, name)
        for path, text in ENGLISH.items()
        if path[-1] in ("tooltip", "description")
        for name in named(text, ours)
        if theirs[name] not in translated[path]
    ]
    assert wrong == []


@each_language
def test_names_of_one_node_differ(language: str) -> None:
    for name, node in read(language).items():
        shown = [one["name"] for one in node["inputs"].values()]
        assert len(set(shown)) == len(shown), name
    called = [node["display_name"] for node in read(language).values()]
    assert len(set(called)) == len(called)


@each_language
def test_one_english_text_has_one_translation(language: str) -> None:
    translated = dict(leaves(read(language)))
    seen: dict[tuple[str, str], str] = {}
    for path, text in ENGLISH.items():
        assert seen.setdefault((path[-1], text), translated[path]) == translated[path], path


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_no_compiled_text_holds_the_grammar_of_the_page(language: str) -> None:
    texts = leaves(read(language))
    assert [path for path, text in texts if path[-1] in COMPILED and GRAMMAR.search(text)] == []


def test_the_two_chinese_scripts_are_not_mixed() -> None:
    for language, foreign in (("zh", ONLY_TRADITIONAL), ("zh-TW", ONLY_SIMPLIFIED)):
        text = (LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8")
        assert set(text) & set(foreign) == set()


def test_a_fact_that_is_lost_would_be_noticed() -> None:
    assert not lost("4.2 GB in models/janus", "in models/janus 4,2 GB, eines von 3")
    assert lost("<image_placeholder> marks", "<Bild> bezeichnet") == {"<image_placeholder>": 1}
    assert lost("{prompt} marks", "{Prompt} bezeichnet") == {"{prompt}": 1}
    assert lost("0 is off, 1 is not", "1 ist nicht aus") == {"0": 1}
    assert named("From Load Janus Tokens.", titles(read("en"))) == ["JanusLoadTokens"]
