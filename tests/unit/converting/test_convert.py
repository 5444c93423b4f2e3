"""One file and back: what is written, what is read from it, and what is left when writing stops."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from janus_core import CheckpointError, Janus, JanusFlow, OutputError, convert, load_janus, read_checkpoint
from janus_core.cli.inspect_model import describe
from janus_core.converting import source
from janus_core.converting.streaming import Planned, write_streamed
from janus_core.errors import JanusError
from janus_core.one_file import TOKENIZER_TENSOR, is_one_file

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
TEXTS = ("config.json", "preprocessor_config.json", "processor_config.json", "special_tokens_map.json",
         "tokenizer.json", "tokenizer_config.json")  # fmt: skip


def tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable itself


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def edited(path: Path, change: Any, target: Path) -> Path:
    """Write a file whose header was changed, with the same tensors behind it."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])
    return target


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one") / "tiny.safetensors"
    convert(GOLDEN / "janus-tiny-bin", path)
    return path


@pytest.mark.parametrize("name", ["janus-tiny-bin", "janusflow-tiny"])
def test_a_folder_comes_back_from_one_file_as_it_was(tmp_path: Path, name: str) -> None:
    convert(GOLDEN / name, tmp_path / "one.safetensors")
    convert(tmp_path / "one.safetensors", tmp_path / "back")
    convert(tmp_path / "back", tmp_path / "again.safetensors")
    for text in TEXTS:
        assert (tmp_path / "back" / text).read_bytes() == (GOLDEN / name / text).read_bytes()
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "one.safetensors").read_bytes()
    stored: dict[str, Tensor] = {}
    for path in (GOLDEN / name).iterdir():
        if path.suffix == ".safetensors":
            stored |= tensors(path)
        elif path.suffix == ".bin":
            stored |= torch.load(path, weights_only=True)
    assert same(tensors(tmp_path / "back" / "model.safetensors"), stored)


def test_a_file_holds_what_its_folder_holds(one: Path) -> None:
    folder, file = read_checkpoint(GOLDEN / "janus-tiny-bin"), read_checkpoint(one)
    assert file.config == folder.config
    assert file.guidance == folder.guidance
    assert file.tokenizer.special == folder.tokenizer.special
    assert same(file.state_dict, folder.state_dict)
    assert (
        bytes(tensors(one)[TOKENIZER_TENSOR].numpy())
        == (GOLDEN / "janus-tiny-bin" / "tokenizer.json").read_bytes()
    )


def test_the_transformers_layout_becomes_the_authors(tmp_path: Path) -> None:
    convert(GOLDEN / "janus-tiny-hf", tmp_path / "one.safetensors")
    folder, file = read_checkpoint(GOLDEN / "janus-tiny-hf"), read_checkpoint(tmp_path / "one.safetensors")
    assert file.layout == "authors"
    assert file.config == folder.config
    assert same(file.state_dict, folder.state_dict)


def test_file_and_folder_draw_and_answer_the_same(one: Path) -> None:
    picture = GOLDEN / "images" / "tiny.png"
    folder, file = (
        load_janus(path, dtype="float32", device="cpu") for path in (GOLDEN / "janus-tiny-bin", one)
    )
    assert isinstance(folder, Janus)
    assert isinstance(file, Janus)
    assert torch.equal(folder.draw("a cat").tokens.grid, file.draw("a cat").tokens.grid)
    assert folder.ask("What is it?", [picture]) == file.ask("What is it?", [picture])


def test_a_flow_model_is_read_from_one_file(tmp_path: Path) -> None:
    convert(GOLDEN / "janusflow-tiny", tmp_path / "flow.safetensors")
    assert isinstance(load_janus(tmp_path / "flow.safetensors", device="cpu"), JanusFlow)


def test_inspect_reads_one_file(one: Path) -> None:
    found, folder = describe(str(one)), describe(str(GOLDEN / "janus-tiny-bin"))
    assert found["layout"] == "authors, tiny.safetensors"
    for key in ("parameters", "decoder", "codebook", "memory", "special tokens", "problems"):
        assert found[key] == folder[key]


