"""The table of model folders in docs/models.md: every row is built and comes out as the table says."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from janus_core import CheckpointError
from janus_core.checkpoints.folders import is_complete_folder, models_in
from janus_core.checkpoints.load import read_checkpoint

from .conftest import GOLDEN

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
WEIGHTS, BIN = "model.safetensors", "pytorch_model.bin"
Tensors = dict[str, Tensor]
Build = Callable[[Path, Tensors], Path]


def rows() -> dict[str, str]:
    lines = re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {what: outcome for what, outcome in lines if outcome not in ("outcome", "---")}


def move(*parts: str) -> Build:
    def build(folder: Path, _: Tensors) -> Path:
        target = folder.parent.joinpath("root", *parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)
        return target.parents[len(parts) - 2] if len(parts) > 1 else target

    return build


def write(name: str, content: bytes | str) -> Build:
    def build(folder: Path, _: Tensors) -> Path:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return build


def remove(name: str) -> Build:
    def build(folder: Path, _: Tensors) -> Path:
        (folder / name).unlink()
        return folder

    return build


def with_bin(*others: Build) -> Build:
    def build(folder: Path, tensors: Tensors) -> Path:
        torch.save(tensors, folder / BIN)
        for other in others:
            other(folder, tensors)
        return folder

    return build


def in_turn(*builds: Build) -> Build:
    def build(folder: Path, tensors: Tensors) -> Path:
        for one in builds:
            folder = one(folder, tensors)
        return folder

    return build


def cut(folder: Path, _: Tensors) -> Path:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-999])
    return folder


def gap(folder: Path, _: Tensors) -> Path:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2**17] = bytes(2**17)
    (folder / WEIGHTS).write_bytes(content)
    return folder


def renamed(rename: Callable[[str], str]) -> Build:
    def build(folder: Path, tensors: Tensors) -> Path:
        save_file({rename(name): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
        return folder

    return build


def changed(change: Callable[[Tensors], Tensors]) -> Build:
    def build(folder: Path, tensors: Tensors) -> Path:
        save_file(change(dict(tensors)), folder / WEIGHTS)
        return folder

    return build


def pickled(make: Callable[[Tensors], object]) -> Build:
    def build(folder: Path, tensors: Tensors) -> Path:
        (folder / WEIGHTS).unlink()
        torch.save(make(tensors), folder / BIN)
        return folder

    return build


def sharded(*, index: bool) -> Build:
    def build(folder: Path, tensors: Tensors) -> Path:
        names, shards = sorted(tensors), [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
        for number, shard in enumerate(shards):
            save_file({name: tensors[name] for name in names[number::2]}, folder / shard)
        if index:
            weight_map = {name: shards[place % 2] for place, name in enumerate(names)}
            (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
        (folder / WEIGHTS).unlink()
        return folder

    return build


def half_a_set(folder: Path, tensors: Tensors) -> Path:
    sharded(index=True)(folder, tensors)
    (folder / "model-00002-of-00002.safetensors").unlink()
    return folder


def tokenizer_with(**parts: object) -> Build:
    def build(folder: Path, _: Tensors) -> Path:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")) | parts
        (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return build


def only(**files: str) -> Build:
    def build(folder: Path, _: Tensors) -> Path:
        for path in list(folder.iterdir()):
            path.unlink()
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(content)
        return folder

    return build


def two_models(folder: Path, _: Tensors) -> Path:
    for name in ("one", "two"):
        shutil.copytree(folder, folder.parent / "both" / name)
    return folder.parent / "both"


def complete_and_not(folder: Path, tensors: Tensors) -> Path:
    unfinished = Path(shutil.copytree(folder, folder.parent / "unfinished"))
    cut(unfinished, tensors)
    return next(path for path in (unfinished, folder) if is_complete_folder(path))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
LORA = "language_model.model.layers.0.self_attn.q_proj.lora_A.weight"


def inside(name: str) -> str:
    return name.replace(".layers.", ".layers._orig_mod.").replace(".blocks.", ".blocks.module.")


def without_one(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != "gen_embed.weight"}


BUILDS: dict[str, list[Build]] = {
    "`name/`": [move("name")],
    "`owner/name/`": [move("owner", "name")],
    "`name/name/`": [move("name", "name")],
    "`models--owner--name/snapshots/commit/`": [move("models--owner--name", "snapshots", "commit")],
    "the search folder itself": [lambda folder, _: folder],
    "two models in the folder that was named": [two_models],
    "unfinished in one search folder, complete in another": [complete_and_not],
    "`model.safetensors`": [lambda folder, _: folder],
    "`pytorch_model.bin`": [pickled(lambda tensors: tensors)],
    "shards with their index": [sharded(index=True)],
    "shards without their index": [sharded(index=False)],
    "one `.safetensors` of any name": [lambda f, _: (f / WEIGHTS).rename(f / "x.safetensors").parent],
    "a complete `.bin` beside an empty `model.safetensors`": [with_bin(write(WEIGHTS, ""))],
    "a complete `.bin` beside a cut `model.safetensors`": [with_bin(cut)],
    "a complete `.bin` beside half a set of shards": [with_bin(half_a_set)],
    "`model.safetensors` cut off": [cut],
    "`model.safetensors` with a gap of zeros": [gap],
    "`model.safetensors.aria2` beside the weights": [write(f"{WEIGHTS}.aria2", "x")],
    "a web page in place of the weights": [write(WEIGHTS, "<html>")],
    "a Git-LFS pointer in place of the weights": [write(WEIGHTS, POINTER)],
    "no weights": [remove(WEIGHTS)],
    "names that begin with `module.`, `model.` or `base_model.model.`": [
        renamed(lambda name: f"module.{name}"),
        renamed(lambda name: f"model.{name}"),
        renamed(lambda name: f"base_model.model.{name}"),
    ],
    "`_orig_mod` or `module` inside names": [renamed(inside)],
    "a table inside `state_dict`": [pickled(lambda tensors: {"state_dict": tensors, "epoch": 1})],
    "float64": [changed(lambda tensors: {name: tensor.double() for name, tensor in tensors.items()})],
    "`num_batches_tracked` and other leftovers": [
        changed(lambda tensors: tensors | {"vision_model.norm.num_batches_tracked": torch.tensor(3)})
    ],
    "an adapter that was not merged": [changed(lambda tensors: tensors | {LORA: torch.zeros(4, 4)})],
    "8-bit integers without a scale": [
        changed(lambda t: t | {"gen_embed.weight": t["gen_embed.weight"].to(torch.int8)})
    ],
    "the state of an optimiser": [pickled(lambda _: {"state": {}, "param_groups": []})],
    "a tensor too few": [changed(without_one)],
    "an adapter beside the weights": [write("adapter_config.json", "{}")],
    "a damaged `generation_config.json`": [write("generation_config.json", '{"a": 1,}')],
    "a tokenizer whose decoder was replaced": [tokenizer_with(decoder={"type": "Fuse"})],
    "a tokenizer whose splitting was lost": [tokenizer_with(pre_tokenizer=METASPACE)],
    "a Git-LFS pointer as tokenizer": [write("tokenizer.json", POINTER)],
    "no tokenizer": [remove("tokenizer.json")],
    "only an adapter": [only(adapter_config__json="{}", adapter_model__safetensors="x")],
    "only a GGUF file": [only(janus__gguf="GGUF")],
    "only a training state": [only(optimizer__pt="x"), only(zero_to_fp32__py="x")],
    "no `config.json`": [remove("config.json")],
}


def test_every_row_of_the_page_is_built_here() -> None:
    assert list(rows()) == list(BUILDS)


CASES = [(what, number) for what, builds in BUILDS.items() for number in range(len(builds))]


@pytest.mark.parametrize(("what", "number"), CASES, ids=[f"{what}-{number}" for what, number in CASES])
def test_a_folder_comes_out_as_the_page_says(
    folder: Path, published: Tensors, caplog: pytest.LogCaptureFixture, what: str, number: int
) -> None:
    given, outcome = BUILDS[what][number](folder, published), rows()[what]
    caplog.set_level(logging.WARNING, "janus")
    if outcome.startswith("refused: "):
        with pytest.raises(CheckpointError, match=re.escape(outcome.removeprefix("refused: "))):
            read_checkpoint(given)
        return
    expected = read_checkpoint(GOLDEN / "janus-tiny-bin").state_dict
    state_dict = read_checkpoint(given).state_dict
    assert all(torch.equal(state_dict[name].float(), tensor.float()) for name, tensor in expected.items())
    assert bool(caplog.records) is outcome.endswith("with a remark")
    if outcome == "loads as name":
        assert [model.name for model in models_in(given)] == ["name"]
