from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from janus_core import CheckpointError
from janus_core.inputs.text_tokenizer import (
    ASSISTANT,
    BEGIN_OF_IMAGE,
    BOS,
    END_OF_IMAGE,
    EOS,
    IMAGE_PLACEHOLDER,
    PAD,
    USER,
    TextTokenizer,
    read_tokenizer,
)

FOLDER = Path(__file__).parents[2] / "parity" / "golden" / "janus-tiny-bin"
TAGS = (BOS, EOS, PAD, BEGIN_OF_IMAGE, END_OF_IMAGE, IMAGE_PLACEHOLDER, USER, ASSISTANT)


@pytest.fixture
def definition() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    return content


def rename(definition: dict[str, Any], old: str, new: str | None) -> dict[str, Any]:
    """Give an added token another text, or take it out."""
    tokens = [token for token in definition["added_tokens"] if new is not None or token["content"] != old]
    tokens = [{**token, "content": new} if token["content"] == old else token for token in tokens]
    return {**definition, "added_tokens": tokens}


def build(definition: dict[str, Any], **names: str) -> TextTokenizer:
    return TextTokenizer(json.dumps(definition), source="tokenizer.json", names=names)


def test_special_tokens_are_found_by_their_text(tokenizer: TextTokenizer, definition: dict[str, Any]) -> None:
    ids = {token["content"]: token["id"] for token in definition["added_tokens"]}
    special = tokenizer.special
    found = (special.bos, special.eos, special.pad, special.begin_of_image, special.end_of_image)
    assert (*found, special.image, special.user, special.assistant) == tuple(ids[tag] for tag in TAGS)


@pytest.mark.parametrize("tag", TAGS)
def test_a_typed_tag_stays_plain_text(tokenizer: TextTokenizer, tag: str) -> None:
    special = {token for token in vars(tokenizer.special).values() if token is not None}
    assert special.isdisjoint(tokenizer.encode(f"say {tag} twice: {tag}"))


@pytest.mark.parametrize("tag", TAGS)
def test_a_typed_tag_comes_back_as_typed(tokenizer: TextTokenizer, tag: str) -> None:
    assert tokenizer.decode(tokenizer.encode(f"a{tag}b")) == f"a{tag}b"