def test_another_dtype_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    convert(GOLDEN / "janus-tiny-bin", tmp_path / "half.safetensors", dtype=torch.float16)
    stored = tensors(tmp_path / "half.safetensors")
    assert {stored[name].dtype for name in stored if name != TOKENIZER_TENSOR} == {torch.float16}
    whole = read_checkpoint(GOLDEN / "janus-tiny-bin").state_dict
    half = read_checkpoint(tmp_path / "half.safetensors").state_dict
    assert all(torch.equal(half[name], whole[name].half()) for name in whole)


def test_progress_ends_at_the_number_of_bytes(tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    made = convert(
        GOLDEN / "janus-tiny-bin",
        tmp_path / "one.safetensors",
        on_progress=lambda done, total: said.append((done, total)),
    )
    assert said[-1] == (made.nbytes, made.nbytes)
    assert [done for done, _ in said] == sorted(done for done, _ in said)


def test_no_more_than_a_portion_is_mapped_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are let go and mapped anew whenever a portion of them was read, whatever a tensor's size."""
    most, piece = 2**16, 2**14
    monkeypatch.setattr(source, "_MOST_MAPPED", most)
    monkeypatch.setattr(source, "_PIECE", piece)
    portions: list[list[int]] = []
    count, mapped = source.Source._count, source.Source._map

    def counted(self: source.Source, nbytes: int) -> None:
        count(self, nbytes)
        portions[-1].append(nbytes)

    def mapping(self: source.Source) -> dict[str, Tensor]:
        portions.append([])
        return mapped(self)

    monkeypatch.setattr(source.Source, "_count", counted)
    monkeypatch.setattr(source.Source, "_map", mapping)
    made = convert(GOLDEN / "janus-tiny-bin", tmp_path / "one.safetensors")
    assert len(portions) > 10
    assert max(sum(portion) for portion in portions) <= most
    assert max(max(portion, default=0) for portion in portions) <= piece
    assert sum(map(sum, portions)) <= 2 * made.nbytes  # looked at for gaps, then written
    assert same(
        read_checkpoint(tmp_path / "one.safetensors").state_dict,
        read_checkpoint(GOLDEN / "janus-tiny-bin").state_dict,
    )


def test_odd_tensors_come_last_so_that_each_begins_where_its_dtype_may(tmp_path: Path) -> None:
    given = {
        "a": torch.ones(3, dtype=torch.uint8),
        "b": torch.arange(5, dtype=torch.float32),
        "c": torch.tensor(2.0, dtype=torch.float16),
        "d": torch.arange(4, dtype=torch.float64),
    }
    planned = [Planned(name=n, dtype=t.dtype, shape=tuple(t.shape)) for n, t in given.items()]
    path = tmp_path / "odd.safetensors"
    write_streamed(path, {"key": "text"}, planned, given.items(), lambda _: None)
    assert same(tensors(path), given)


# --- what is refused, and what is left of it ---


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("target", ["one.safetensors", "folder"])
def test_a_download_that_was_never_finished_is_refused(tmp_path: Path, target: str) -> None:
    shutil.copytree(GOLDEN / "janus-tiny-hf", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2**16] = bytes(2**16)
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="long stretches of zeros, first"):
        convert(tmp_path / "model", tmp_path / target)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_zeros_that_no_computation_reads_are_no_gap(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "janus-tiny-bin", tmp_path / "model")
    shard = tmp_path / "model" / "pytorch_model-00001-of-00002.bin"
    stored = torch.load(shard, weights_only=True)
    torch.save({**stored, "gen_vision_model.quantize.embed_avg": torch.zeros(16384, 8)}, shard)
    index = tmp_path / "model" / "pytorch_model.bin.index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    content["weight_map"]["gen_vision_model.quantize.embed_avg"] = shard.name
    index.write_text(json.dumps(content), encoding="utf-8")
    assert convert(tmp_path / "model", tmp_path / "one.safetensors").path.exists()


