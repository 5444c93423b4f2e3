"""Caption styles: the built-in ones, a person's own in captions.toml, and questions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from janus_core import CaptionRequest, ConfigError, PromptError, read_presets, request_for, style_names

OWN = {
    "shop": CaptionRequest(text="Describe the product."),
    "start": CaptionRequest(text="The picture shows", is_raw=True),
}


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "captions.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# what is asked


@pytest.mark.parametrize(
    ("style", "question", "asked"),
    [
        ("short", "Which colours?", "Describe this image in one short sentence. Which colours?"),
        ("custom", "Which colours?", "Which colours?"),
        ("shop", "", "Describe the product."),
        ("shop", " ", "Describe the product."),
        ("shop", "Which colours?", "Describe the product. Which colours?"),
    ],
)
def test_a_style_is_asked_and_a_question_behind_it(style: str, question: str, asked: str) -> None:
    assert request_for(style, question, OWN) == CaptionRequest(text=asked)


@pytest.mark.parametrize(
    ("style", "question", "asked"),
    [("raw", " A photo of ", " A photo of "), ("start", "", "The picture shows")],
)
def test_a_raw_text_is_sent_as_it_stands(style: str, question: str, asked: str) -> None:
    assert request_for(style, question, OWN) == CaptionRequest(text=asked, is_raw=True)


def test_the_request_is_made_of_every_picture() -> None:
    [turn] = OWN["start"].about("a.png")
    assert (turn.role, turn.text, turn.images, turn.is_raw) == ("user", "The picture shows", ("a.png",), True)


def test_own_styles_stand_behind_the_built_in_ones() -> None:
    assert style_names(OWN) == ["short", "detailed", "tags", "text", "shop", "start", "custom", "raw"]


def test_an_unknown_style_is_refused_with_all_that_are_known() -> None:
    with pytest.raises(PromptError, match=r'no caption style "loud".* text, shop, start, custom, raw\.'):
        request_for("loud", "", OWN)


@pytest.mark.parametrize("style", ["custom", "raw"])
def test_a_style_that_asks_nothing_needs_a_question(style: str) -> None:
    with pytest.raises(PromptError, match="asks nothing by itself, and the question is empty"):
        request_for(style, " \n")


# the file


def test_a_file_of_styles_is_read(tmp_path: Path) -> None:
    content = '# mine\nshop = "Describe the product."\n\n[start]\nask = "The picture shows"\nraw = true\n'
    assert read_presets(written(tmp_path, content)) == OWN


@pytest.mark.parametrize("content", [b"", b"# nothing yet\n", b'\xef\xbb\xbfshop = "x"\r\n'])
def test_an_empty_file_and_one_of_a_windows_editor_are_read(tmp_path: Path, content: bytes) -> None:
    assert set(read_presets(written(tmp_path, content))) <= {"shop"}


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ('a = "x"\nb = "y\n', 2, "is not valid TOML"),
        ('a = "x"\na = "y"\n', 2, "is not valid TOML"),
        ('a = "x"\n\n[b]\nask = "y"\nasking = "z"\n', 5, 'the style "b" has the key "asking"'),
        ('a = "x"\n[b]\nraw = true\n', 2, 'the style "b" needs a question in quotes'),
        ('[b]\nask = " "\n', 2, 'the style "b" needs a question in quotes'),
        ('a = "x"\nb = 3\n', 2, "must be a question in quotes, or a table"),
        ('[b]\nask = "x"\n\nraw = "yes"\n', 4, 'raw of the style "b" must be true or false'),
        ('b = {ask = "x", raw = 1}\n', 1, 'raw of the style "b" must be true or false'),
        ('a = "x"\n["short"]\nask = "y"\n', 2, '"short" is the name of a built-in style'),
        (b'a = "x"\nb = "\xff"\n', 2, "is not UTF-8"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, said: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        read_presets(path)
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert f"line {line}" in message.replace("Line", "line")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read .*captions\.toml"):
        read_presets(tmp_path / "captions.toml")


def test_a_python_without_a_reader_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"no reader for TOML.*pip install tomli"):
        read_presets(written(tmp_path, 'a = "x"\n'))
