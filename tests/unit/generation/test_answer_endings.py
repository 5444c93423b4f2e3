"""How answers end and how they are streamed, with a model that says what the test tells it to."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from janus_core import Answer, Janus, TextOptions, Turn

QUESTIONS = ("Who?", "What is in this picture, and why?")

Say = Callable[..., None]


def asked(question: str) -> list[Turn]:
    return [Turn(role="user", text=question)]


def stream(janus: Janus, options: TextOptions, rows: int = 1) -> tuple[list[list[str]], list[Answer]]:
    """Answer and return, row by row, every text that was streamed, and the answers."""
    streamed: list[list[str]] = [[] for _ in range(rows)]
    found = janus.answer(
        [asked(question) for question in QUESTIONS[:rows]],
        options=options,
        on_text=lambda row, text: streamed[row].append(text),
    )
    return streamed, found


# the end of an answer


def test_an_answer_ends_with_its_eos(janus: Janus, say: Say) -> None:
    say("I am here.")
    [found] = janus.answer([asked("Who?")])
    assert found.text == "I am here."
    assert found.token_ids == (*janus.tokenizer.encode("I am here."), janus.tokenizer.special.eos)


def test_an_answer_is_stripped(janus: Janus, say: Say) -> None:
    say("  I am here. \n")
    assert janus.ask("Who?") == "I am here."


@pytest.mark.parametrize("stop", [(".",), (" am he",), ("zzz", "ere"), ("I am here. And",), ("here", "am")])
def test_an_answer_is_cut_before_the_first_stop_text(janus: Janus, say: Say, stop: tuple[str, ...]) -> None:
    text = "Now I am here. And there."
    say(text)
    expected = text[: min(text.find(one) for one in stop if one in text)].strip()
    assert janus.ask("Who?", options=TextOptions(stop=stop)) == expected


def test_nothing_is_generated_past_a_stop_text(janus: Janus, say: Say, rows_run: list[int]) -> None:
    say("I am here. And there.")
    janus.ask("Who?", options=TextOptions(stop=("here",)))
    assert len(rows_run) == len(janus.tokenizer.encode("I am here"))


def test_a_stop_text_ends_its_own_row_alone(janus: Janus, say: Say) -> None:
    say("A STOP", "A longer one, with no such word.")
    found = janus.answer(
        [asked(question) for question in QUESTIONS[:2]], options=TextOptions(stop=("OP",), max_new_tokens=40)
    )
    assert [one.text for one in found] == ["A ST", "A longer one, with no such word."]


# streaming


@pytest.mark.parametrize(
    "text", ["I am here. And there.", "  two  spaces ", "图片 and 🙂🚀 mixed", "a\n\nb\n"]
)
def test_streamed_text_only_grows(janus: Janus, say: Say, text: str) -> None:
    say(text)
    [streamed], _ = stream(janus, TextOptions())
    assert all(later.startswith(earlier) for earlier, later in pairwise(streamed))


@pytest.mark.parametrize(
    "text", ["I am here. And there.", "  two  spaces ", "图片 and 🙂🚀 mixed", "a\n\nb\n"]
)
def test_the_last_streamed_text_is_the_answer(janus: Janus, say: Say, text: str) -> None:
    say(text)
    [streamed], [found] = stream(janus, TextOptions())
    assert streamed[-1] == found.text == text.strip()


def test_the_last_streamed_text_is_the_answer_even_where_it_ends_in_half_a_character(
    janus: Janus, say: Say
) -> None:
    say("ok 🙂")
    half = TextOptions(max_new_tokens=len(janus.tokenizer.encode("ok 🙂")) - 1)
    [streamed], [found] = stream(janus, half)
    assert streamed[-1] == found.text
    assert found.text.endswith("\ufffd")


def test_half_a_character_is_not_streamed(janus: Janus, say: Say) -> None:
    say("ok 🙂 ok")
    [streamed], _ = stream(janus, TextOptions())
    assert not any("\ufffd" in text for text in streamed)


@pytest.mark.parametrize("stop", [("there",), (". And",), ("e. A", "nothing")])
def test_the_beginning_of_a_stop_text_is_not_streamed(janus: Janus, say: Say, stop: tuple[str, ...]) -> None:
    say("I am here. And there.")
    [streamed], [found] = stream(janus, TextOptions(stop=stop))
    assert all(found.text.startswith(text) for text in streamed)
    assert streamed[-1] == found.text


def test_what_only_began_like_a_stop_text_is_streamed_in_the_end(janus: Janus, say: Say) -> None:
    say("I am the")
    [streamed], [found] = stream(janus, TextOptions(stop=("there",)))
    assert streamed[-1] == found.text == "I am the"


def test_streamed_rows_are_told_apart(janus: Janus, say: Say) -> None:
    say("One.", "Two and more.")
    streamed, found = stream(janus, TextOptions(), rows=2)
    assert [texts[-1] for texts in streamed] == [one.text for one in found] == ["One.", "Two and more."]
