"""Folders made to do harm: a load opens nothing outside them, runs nothing, writes nothing, and ends soon.

All folders are loaded by one process, which watches itself and, where strace can be had, is watched from
outside.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from .conftest import GOLDEN, INDEX, SHARDS
from .watched_load import MARK

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="pipes, devices and strace are those of Linux"
)

ROOT = Path(__file__).parents[3]
LONGEST_S = 2.0
Make = Callable[[Path, Path, dict[str, Tensor]], None]

OUTSIDE_NAMES = (
    "../outside/{}", "../../{}", "{absolute}", "./../outside/{}", "sub/../../outside/{}", "..\\outside\\{}",
    "C:\\outside\\{}", "C:{}", "\\\\host\\share\\{}", "//host/share/{}", "file://{absolute}", "..", ".", "",
    "{}\0", "~/{}", "$HOME/{}",
)  # fmt: skip


class Payload:
    """An object whose pickle runs a command when it is read without care."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("echo ran > ran",)


def set_in(path: Path, keys: str, value: Any) -> None:
    content = json.loads(path.read_text())
    *holders, last = keys.split(".")
    inner = content
    for key in holders:
        inner = inner[key]
    inner[last] = value
    path.write_text(json.dumps(content))


def with_index(name: str, *, is_pickle: bool) -> Make:
    """Name a whole file outside the folder as a shard; a load that followed the name would succeed."""

    def make(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
        file = "shard.bin" if is_pickle else "shard.safetensors"
        index = INDEX if is_pickle else "model.safetensors.index.json"
        shard = name.format(file, absolute=outside / file)
        (folder / index).write_text(json.dumps({"weight_map": dict.fromkeys(tensors, shard)}))

    return make


def pickled(content: Callable[[dict[str, Tensor]], object], *, is_zip: bool = True) -> Make:
    def make(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
        torch.save(content(tensors), folder / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)

    return make


def raw(name: str, content: bytes, size: int = 0) -> Make:
    """Write a file, and make it as long as `size` without using the disk."""

    def make(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
        (folder / name).write_bytes(content)
        if size:
            os.truncate(folder / name, size)

    return make


def config(keys: str, value: Any, file: str = "config.json") -> Make:
    def make(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / "model.safetensors")
        set_in(folder / file, keys, value)

    return make


def text_of(file: str, content: str) -> Make:
    def make(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / "model.safetensors")
        (folder / file).write_text(content)

    return make


def linked(name: str, target: str) -> Make:
    def make(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / "model.safetensors")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return make


def pipe(name: str) -> Make:
    def make(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / "model.safetensors")
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def zip_bomb(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
    """Compress 2 GB of zeros in an archive that torch would read."""
    torch.save(tensors, folder / "small.bin")
    with zipfile.ZipFile(folder / "small.bin") as plain:
        entries = {name: plain.read(name) for name in plain.namelist()}
    (folder / "small.bin").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, content in entries.items():
            bomb.writestr(name, content)
        with bomb.open(f"{next(iter(entries)).split('/')[0]}/data/999", "w", force_zip64=True) as entry:
            for _ in range(64):
                entry.write(bytes(2**25))


def entries_outside(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, folder / "pytorch_model.bin")
    with zipfile.ZipFile(folder / "pytorch_model.bin", "a") as archive:
        for name in ("../outside/written", "/tmp/written", "..\\written"):
            archive.writestr(name, b"x")


def code_beside(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors")
    for name in ("modeling_janus", "configuration_janus", "__init__", "sitecustomize", "conftest", "setup"):
        (folder / f"{name}.py").write_text("open('ran', 'w').write('ran')\n")
    set_in(folder / "config.json", "auto_map", {"AutoModelForCausalLM": "modeling_janus.M"})
    set_in(folder / "config.json", "trust_remote_code", True)


def claiming(shape: tuple[int, ...]) -> Make:
    """Let one number in the file stand for a whole matrix."""
    return pickled(lambda tensors: {**tensors, "language_model.lm_head.weight": torch.zeros(1).expand(shape)})


def with_download_record(name: str) -> Make:
    def make(folder: Path, outside: Path, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / "model.safetensors")
        file = {"name": name, "size": 1, "checksum": "0"}
        record = {"version": 1, "repository": "x", "commit": "x", "files": [file]}
        (folder / ".janus-download.json").write_text(json.dumps(record))

    return make


def tokenizer_step(step: str, value: Any) -> Make:
    return config(step, value, "tokenizer.json")


def split_by(pattern: str) -> Make:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return tokenizer_step("pre_tokenizer", split)


DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
HUGE = 10**12
FOLDERS: dict[str, tuple[Make, str]] = {
    **{
        f"{kind} index naming {name!r}": (with_index(name, is_pickle=kind == "bin"),
            "not a plain file name|incomplete")
        for name in OUTSIDE_NAMES
        for kind in ("bin", "safetensors")
    },
    "index with a nested name": (raw(INDEX, json.dumps({"weight_map": {"a": ["../x"]}}).encode()),
        "plain file name"),
    "index of a deep nesting": (raw(INDEX, DEEP.encode()), "Cannot read"),
    "index of giant integers": (raw(INDEX, b'{"weight_map": {"a": ' + b"9" * 100_000 + b"}}"), "Cannot read"),
    "pickle alone": (pickled(lambda _: Payload()), "was refused"),
    "pickle among tensors": (pickled(lambda tensors: {**tensors, "x": Payload()}), "was refused"),
    "pickle before torch 1.6": (pickled(lambda _: Payload(), is_zip=False), "was refused"),
    "bare pickle": (raw("pytorch_model.bin", pickle.dumps(Payload())), "Cannot read|was refused"),
    "bare pickle named safetensors": (raw("model.safetensors", pickle.dumps(Payload())), "Cannot read"),
    "zip bomb": (zip_bomb, "compressed after"),
    "zip entries outside": (entries_outside, "success|Cannot read|is no table"),
    "one number as a matrix": (claiming((416, 64)), "holds fewer"),
    "one number as 4 TB": (claiming((10**6, 10**6)), "holds fewer"),
    "header of 3 GB": (raw("model.safetensors", (3 * 2**30).to_bytes(8, "little"), 3 * 2**30 + 9),
        "header claims"),
    "header of 2^64 bytes": (raw("model.safetensors", b"\xff" * 8 + b"{}"), "cut off"),
    "header of a deep nesting": (
        raw("model.safetensors", len(DEEP).to_bytes(8, "little") + DEEP.encode()), "header is broken"
    ),
    "configuration of a deep nesting": (text_of("config.json", DEEP), "Cannot read"),
    "configuration of NaN": (config("language_config.rms_norm_eps", float("nan")), "not a positive number"),
    "configuration of infinity": (config("language_config.rope_theta", float("inf")),
        "not a positive number"),
    "deviation that is 0 in float32": (
        config("image_std", [1e-300] * 3, "preprocessor_config.json"), "not a positive number"
    ),
    "configuration said twice": (
        text_of("config.json", '{"gen_head_config": 1, "gen_head_config": {}, "model_type": "x"}'),
        "lacks|contradict"
    ),
    "giant integer": (text_of("config.json", '{"hidden_size": ' + "9" * 100_000 + "}"), "Cannot read"),
    "configuration larger than memory": (raw("config.json", b"{}", 2**40), "larger than"),
    "tokenizer larger than memory": (raw("tokenizer.json", b"{}", 2**40), "larger than|no weights"),
    **{
        f"configuration claiming 10^12 as {key}": (config(key, HUGE), "not a whole number")
        for key in (
            "language_config.hidden_size", "language_config.vocab_size", "language_config.num_hidden_layers",
            "vision_config.params.layers", "gen_vision_config.params.image_token_size",
        )
    },
    "many layers": (config("language_config.num_hidden_layers", 512), "missing"),
    "catastrophic pattern": (split_by(r"(\w+\s?)+$"), "can take hours"),
    "another catastrophic pattern": (split_by(r"(?:a|a)*b"), "can take hours"),
    "pattern that is none": (split_by("("), "Cannot read the tokenizer"),
    "text that grows": (
        tokenizer_step("normalizer", {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 10**6}),
        "times as long",
    ),
    "tokenizer of a deep nesting": (text_of("tokenizer.json", DEEP), "Cannot read"),
    "code beside the weights": (code_beside, "success"),
    "download record naming ../x": (with_download_record("../outside/shard.bin"), "no plain file name"),
    "download record of a deep nesting": (text_of(".janus-download.json", DEEP), "Cannot read"),
    **{f"{name} linked to itself": (linked(name, name), "Cannot|is a link|success") for name in (
        "config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json",
        "model.safetensors",
        "generation_config.json",
    )},
    **{f"{name} linked to a device": (linked(name, "/dev/zero"), "Cannot|is a link|success") for name in (
        "config.json", "tokenizer.json", "special_tokens_map.json", "model.safetensors",
        "generation_config.json",
    )},
    **{f"{name} as a pipe": (pipe(name), "Cannot|is a link|success") for name in (
        "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
        "generation_config.json",
    )},
    "a name of 10,000 letters": (
        pickled(lambda tensors: {**tensors, "x" * 10_000: torch.zeros(1)}), "1 tensor is unexpected"
    ),
    "folder linked to itself": (linked("sub", "."), "success"),
}  # fmt: skip


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, published: dict[str, Tensor]) -> Path:
    """Return a folder with a whole model, what lies outside the malicious ones, and these themselves."""
    room = tmp_path_factory.mktemp("malicious")
    outside = room / "outside"
    outside.mkdir()
    save_file(published, outside / "shard.safetensors")
    torch.save(published, outside / "shard.bin")
    bare = room / "whole"
    bare.mkdir()
    for path in (GOLDEN / "janus-tiny-bin").glob("*.json"):
        if path.name != INDEX:
            shutil.copy(path, bare)
    for number, (make, _) in enumerate(FOLDERS.values()):
        folder = room / f"{number:03}"
        shutil.copytree(bare, folder)
        make(folder, outside, published)
    for name in (*SHARDS, INDEX):
        shutil.copy(GOLDEN / "janus-tiny-bin" / name, bare)
    return room


@pytest.fixture(scope="module")
def watched(room: Path) -> dict[str, dict[str, Any]]:
    """Return what loading each folder did, from a process that has begun nothing else."""
    strace = shutil.which("strace")
    trace = [strace, "-f", "-e", "trace=file,process,network", "-o", str(room / "trace")] if strace else []
    folders = [str(room / f"{number:03}") for number in range(len(FOLDERS))]
    script = Path(__file__).with_name("watched_load.py")
    done = subprocess.run(
        [*trace, sys.executable, str(script), str(room / "whole"), *folders], cwd=room, capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"},
        timeout=900,
        check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(FOLDERS), done.stderr[-3000:]
    return dict(zip(FOLDERS, lines, strict=True))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_malicious_folder_is_refused_or_harmless(watched: dict[str, dict[str, Any]], name: str) -> None:
    line = watched[name]
    assert line["seen"] == []
    assert re.search(FOLDERS[name][1], line["end"]), line["end"]
    assert len(line["end"]) < 1500
    assert line["took_s"] < LONGEST_S


def test_nothing_ran_and_nothing_was_written(room: Path, watched: dict[str, dict[str, Any]]) -> None:
    assert watched
    assert not list(room.rglob("ran"))
    assert not list(room.rglob("written"))
    assert sorted(path.name for path in (room / "outside").iterdir()) == ["shard.bin", "shard.safetensors"]


@pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace, which sees what no Python opens, is absent"
)
def test_the_kernel_saw_no_other_file_opened_and_no_process(
    room: Path, watched: dict[str, dict[str, Any]]
) -> None:
    assert watched
    folder, foreign, loads = "", [], 0
    for line in (room / "trace").read_text(errors="replace").splitlines():
        mark = re.search(rf'"{MARK}([^"]*)"', line)
        if mark:
            folder, loads = mark[1], loads + bool(mark[1])
            continue
        call = re.search(
            r" (open|openat|openat2|execve|connect|fork|vfork|unlink|rename|mkdir)\(.*?(\"[^\"]*\"|$)", line
        )
        if folder and call and not call[2].startswith(f'"{folder}'):
            foreign.append(line)
    assert loads == len(FOLDERS)
    own = f'"{ROOT / "janus_core" / "bundled"}"'  # a model's name may be that of a bundled one
    assert [line for line in foreign if own not in line] == []