@pytest.mark.parametrize("target", ["one.safetensors", "folder"])
def test_nothing_is_left_of_what_was_interrupted(tmp_path: Path, target: str) -> None:
    def stop(done: int, total: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        convert(GOLDEN / "janus-tiny-bin", tmp_path / target, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["one.safetensors", "folder"])
def test_what_exists_is_left_alone(tmp_path: Path, target: str) -> None:
    (tmp_path / target).write_text("mine")
    with pytest.raises(OutputError, match="exists already, and nothing is written over it"):
        convert(GOLDEN / "janus-tiny-bin", tmp_path / target)
    assert (tmp_path / target).read_text() == "mine"


@pytest.mark.parametrize("target", ["one.gguf", "one.bin", "one.SAFETENSORS", "one.safetensor"])
def test_endings_of_other_files_become_no_folders(tmp_path: Path, target: str) -> None:
    with pytest.raises(OutputError, match=r"one file is written as \.safetensors"):
        convert(GOLDEN / "janus-tiny-bin", tmp_path / target)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Choose another place"):
        convert(GOLDEN / "janus-tiny-bin", tmp_path / f"{'a' * 300}.safetensors")


def test_a_full_disk_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"The model takes 0\.00 GB, and the disk of"):
        convert(GOLDEN / "janus-tiny-bin", tmp_path / "one.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_alone_are_no_model_in_one_file(tmp_path: Path) -> None:
    convert(GOLDEN / "janus-tiny-bin", tmp_path / "folder")
    weights = tmp_path / "folder" / "model.safetensors"
    assert not is_one_file(weights)
    with pytest.raises(CheckpointError, match=r"it has no config\.json in its header"):
        load_janus(weights)


def no_tokenizer(header: dict[str, Any]) -> None:
    header["other"] = header.pop(TOKENIZER_TENSOR)


def tokenizer_elsewhere(header: dict[str, Any]) -> None:
    header[TOKENIZER_TENSOR] = header["gen_embed.weight"]


def tokenizer_between_bytes(header: dict[str, Any]) -> None:
    header[TOKENIZER_TENSOR]["data_offsets"] = [0.0, 5.0]


def another_config(header: dict[str, Any]) -> None:
    config = json.loads(header["__metadata__"]["config.json"])
    config["language_config"]["num_hidden_layers"] += 1
    header["__metadata__"]["config.json"] = json.dumps(config)


def broken_config(header: dict[str, Any]) -> None:
    header["__metadata__"]["config.json"] = "{"


def another_kind(header: dict[str, Any]) -> None:
    header["__metadata__"]["config.json"] = '{"model_type": "llama"}'


def no_texts(header: dict[str, Any]) -> None:
    header["__metadata__"]["config.json"] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_tokenizer, r"has no tokenizer\.json"),
        (tokenizer_elsewhere, "its tensor tokenizer_json is no text"),
        (tokenizer_between_bytes, "tokenizer_json is no text|broken"),
        (another_config, "is missing|are missing"),
        (broken_config, "as JSON"),
        (another_kind, "is not a Janus model"),
        (no_texts, r"it has no config\.json in its header"),
    ],
)
def test_a_header_that_lies_is_said(one: Path, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(JanusError, match=message):
        load_janus(edited(one, change, tmp_path / "lies.safetensors"), device="cpu")


def test_a_truncated_file_is_said(one: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(one.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="1000 bytes are missing at its end"):
        load_janus(tmp_path / "cut.safetensors")


def test_a_gguf_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "janus.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(CheckpointError, match="is a GGUF file"):
        load_janus(tmp_path / "janus.gguf")


def test_a_file_that_was_replaced_is_read_anew(one: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    shutil.copy(one, path)
    assert is_one_file(path)
    edited(one, no_texts, path)
    os.utime(path, ns=(1, 1))
    assert not is_one_file(path)
