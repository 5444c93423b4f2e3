"""Cases of model folders: files damaged by chance, and weights, headers, indexes and tokenizers rewritten."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from janus_core import JanusFlow, TextOptions, load_janus
from janus_core.janus import Janus

from .damage import ODD_VALUES, damaged, replace_values, with_stand_ins
from .originals import GOLDEN, SHARDED, write_originals

_FOLDERS = ("safetensors", "shards", "legacy", "native", "flow")
_ODD_NAMES = (
    "../x.safetensors", "/etc/passwd", "C:\\x.safetensors", "\\\\host\\share\\x", "..", ".", "", "a\0b",
    "x" * 300,
    "con", "shard.safetensors/", "~/x", "file:///etc/passwd", "\u202egnp.exe",
)  # fmt: skip
ODD_PATTERNS = (
    "(a+)+$", r"(\w+\s?)+$", "(a|a)*b", "(?:.*)*x", "[", "(?<=a+)b", r"\p{Nope}", "(" * 500, "a{1000000}", "",
    "a{0,60000}" * 20, r"\1(a)", "(?:" * 200 + "a" + ")*" * 200, ".", r"\s*" * 30 + "x", r"(?=(\s+))\1+$",
)  # fmt: skip
TEXTS = (
    "",
    "a" * 3000,
    " " * 3000,
    "Hello world, it's 12:30.\n\n日本",
    "\ud800x",
    "\0",
    "<|User|>" * 50,
    "a b " * 700,
)


class StopError(Exception):
    """Ends a drawing after a few steps; no failure."""


def stop_soon(done: int, total: int) -> None:
    """End a drawing after two steps."""
    if done >= 2:
        raise StopError


class ModelCases:
    """Cases of model folders; the originals are written once."""

    def __init__(self, room: Path) -> None:
        self._originals = room / "originals"
        self._originals.mkdir(parents=True)
        write_originals(self._originals)
        shutil.copytree(GOLDEN / "janusflow-tiny", self._originals / "flow")
        self._case = room / "model"

    def damaged_file(self, rng: random.Random) -> None:
        """Load a folder of which one file is damaged."""
        folder = self._copy(rng.choice(_FOLDERS))
        name = rng.choice(sorted(path.name for path in folder.iterdir()))
        data = (folder / name).read_bytes()
        self._write(folder / name, damaged(data, rng, is_json=name.endswith(".json")))
        use(folder, rng)

    def configuration(self, rng: random.Random) -> None:
        """Load a folder whose configuration files have odd values."""
        folder = self._copy(rng.choice(("safetensors", "native", "flow")))
        names = [name for name in _CONFIGS if (folder / name).exists()]
        for name in rng.sample(names, rng.randint(1, min(2, len(names)))):
            self._write(folder / name, replace_values((folder / name).read_bytes(), rng))
        if rng.random() < 0.2:
            content = {"guidance_scale": rng.choice(ODD_VALUES), "min_p": rng.choice(ODD_VALUES)}
            self._write(folder / "generation_config.json", with_stand_ins(json.dumps(content), rng).encode())
        use(folder, rng)

    def tensors(self, rng: random.Random) -> None:
        """Load a folder whose tensors have other names, shapes or dtypes."""
        folder = self._copy(rng.choice(("safetensors", "native")))
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable
        for _ in range(rng.choice((1, 1, 3))):
            rng.choice(TENSOR_CHANGES)(tensors, rng)
        (folder / "model.safetensors").unlink()
        if rng.random() < 0.5:
            save_file({name: one.contiguous() for name, one in tensors.items()}, folder / "model.safetensors")
        else:
            is_zip = rng.random() < 0.5
            torch.save(
                _unlike(tensors, rng), folder / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip
            )
        use(folder, rng)

    def header(self, rng: random.Random) -> None:
        """Load a folder whose safetensors header is rewritten."""
        folder = self._copy(rng.choice(("safetensors", "native")))
        data = (folder / "model.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
        text = _changed_header(header, rng)
        stated = rng.choice((len(text), len(text), len(text), len(text) + 1, 0, 2**40, 2**63, 2**64 - 1))
        path = folder / "model.safetensors"
        self._write(path, stated.to_bytes(8, "little") + text + body)
        if rng.random() < 0.1:  # a sparse file, as large as its header claims to be
            with path.open("r+b") as file:
                file.write((3 * 2**30).to_bytes(8, "little"))
                file.truncate(3 * 2**30 + 100)
        use(folder, rng)

    def index(self, rng: random.Random) -> None:
        """Load a folder of shards whose index names other files."""
        folder = self._copy("shards")
        path = folder / "pytorch_model.bin.index.json"
        index = json.loads(path.read_bytes())
        names = sorted(index["weight_map"])
        for name in rng.sample(names, rng.choice((1, 2, 20))):
            index["weight_map"][name] = rng.choice((*_ODD_NAMES, *ODD_VALUES, SHARDED.format(1)))
        self._write(path, with_stand_ins(json.dumps(index), rng).encode())
        if rng.random() < 0.2:
            (folder / "x.safetensors").symlink_to(folder / "x.safetensors")  # a loop
        use(folder, rng)

    def tokenizer(self, rng: random.Random) -> None:
        """Load a folder with a rewritten tokenizer, and use that on odd texts."""
        folder = self._copy(rng.choice(("safetensors", "native")))
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if name == "tokenizer.json" or rng.random() < 0.2:
                data = (folder / name).read_bytes()
                self._write(
                    folder / name,
                    _changed_tokenizer(data, rng) if name == "tokenizer.json" else replace_values(data, rng),
                )
        loaded = load_janus(folder, dtype="float32", device="cpu")
        for text in rng.sample(TEXTS, 3):
            ids = loaded.tokenizer.encode(text)
            loaded.tokenizer.decode(ids[:50])
        loaded.tokenizer.decode([rng.randrange(500) for _ in range(20)])

    def _copy(self, name: str) -> Path:
        """Return a folder of links to an original's files."""
        shutil.rmtree(self._case, ignore_errors=True)
        self._case.mkdir()
        for path in (self._originals / name).iterdir():
            (self._case / path.name).symlink_to(path)
        return self._case

    def _write(self, path: Path, data: bytes) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(data)


_CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")


def use(folder: Path, rng: random.Random) -> None:
    """Load a folder; where that succeeds, at times do a little with it."""
    loaded = load_janus(folder, dtype="float32", device="cpu")
    if rng.random() < 0.5:
        return
    picture = torch.rand(20, 30, 3)
    loaded.ask("What is it?", images=[picture], options=TextOptions(max_new_tokens=2))
    if isinstance(loaded, JanusFlow):
        return
    assert isinstance(loaded, Janus)
    loaded.draw("a red circle", on_step=stop_soon)


# --- tensors ---


def _rename(tensors: dict[str, Tensor], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    new = rng.choice(
        (f"model.{name}", f"module.{name}", name.upper(), "", "x" * 10_000, f"{name}.lora_A", "é.weight")
    )
    tensors[new] = tensors.pop(name) if rng.random() < 0.5 else tensors[name].clone()


def _drop(tensors: dict[str, Tensor], rng: random.Random) -> None:
    tensors.pop(rng.choice(sorted(tensors)))


def _retype(tensors: dict[str, Tensor], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    kinds = (
        torch.int8,
        torch.int64,
        torch.bool,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
    )
    tensors[name] = tensors[name].to(rng.choice(kinds))


def _reshape(tensors: dict[str, Tensor], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    one = torch.atleast_1d(tensors[name])
    tensors[name] = rng.choice(
        (one.T if one.ndim == 2 else one[None], one.flatten(), one[..., :1], one[:0], one.sum(),
            one.repeat_interleave(2, 0), torch.empty(0, 10**6))
    )  # fmt: skip


def _spoil(tensors: dict[str, Tensor], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    value = rng.choice((float("nan"), float("inf"), 1e38, 0.0, -1e38))
    one = tensors[name]
    tensors[name] = torch.full(one.shape, value).to(one.dtype)  # what whole numbers make of it, too


TENSOR_CHANGES: tuple[Callable[[dict[str, Tensor], random.Random], None], ...] = (
    _rename, _drop, _retype, _reshape, _spoil,
)  # fmt: skip


def _unlike(tensors: dict[str, Tensor], rng: random.Random) -> object:
    """Return what a pickle may hold instead of a plain table."""
    name = rng.choice(sorted(tensors))
    one = tensors[name]
    claims = one.new_zeros(1).expand(one.shape)  # of one number, whatever its size
    huge = one.new_zeros(1).expand(10**6, 10**6)
    return rng.choice(
        (
            tensors, {"state_dict": tensors}, {"model": {"module": tensors}}, [tensors],
            list(tensors.values()), one,
            {**tensors, name: claims}, {**tensors, name: huge}, {**tensors, name: one.to_sparse()},
            {**tensors, name: torch.nn.Parameter(one)}, {"a": one, 7: one}, {**tensors, name: "text"},
            {**tensors, name: one.to("meta")}, {**tensors, name: _quantised(one)},
            {"optimizer_state_dict": tensors, "param_groups": []}, None, {},
        )
    )  # fmt: skip


def _quantised(one: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch will not make such tensors for ever
        return torch.quantize_per_tensor(one, 0.1, 0, torch.qint8)


# --- headers ---


def _changed_header(header: dict[str, Any], rng: random.Random) -> bytes:
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    entry = header[name]
    start, end = entry["data_offsets"]
    odd_shapes: tuple[Any, ...] = (
        [10**12],
        [-1],
        [2**63],
        [0, 10**18],
        [1.5],
        [],
        "x",
        [10**6, 10**6],
        None,
        [1] * 2000,
    )
    changes: tuple[Callable[[], object], ...] = (
        lambda: entry.update(dtype=rng.choice(("F4", "I128", "U16", "F8_E4M3", "BOOL", "C64", "", None, 5))),
        lambda: entry.update(shape=rng.choice(odd_shapes)),
        lambda: entry.update(data_offsets=rng.choice(([end, start], [0, 10**30], [-4, 4], [start, end + 1],
            [0], None))),
        lambda: entry.update(rng.choice(({"extra": 1}, {"shape": rng.choice(ODD_VALUES)}))),
        lambda: header.update({rng.choice(("\0", "", "é", "x" * 5000)): rng.choice((entry, *ODD_VALUES))}),
        lambda: header.update(__metadata__=rng.choice(({"a": 1}, {"a": "b"}, [], "x", None,
            {"a": "b" * 10_000}))),
        lambda: header.pop(name, None),
        lambda: header.update({f"x{number}": dict(entry) for number in range(3000)}),
    )  # fmt: skip
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice(changes)()
    text = with_stand_ins(json.dumps(header), rng)
    if rng.random() < 0.1:
        text = rng.choice(
            ("[]", "{}", "null", "[" * 100_000, '{"a":' * 50_000, " " * 100, text[:-1] + ', "a": NaN}')
        )
    if rng.random() < 0.1:
        text = text.replace("{", '{"__metadata__": {"a": "b"}, "__metadata__": {"a": "c"}, ', 1)
    data = text.encode("utf-8", "surrogatepass")
    return data if rng.random() < 0.95 else data + b"\xff\xfe"


# --- tokenizers ---


def _changed_tokenizer(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return damaged(data, rng, is_json=True)
    content = json.loads(data)
    vocab = content["model"]["vocab"]
    pattern = {"Regex": rng.choice(ODD_PATTERNS)}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": rng.random() < 0.5}
    replace = {"type": "Replace", "pattern": pattern, "content": rng.choice(("", "a" * 1000, "é"))}
    token = rng.choice(sorted(vocab))
    changes: tuple[Callable[[], object], ...] = (
        lambda: content.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [split,
            content["pre_tokenizer"]]}),
        lambda: content.update(normalizer=replace),
        lambda: content.update(decoder=rng.choice((replace, None, {"type": "Fuse"}, {"type": "Strip"}))),
        lambda: vocab.update({token: rng.choice((-1, 2**31, 2**32, 10**12, 0, 1.5, "x", None))}),
        lambda: vocab.pop(token, None),
        lambda: content["model"].update(merges=rng.choice(([["a", "zz"]], ["a b"], [[1, 2]], None, [["",
            ""]] * 50))),
        lambda: content["model"].update(type=rng.choice(("WordPiece", "Unigram", "WordLevel", "X", None))),
        lambda: content["added_tokens"].append(rng.choice(ODD_VALUES)),
        lambda: content["added_tokens"].append({**rng.choice(content["added_tokens"]), "id": rng.choice((0,
            10**9, -1))}),
        lambda: content["added_tokens"].append({**content["added_tokens"][0], "content": rng.choice(("",
            "a", " ", "é"))}),
        lambda: content.update(truncation={"max_length": 0, "strategy": "LongestFirst", "stride": 5,
            "direction": "Left"}),
        lambda: content.update(post_processor=rng.choice(ODD_VALUES)),
        lambda: content["model"].update(unk_token="nope", byte_fallback=True, dropout=rng.choice((2.0, 0.5,
            None))),
    )  # fmt: skip
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice(changes)()
    return with_stand_ins(json.dumps(content), rng).encode("utf-8", "surrogatepass")
