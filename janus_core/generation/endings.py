"""How an answer ends: whether it says all it wanted, and how to tidy what it says.

Knows nothing of models and files; texts in, texts out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..inputs.text_tokenizer import TextTokenizer

# The end of a sentence: its mark, whatever closes behind it, then a blank or nothing; Chinese needs no blank.
_SENTENCE_END = re.compile(
    "(?:[.!?\u2026]+[\"'\u201d\u2019)\\]]*(?=\\s|$)|[\u3002\uff01\uff1f]+[\u201d\u2019\u300d\u300f\uff09]*)"
)


def is_finished(token_ids: Sequence[int], tokenizer: TextTokenizer, stop: Sequence[str] = ()) -> bool:
    """Tell whether an answer came to its own end, or to a stop text, before it was cut off.

    Args:
        token_ids: what was generated, the end mark included.
        tokenizer: the model's.
        stop: the texts that end an answer.
    """
    if token_ids and token_ids[-1] == tokenizer.special.eos:
        return True
    text = tokenizer.decode(token_ids) if stop else ""
    return any(ending in text for ending in stop)


def whole_sentences(text: str) -> str:
    """Return a text without the sentence that was begun last; a list loses its last item.

    What has neither a whole sentence nor a comma stays as it is.
    """
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    if ends:
        return text[: ends[-1]]
    items = text.rpartition(",")[0].rstrip()
    return items or text


def in_one_line(text: str) -> str:
    """Return a text with every run of blanks and line breaks as one blank."""
    return " ".join(text.split())


def appended(before: str, text: str, *, one_line: bool) -> str:
    """Return a text put behind another, on a new line or behind it on the same one.

    A text that is there already as the last one is not put there again, so that a run that was cut off can be
    repeated.
    """
    before = before.rstrip()
    if not before or before == text or before.endswith(("\n" + text, " " + text)):
        return before or text
    if not one_line:
        return f"{before}\n{text}"
    return f"{before} {text}" if _SENTENCE_END.search(before[-3:]) else f"{before}, {text}"
