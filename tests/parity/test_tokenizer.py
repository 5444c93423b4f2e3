from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from janus_core import Janus

FACTS = json.loads((Path(__file__).parent / "golden" / "janus-tiny.golden.json").read_text(encoding="utf-8"))
CONTROL = tuple(name for name in FACTS["encode"] if "<" in name)
PLAIN = tuple(name for name in FACTS["encode"] if name not in CONTROL)


def test_special_tokens_have_the_golden_ids(janus: Janus, facts: dict[str, Any]) -> None:
    special, expected = janus.tokenizer.special, dict(facts["special_ids"])
    assert janus.tokenizer.vocab_size == expected.pop("tokenizer_size")
    names = {"user": "<|User|>", "assistant": "<|Assistant|>"}
    assert {names.get(name, name): token for name, token in vars(special).items()} == expected


@pytest.mark.parametrize("text", PLAIN)
def test_text_encodes_to_the_golden_ids_behind_one_bos(
    janus: Janus, facts: dict[str, Any], text: str
) -> None:
    found = [janus.tokenizer.special.bos, *janus.tokenizer.encode(text)]
    assert found == facts["encode"][text]


@pytest.mark.parametrize("text", CONTROL)
def test_control_tags_in_text_encode_to_no_control_token(janus: Janus, text: str) -> None:
    assert max(janus.tokenizer.encode(text)) < min(
        token for token in vars(janus.tokenizer.special).values() if token is not None
    )


@pytest.mark.parametrize("text", [*PLAIN, *CONTROL])
def test_golden_ids_decode_to_the_golden_text(janus: Janus, facts: dict[str, Any], text: str) -> None:
    assert janus.tokenizer.decode(facts["encode"][text]) == facts["decode_skip_special"][text]
