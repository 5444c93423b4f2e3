"""Broken model folders: each kind of damage has its own message, which names the file and says what to do."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from janus_core import CheckpointError, load_janus
from janus_core.checkpoints.load import read_checkpoint

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
INDEX = "pytorch_model.bin.index.json"

Damage = Callable[[Path], object]


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        load_janus(folder, dtype="float32", device="cpu")
    return str(raised.value)


# --- how files are damaged ---


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def text(content: str) -> Damage:
    return lambda path: path.write_text(content)


def data(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def without(part: str) -> Damage:
    def damage(path: Path) -> None:
        save_file({n: t for n, t in load_file(path).items() if part not in n}, path)

    return damage


def with_tensor(tensor: Tensor, *names: str) -> Damage:
    def damage(path: Path) -> None:
        save_file(load_file(path) | {name: tensor.clone() for name in names}, path)

    return damage


def saved(content: object) -> Damage:
    return lambda path: torch.save(content, path)


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def into_dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "gone")


def and_its_index(path: Path) -> None:
    path.unlink()
    (path.parent / INDEX).unlink()


def into_the_other_shard(path: Path) -> None:
    shutil.copy(path.parent / SHARDS[1], path)


def compress(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def naming(shard: object) -> Damage:
    return text(json.dumps({"weight_map": {"a": shard}}))


# --- what is said of it: the file, how it is damaged, a part of the message ---

NORM = "vision_model.vision_tower.norm.weight"
BLOCK = "vision_model.vision_tower.blocks.1."
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4180000000\n"
NOT_JSON = 'config.json" as JSON: '
UNREADABLE = 'model.safetensors": '
QUANTISED = "and nothing says by which scale. Use a file that janus convert or ComfyUI wrote"
NO_PLAIN_NAME = "which is not a plain file name"

CONFIG_CASES: dict[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "has no config.json. Download the whole model folder"),
    "no JSON": (cut(0.5), NOT_JSON),
    "a list": (text("[]"), 'config.json" holds list, not a JSON object'),
    "empty": (text(""), NOT_JSON),
    "in UTF-16": (data("{}".encode("utf-16")), NOT_JSON),
    "deep": (text("[" * 100_000), NOT_JSON),
    "a folder": (into_folder, f"{NOT_JSON}it is not a file"),
    "a dead link": (into_dead_link, "has no config.json"),
}
WEIGHT_CASES: dict[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "has no weights: neither model.safetensors nor pytorch_model.bin nor an index"),
    "truncated": (cut(0.5), UNREADABLE),
    "cut in the header": (cut(0.001), UNREADABLE),
    "three bytes": (data(b"\1\2\3"), UNREADABLE),
    "a Git-LFS pointer": (text(LFS_POINTER), "is a Git-LFS pointer of a few lines, not the weights. Run"),
    "a web page": (text("\n<!DOCTYPE html>"), 'model.safetensors" is a web page, not weights'),
    "a marked web page": (data(b"\xef\xbb\xbf<html>"), 'model.safetensors" is a web page, not weights'),
    "empty": (text(""), 'model.safetensors" is empty. Fetch it again'),
    "a folder": (into_folder, 'model.safetensors" is a folder, not a file'),
    "a dead link": (into_dead_link, 'model.safetensors" is a link to a file that is not there'),
    "one tensor short": (
        without(NORM),
        f'1 tensor is missing, first "{NORM}". The download is probably incomplete: fetch it again',
    ),
    "a block short": (without(BLOCK), f'12 tensors are missing, first "{BLOCK}attn.proj.bias"'),
    "one tensor too many": (
        with_tensor(torch.zeros(1), "lora"),
        '1 tensor is unexpected, first "lora". The weights do not belong to this config.json',
    ),
    "mis-shaped": (
        with_tensor(torch.zeros(47), NORM),
        f'1 tensor is of another shape than config.json says, first "{NORM}". It has [47] instead of [48]',
    ),
    "mis-shaped twice": (
        with_tensor(torch.zeros(2, 48), NORM, f"{BLOCK}norm1.bias"),
        "2 tensors are of another shape",
    ),
    "of another rank": (with_tensor(torch.zeros(1, 48), NORM), "It has [1, 48] instead of [48]"),
    "in 8-bit integers": (with_tensor(torch.zeros(48, dtype=torch.int8), NORM), QUANTISED),
    "in 8-bit floats": (with_tensor(torch.zeros(48, dtype=torch.float8_e4m3fn), NORM), QUANTISED),
    "in integers with scales": (
        with_tensor(torch.zeros(48, dtype=torch.uint8), NORM, f"{NORM}.absmax"),
        f'"{NORM}" is stored as torch.uint8, {QUANTISED}',
    ),
}
SHARD_CASES: dict[str, tuple[Damage, str]] = {
    "missing": (
        Path.unlink,
        f'is incomplete: 1 of 2 weight files named in {INDEX} are missing, first "{SHARDS[0]}". Continue',
    ),
    "missing like the index": (
        and_its_index,
        f'is incomplete: 1 of 2 weight files that belong to "{SHARDS[1]}" are missing, first "{SHARDS[0]}"',
    ),
    "truncated": (cut(0.5), f'{SHARDS[0]}": File is not a zip file. The file is damaged or incomplete'),
    "a web page": (text("<html>"), f'{SHARDS[0]}" is a web page, not weights'),
    "compressed": (compress, f'{SHARDS[0]}": it was compressed after it was written'),
    "a copy of the other": (into_the_other_shard, "are in two weight files, first"),
    "a list": (saved([torch.zeros(1)]), f'{SHARDS[0]}" is no table of named tensors'),
    "a nested table": (saved({"tables": {"a": torch.zeros(1)}}), "is no table of named tensors"),
    "without memory": (saved({"a": torch.zeros(1, device="meta")}), "is no table of named tensors"),
}
INDEX_CASES: dict[str, tuple[Damage, str]] = {
    "no JSON": (cut(0.5), f'{INDEX}" as JSON: '),
    "without a map": (text("{}"), f'{INDEX}" lists no weights (no "weight_map")'),
    "leading outside": (naming("../x.bin"), f"{INDEX}\" names the shard '../x.bin', {NO_PLAIN_NAME}"),
    "leading to the root": (naming("/etc/passwd"), f"names the shard '/etc/passwd', {NO_PLAIN_NAME}"),
    "leading outside on Windows": (naming("..\\x.bin"), NO_PLAIN_NAME),
    "naming the folder above": (naming(".."), f"names the shard '..', {NO_PLAIN_NAME}"),
    "naming a number": (naming(7), f"names the shard 7, {NO_PLAIN_NAME}"),
}


def check(folder: Path, name: str, case: tuple[Damage, str]) -> None:
    damage, said = case
    damage(folder / name)
    message = refusal(folder)
    assert said in message
    assert str(folder) in message


@pytest.mark.parametrize("case", list(CONFIG_CASES.values()), ids=list(CONFIG_CASES))
def test_a_damaged_config_has_its_own_message(folder: Path, case: tuple[Damage, str]) -> None:
    check(folder, "config.json", case)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_a_damaged_processor_file_is_named(folder: Path, name: str) -> None:
    check(folder, name, (cut(0.5), f'{name}" as JSON: '))


@pytest.mark.parametrize("case", list(WEIGHT_CASES.values()), ids=list(WEIGHT_CASES))
def test_damaged_weights_have_their_own_message(folder: Path, case: tuple[Damage, str]) -> None:
    check(folder, "model.safetensors", case)


@pytest.mark.parametrize("case", list(SHARD_CASES.values()), ids=list(SHARD_CASES))
def test_a_damaged_shard_has_its_own_message(shards: Path, case: tuple[Damage, str]) -> None:
    check(shards, SHARDS[0], case)


@pytest.mark.parametrize("case", list(INDEX_CASES.values()), ids=list(INDEX_CASES))
def test_a_damaged_index_has_its_own_message(shards: Path, case: tuple[Damage, str]) -> None:
    check(shards, INDEX, case)


def test_a_truncated_old_bin_is_refused(bare: Path, published: dict[str, Tensor]) -> None:
    torch.save(published, bare / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    check(bare, "pytorch_model.bin", (cut(0.5), f'Cannot read "{bare / "pytorch_model.bin"}": '))


# --- tokenizers ---


def drop_token(folder: Path, text: str) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != text]
    content["model"]["vocab"].pop(text, None)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert f'"{folder}" has no tokenizer.json. Download it from where the weights come from' in refusal(
        folder
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"model": 7}', "[" * 10**5, "<html>"])
def test_a_damaged_tokenizer_is_named(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    assert f'Cannot read the tokenizer "{folder / "tokenizer.json"}": ' in refusal(folder)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<｜▁pad▁｜>", "pad"),
        ("<begin_of_image>", "begin-of-image"),
        ("<end_of_image>", "end-of-image"),
        ("<｜begin▁of▁sentence｜>", "begin-of-sentence"),
        ("<｜end▁of▁sentence｜>", "end-of-sentence"),
    ],
)
def test_a_missing_special_token_is_named(folder: Path, text: str, what: str) -> None:
    drop_token(folder, text)
    assert f'The tokenizer "{folder / "tokenizer.json"}" has no {what} token' in refusal(folder)


def test_a_tokenizer_without_the_image_placeholder_is_used(folder: Path) -> None:
    drop_token(folder, "<image_placeholder>")
    assert read_checkpoint(folder).tokenizer.special.image == 407


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["far"] = 102_399
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert "has ids up to 102399, the model has only 416 token embeddings" in refusal(folder)


def test_truncation_and_padding_of_a_tokenizer_file_do_not_touch_prompts(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    before = read_checkpoint(folder).tokenizer.encode("a long enough text")
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 99}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "!",
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_checkpoint(folder).tokenizer.encode("a long enough text") == before
