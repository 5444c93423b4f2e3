"""Tokenizers whose steps take time or memory without end are refused, those of published models are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from janus_core import CheckpointError, PromptError
from janus_core.inputs.text_steps import refuse_endless_steps
from janus_core.inputs.text_tokenizer import TextTokenizer

FOLDER = Path(__file__).parents[2] / "parity" / "golden" / "janus-tiny-bin"
ENDLESS = (
    "(a+)+", "(a*)*b", r"(\w+\s?)+$", "(?:a|b)*", "(a|aa)+$", "((a)+b)*", "(a{2,})+", "([a-z]+){100}",
    "(?:(?:a+)b?)+",
    "(?>x(a|b))*",
)  # fmt: skip
PUBLISHED = (
    "[\\r\\n]", r"\s?\p{L}+", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    r"([+*])", r"[(|)+*]+", r"\(a+\)+", r"(?:ab){2,5}", r"[[a-z]&&[^b)]]+",
)  # fmt: skip


def with_pattern(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}}


@pytest.mark.parametrize("pattern", ENDLESS)
def test_a_repeat_of_repeats_or_branches_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"its pre_tokenizer has the pattern .* which can take hours"):
        refuse_endless_steps(with_pattern(pattern))


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_patterns_of_published_tokenizers_are_accepted(pattern: str) -> None:
    refuse_endless_steps(with_pattern(pattern))


@pytest.mark.parametrize("name", ["normalizer", "decoder"])
def test_replacements_that_make_a_text_far_longer_are_refused(name: str) -> None:
    replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 9}
    refuse_endless_steps({name: replace})
    with pytest.raises(ValueError, match=f"its {name} can make a text 81 times as long"):
        refuse_endless_steps({name: {"type": "Sequence", "normalizers": [replace, replace]}})


def test_the_tokenizer_names_the_file(tmp_path: Path) -> None:
    definition = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    with pytest.raises(CheckpointError, match=r'^Cannot read the tokenizer "x": its pre_tokenizer has the'):
        TextTokenizer(json.dumps(definition | with_pattern("(a+)+$")), source="x")


def test_a_text_at_which_the_library_panics_is_an_error_that_names_the_tokenizer() -> None:
    """The library gives up a pattern that backtracks too often, by a panic that is no Exception."""
    definition = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = TextTokenizer(json.dumps(definition), source="x")
    tokenizer._plain = Panicking()  # type: ignore[assignment]
    tokenizer._whole = Panicking()  # type: ignore[assignment]
    with pytest.raises(PromptError, match=r'^The tokenizer "x" fails at this text: over. Fetch'):
        tokenizer.encode("a")
    with pytest.raises(PromptError, match=r'^The tokenizer "x" fails at this text: over. Fetch'):
        tokenizer.decode([1])


class PanicError(BaseException):
    """Stands for the panic of a library in another language."""


class Panicking:
    def encode(self, *_: object, **__: object) -> None:
        raise PanicError("over")

    decode = encode
