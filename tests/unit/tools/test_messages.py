"""No message of an error is missing from the pages, and no page quotes one that is gone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import janus_core.errors
from tools.messages import CLASSES, PAGE, Message, all_messages, page

ROOT = Path(__file__).parents[3]
CURATED = ROOT / "docs" / "troubleshooting.md"


def sources() -> str:
    """Return all texts in the source as one, values as …, with blanks for breaks."""
    texts = [(ROOT / "web" / "janus.js").read_text(encoding="utf-8")]
    for room in ("janus_core", "nodes"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                    texts.append("".join(str(part) for part in parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return " ".join(" ".join(texts).split())


def written(folder: Path, source: str) -> list[Message]:
    (folder / "janus_core").mkdir()
    (folder / "janus_core" / "a.py").write_text(source, encoding="utf-8")
    return all_messages(folder)


def test_the_page_lists_every_message_that_the_source_has() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(all_messages()), "run python -m tools.messages"


def test_every_class_of_errors_has_its_place_on_the_page() -> None:
    errors = vars(janus_core.errors).values()
    ours = {found.__name__ for found in errors if isinstance(found, type)} - {"JanusError"}
    assert ours == set(CLASSES)


def test_every_message_has_a_cure() -> None:
    rows = [line for line in page(all_messages()).splitlines() if line.startswith("| ")]
    cures = [line.replace("\\|", "/").split("|")[2].strip() for line in rows]
    assert len(cures) > 200
    assert [cure for cure in cures if not re.search(r"[a-z]{3}", cure)] == []


@pytest.mark.parametrize(
    ("expression", "what", "cure"),
    [
        ('"It broke here. Mend it."', "It broke here", "Mend it."),
        ('f"It {n} broke here: {error}. Mend it. Or not."', "It … broke here: …", "Mend it. Or not."),
        ('f"It broke in {n} of " f"{m}: mend it"', "It broke in … of …: mend it", ""),
        ('f"It broke here, {a}{b}. {_CURE}"', "It broke here, …", "Mend it then."),
        ('f"It broke here. {hint}"', "It broke here", ""),
    ],
)
def test_a_message_is_parted_into_what_happened_and_what_to_do(
    tmp_path: Path, expression: str, what: str, cure: str
) -> None:
    source = (
        f'_CURE = "Mend it then."\n\ndef f(n, m, a, b, error, hint):\n    raise ImageError({expression})\n'
    )
    assert written(tmp_path, source) == [Message("ImageError", what, cure)]


def test_errors_of_others_and_texts_of_variables_are_no_messages(tmp_path: Path) -> None:
    source = 'def f(text):\n    raise ValueError("It broke here.")\n    raise ImageError(text)\n'
    assert written(tmp_path, source) == []


def quotes() -> list[str]:
    """Return the longest run of words of each message that the curated page quotes."""
    rows = [line for line in CURATED.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    messages = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    runs = [
        max(re.split(r"…|\"|; |\(|\)|`", message), key=len) for message in messages if message != "message"
    ]
    return [run.strip(" ,.:") for run in runs]


def is_quoted(run: str, source: str) -> bool:
    """Tell whether three words of a run that follow each other are in the source, or the run if it is short.

    Not the whole run: the page puts numbers and names where a message has a value.
    """
    words = run.split()
    windows = [" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))]
    return any(window in source for window in windows)


def test_every_message_on_the_curated_page_is_one_that_the_source_has() -> None:
    source = sources()
    assert len(quotes()) > 50
    assert [run for run in quotes() if not is_quoted(run, source)] == []


def test_a_message_that_is_gone_would_be_noticed() -> None:
    assert is_quoted("is too large to decode", "the file is too large to decode here")
    assert not is_quoted("is too large to decode", "the file is larger than can be read")
