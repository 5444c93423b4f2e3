"""How answers end, and how texts are tidied."""

from __future__ import annotations

import pytest

from janus_core.generation.endings import appended, in_one_line, is_finished, whole_sentences
from janus_core.inputs.text_tokenizer import TextTokenizer


def test_an_answer_is_finished_by_its_end_mark_or_a_stop_text(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("one two. three")
    assert is_finished([*ids, tokenizer.special.eos], tokenizer)
    assert is_finished(ids, tokenizer, ["."])
    assert not is_finished(ids, tokenizer, ["!"])
    assert not is_finished(ids, tokenizer)
    assert not is_finished([], tokenizer)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two. Thr", "One. Two."),
        ("A 3.5 cm nail. It is 2.", "A 3.5 cm nail. It is 2."),
        ('He said "stop!" and th', 'He said "stop!"'),
        ("Really? Yes! But th", "Really? Yes!"),
        ("cat, dog, tre", "cat, dog"),
        ("no end at all", "no end at all"),
        ("\u4e00\u3002\u4e8c", "\u4e00\u3002"),
        ("Line one.\nLine tw", "Line one."),
        ("", ""),
    ],
)
def test_an_unfinished_sentence_is_cut_off(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept


def test_one_line_has_no_breaks() -> None:
    assert in_one_line(" a\n\n b\r\n\tc ") == "a b c"


@pytest.mark.parametrize(
    ("before", "text", "one_line", "after"),
    [
        ("", "new", False, "new"),
        ("old\n", "new", False, "old\nnew"),
        ("A cat.", "A dog.", True, "A cat. A dog."),
        ("cat", "dog", True, "cat, dog"),
        ("old\nnew\n", "new", False, "old\nnew"),
        ("cat, dog", "dog", True, "cat, dog"),
        ("renew", "new", True, "renew, new"),
    ],
)
def test_a_text_is_put_behind_another_once(before: str, text: str, one_line: bool, after: str) -> None:
    assert appended(before, text, one_line=one_line) == after