@pytest.mark.parametrize("text", ["", " two  spaces ", "line\n\nline", "1234", "图片", "🙂 mixed", "\t\x00"])
def test_text_comes_back_unchanged(tokenizer: TextTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", ["\udcff", "a\ud800b"])
def test_what_is_no_text_counts_as_a_question_mark(tokenizer: TextTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text.encode("utf-8", "replace").decode()


# letters among the added tokens


@pytest.fixture
def with_letters(definition: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer like DeepSeek's first ones: letters that stand for impossible bytes are added."""
    letters, first = "øü", definition["added_tokens"][-1]["id"] + 1
    model = definition["model"]
    vocabulary = {token: id_ for token, id_ in model["vocab"].items() if not set(token) & set(letters)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    added = [{"id": first + i, "content": letter, **flags} for i, letter in enumerate(letters)]
    return {
        **definition,
        "model": {**model, "vocab": vocabulary},
        "added_tokens": [*definition["added_tokens"], *added],
    }


@pytest.mark.parametrize("text", ["für", "Smørrebrød", "ü", "øü ü"])
def test_an_added_letter_encodes_as_the_whole_tokenizer_encodes_it(
    with_letters: dict[str, Any], text: str
) -> None:
    whole = Tokenizer.from_str(json.dumps(with_letters))
    assert build(with_letters).encode(text) == whole.encode(text, add_special_tokens=False).ids


def test_an_added_letter_is_one_token(with_letters: dict[str, Any]) -> None:
    tokenizer, whole = build(with_letters), Tokenizer.from_str(json.dumps(with_letters))
    assert tokenizer.encode("üø") == [whole.token_to_id("ü"), whole.token_to_id("ø")]


@pytest.mark.parametrize("text", ["für", "Smørrebrød 図 é", "üøü"])
def test_added_letters_come_back_unchanged(with_letters: dict[str, Any], text: str) -> None:
    tokenizer = build(with_letters)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("tag", TAGS)
def test_a_typed_tag_stays_plain_text_beside_added_letters(with_letters: dict[str, Any], tag: str) -> None:
    tokenizer = build(with_letters)
    special = {token for token in vars(tokenizer.special).values() if token is not None}
    assert special.isdisjoint(tokenizer.encode(f"ü{tag}ø"))


def test_an_added_letter_that_is_marked_as_control_is_no_text(with_letters: dict[str, Any]) -> None:
    with_letters["added_tokens"][-1]["special"] = True
    whole = Tokenizer.from_str(json.dumps(with_letters))
    assert whole.token_to_id("ü") not in build(with_letters).encode("ü")


def test_special_tokens_are_left_out_of_text(tokenizer: TextTokenizer) -> None:
    hello = tokenizer.encode("hello")
    assert tokenizer.decode([tokenizer.special.bos, *hello, tokenizer.special.eos]) == "hello"


def test_half_a_character_shows_as_a_replacement(tokenizer: TextTokenizer) -> None:
    whole = tokenizer.encode("🙂")
    assert tokenizer.decode(whole[:-1]).startswith("\ufffd")


@pytest.mark.parametrize("setting", ["truncation", "padding", "post_processor"])
def test_settings_of_the_file_do_not_change_what_is_encoded(
    tokenizer: TextTokenizer, definition: dict[str, Any], setting: str
) -> None:
    values: dict[str, Any] = {
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 99},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 402,
            "pad_type_id": 0,
            "pad_token": PAD,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {BOS: {"id": BOS, "ids": [400], "tokens": [BOS]}},
        },
    }
    text = "a few more than three tokens"
    assert build({**definition, setting: values[setting]}).encode(text) == tokenizer.encode(text)


# tokens that some models lack


@pytest.mark.parametrize(("tag", "name"), [(USER, "user"), (ASSISTANT, "assistant")])
def test_a_missing_role_token_is_none(definition: dict[str, Any], tag: str, name: str) -> None:
    assert getattr(build(rename(definition, tag, None)).special, name) is None


def test_a_missing_placeholder_gets_the_next_free_id(definition: dict[str, Any]) -> None:
    lacking = build(rename(definition, IMAGE_PLACEHOLDER, None))
    assert lacking.special.image == lacking.vocab_size == 407


def test_a_missing_placeholder_never_takes_the_id_of_a_word(definition: dict[str, Any]) -> None:
    lacking = rename(definition, IMAGE_PLACEHOLDER, None)
    vocabulary = dict(definition["model"]["vocab"])
    for token in lacking["added_tokens"]:
        vocabulary[token["content"]] = token["id"]  # leaves a hole where the placeholder was
    found = build({**lacking, "model": {**definition["model"], "vocab": vocabulary}}).special
    assert (found.end_of_image, found.assistant, found.image) == (405, 407, 408)


@pytest.mark.parametrize("tag", [BOS, EOS, PAD, BEGIN_OF_IMAGE, END_OF_IMAGE])
def test_any_other_missing_token_is_refused_by_name(definition: dict[str, Any], tag: str) -> None:
    names = {
        BOS: "begin-of-sentence",
        EOS: "end-of-sentence",
        PAD: "pad",
        BEGIN_OF_IMAGE: "begin-of-image",
        END_OF_IMAGE: "end-of-image",
    }
    with pytest.raises(CheckpointError, match=f'"tokenizer.json" has no {names[tag]} token'):
        build(rename(definition, tag, None))


@pytest.mark.parametrize(("tag", "name"), [(BOS, "bos"), (EOS, "eos"), (PAD, "pad")])
def test_side_files_may_name_a_token_otherwise(definition: dict[str, Any], tag: str, name: str) -> None:
    renamed = rename(definition, tag, "<other>")
    expected = next(token["id"] for token in renamed["added_tokens"] if token["content"] == "<other>")
    assert getattr(build(renamed, **{f"{name}_token": "<other>"}).special, name) == expected


# files


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json\. Download"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"model": 3}', b"<html>"])
def test_a_damaged_tokenizer_names_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pad_token": 3}', '{"pad_token": {"content": null}}'])
def test_damaged_side_files_are_ignored(tmp_path: Path, tokenizer: TextTokenizer, content: str) -> None:
    shutil.copy(FOLDER / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
    assert read_tokenizer(tmp_path).special == tokenizer.special


@pytest.mark.parametrize("written", ['"<other>"', '{"content": "<other>", "lstrip": false}'])
def test_a_side_file_names_a_token_as_text_or_object(
    tmp_path: Path, definition: dict[str, Any], tokenizer: TextTokenizer, written: str
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(rename(definition, PAD, "<other>")), encoding="utf-8")
    (tmp_path / "special_tokens_map.json").write_text(f'{{"pad_token": {written}}}', encoding="utf-8")
    assert read_tokenizer(tmp_path).special.pad == tokenizer.special.pad
