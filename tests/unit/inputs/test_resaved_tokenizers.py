"""Tokenizers that another program has saved again: mended where that is certain, else refused."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from janus_core.errors import CheckpointError
from janus_core.inputs.text_tokenizer import TextTokenizer, read_tokenizer

FOLDER = Path(__file__).parents[2] / "parity" / "golden" / "janus-tiny-bin"
WHOLE: dict[str, Any] = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
LLAMAS_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
LLAMAS_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
TEXTS = ["hello world", " leading and  double blanks", "a\nb\n\nc\td", "Zürich, café — 日本 12:30 €"]


def damaged(**parts: Any) -> dict[str, Any]:
    return copy.deepcopy(WHOLE) | parts


def build(definition: dict[str, Any]) -> TextTokenizer:
    return TextTokenizer(json.dumps(definition), source="tokenizer.json")


def splits_with(step: dict[str, Any] | None) -> dict[str, Any]:
    """Return the splitting steps with another last one, or none."""
    steps = WHOLE["pre_tokenizer"]["pretokenizers"][:-1]
    return {"type": "Sequence", "pretokenizers": [*steps, *([step] if step else [])]}


CERTAIN = {
    "another decoder": damaged(decoder=LLAMAS_DECODER),
    "no decoder": damaged(decoder=None),
    "another last step": damaged(pre_tokenizer=splits_with(METASPACE)),
    "no last step": damaged(pre_tokenizer=splits_with(None)),
    "blanks as lines": damaged(normalizer=LLAMAS_NORMALIZER),
    "all of it": damaged(
        normalizer=LLAMAS_NORMALIZER, decoder=LLAMAS_DECODER, pre_tokenizer=splits_with(METASPACE)
    ),
    "a prefix to every text": damaged(
        pre_tokenizer=splits_with(WHOLE["pre_tokenizer"]["pretokenizers"][-1] | {"add_prefix_space": True})
    ),
}
LOST = {
    "as LlamaTokenizerFast saves it": damaged(pre_tokenizer=METASPACE, decoder=LLAMAS_DECODER),
    "no splitting at all": damaged(pre_tokenizer=None),
    "split at blanks": damaged(pre_tokenizer={"type": "WhitespaceSplit"}),
}


@pytest.mark.parametrize("case", list(CERTAIN.values()), ids=list(CERTAIN))
def test_what_the_vocabulary_makes_certain_is_put_back(
    case: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "janus.inputs"):
        tokenizer = build(case)
    whole = read_tokenizer(FOLDER)
    assert [tokenizer.encode(text) for text in TEXTS] == [whole.encode(text) for text in TEXTS]
    assert [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS] == TEXTS
    assert "its byte-level steps were put back" in caplog.text


@pytest.mark.parametrize("case", list(LOST.values()), ids=list(LOST))
def test_a_tokenizer_whose_splitting_is_lost_is_refused_with_the_file_to_take(case: dict[str, Any]) -> None:
    with pytest.raises(
        CheckpointError, match=r'"tokenizer.json" loses text: "hello world 12" comes back as'
    ) as e:
        build(case)
    assert "Copy tokenizer.json from the model that this one was tuned from" in str(e.value)


def test_what_transformers_saves_for_llama_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.LlamaTokenizerFast.from_pretrained(FOLDER).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    if saved["pre_tokenizer"] == WHOLE["pre_tokenizer"]:
        pytest.skip("this release of transformers does no damage")
    with pytest.raises(CheckpointError, match="loses text"):
        read_tokenizer(tmp_path)


def test_a_whole_tokenizer_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "janus.inputs"):
        build(WHOLE)
    assert caplog.records == []


def test_a_git_lfs_pointer_is_called_by_its_name(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4607\n"
    (tmp_path / "tokenizer.json").write_text(pointer)
    with pytest.raises(CheckpointError, match=r'tokenizer\.json" is a Git-LFS pointer of a few lines'):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json"])
def test_another_kind_of_tokenizer_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=f"has no tokenizer.json; its {name} is another kind"):
        read_tokenizer(tmp_path)
