"""Cases of models in one file: what its header says, the tokenizer inside it, quantised matrices."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from janus_core import convert
from janus_core.converting.quantising import KINDS

from .damage import ODD_VALUES, damaged, replace_values, with_stand_ins
from .models import TENSOR_CHANGES, use
from .originals import write_originals

_DICE = torch.Generator()
_HEADER = "_quantization_metadata"
_MARKER = ".comfy_quant"
_ODD_MARKS: tuple[Any, ...] = (
    {"format": "int8_tensorwise"}, {"format": "nvfp4"}, {"format": "mxfp8"}, {"format": "float8_e5m2"},
    {"format": "asym_w4a8_int8"}, {"format": "x" * 5000}, {"format": None}, {"format": []}, {}, [], "x", 7,
    {"format": "int8_tensorwise", "convrot": True}, {"format": "int8_tensorwise", "params": {"convrot": 1}},
    {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 0},
    {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 10**30},
    {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": "4"},
    {"format": "int8_tensorwise", "params": 7},
    {"format": "float8_e4m3fn", "full_precision_matrix_mult": True},
)  # fmt: skip


class OneFileCases:
    """Cases of models in one file, plain and of each kind; the originals are written once."""

    def __init__(self, room: Path) -> None:
        self._room = room / "one_file"
        self._room.mkdir(parents=True)
        write_originals(self._room)
        self._originals = {}
        for kind in (None, *KINDS):
            path = self._room / f"{kind}.safetensors"
            convert(self._room / "safetensors", path, quantise=kind)
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable
                self._originals[kind] = (tensors, file.metadata(), path.read_bytes())
        self._case = self._room / "case.safetensors"

    def texts(self, rng: random.Random) -> None:
        """Load a file whose texts or tokenizer are odd, or whose header is damaged."""
        tensors, texts, data = self._content(rng.choice((None, "int8")))
        if rng.random() < 0.3:
            self._case.write_bytes(damaged(data, rng, is_json=False))
            use(self._case, rng)
            return
        for _ in range(rng.choice((1, 1, 2))):
            rng.choice(_TEXT_CHANGES)(tensors, texts, rng)
        self._write(tensors, texts)
        if rng.random() < 0.3:
            self._case.write_bytes(_lying(self._case.read_bytes(), rng))
        use(self._case, rng)

    def matrices(self, rng: random.Random) -> None:
        """Load a file whose markers, scales or quantised numbers are odd."""
        tensors, texts, _ = self._content(rng.choice(tuple(KINDS)))
        if rng.random() < 0.4:
            _mark_in_header(tensors, texts)
        for _ in range(rng.choice((1, 1, 2))):
            rng.choice(_MATRIX_CHANGES)(tensors, texts, rng)
        self._write(tensors, texts)
        use(self._case, rng)

    def foreign(self, rng: random.Random) -> None:
        """Load a file whose matrices another tool has quantised: bitsandbytes, or an older ComfyUI."""
        tensors, texts, _ = self._content(None)
        rng.choice((_to_four, _to_four, _to_eight, _to_old))(tensors, rng)
        if rng.random() < 0.7:
            rng.choice((*TENSOR_CHANGES, _spoil_part, _spoil_part))(tensors, rng)
        self._write(tensors, texts)
        use(self._case, rng)

    def _content(self, kind: str | None) -> tuple[dict[str, Tensor], dict[str, str], bytes]:
        tensors, texts, data = self._originals[kind]
        return dict(tensors), dict(texts), data

    def _write(self, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
        self._case.unlink(missing_ok=True)
        save_file({name: one.clone().contiguous() for name, one in tensors.items()}, self._case, texts)


# --- texts ---

TextChange = Callable[[dict[str, Tensor], dict[str, str], random.Random], None]


def _odd_text(_: dict[str, Tensor], texts: dict[str, str], rng: random.Random) -> None:
    name = rng.choice(sorted(texts))
    if texts[name].startswith("{"):
        texts[name] = replace_values(texts[name].encode(), rng).decode()
    else:
        texts[name] = rng.choice(("", "[]", "x" * 10**6))


def _no_text(_: dict[str, Tensor], texts: dict[str, str], rng: random.Random) -> None:
    texts.pop(rng.choice(sorted(texts)))


def _other_text(_: dict[str, Tensor], texts: dict[str, str], rng: random.Random) -> None:
    name = rng.choice((*texts, "../config.json", "", "generation_config.json", "world.json", "x" * 5000))
    texts[name] = rng.choice(("", "{", "null", "{}", "[" * 50_000, "\0", "\ufeff{}", "x" * 10**6, "9" * 5000))


def _odd_tokenizer(tensors: dict[str, Tensor], _: dict[str, str], rng: random.Random) -> None:
    name = "tokenizer_json"
    one = torch.atleast_1d(tensors.get(name, torch.zeros(3, dtype=torch.uint8)))
    text = bytes(one.to(torch.uint8).flatten().tolist())
    changed = torch.frombuffer(bytearray(damaged(text, rng, is_json=True) or b"x"), dtype=torch.uint8)
    tensors[name] = rng.choice(
        (changed, changed, changed, one[:0], one[None], one.to(torch.int8), one.float(), one[:10],
            torch.zeros(10**6, dtype=torch.uint8), torch.tensor(7, dtype=torch.uint8))
    )  # fmt: skip


def _no_tokenizer(tensors: dict[str, Tensor], texts: dict[str, str], rng: random.Random) -> None:
    text = tensors.pop("tokenizer_json", None)
    if rng.random() < 0.3 and text is not None:
        texts["tokenizer.json"] = bytes(text.flatten().to(torch.uint8).tolist()).decode("utf-8", "replace")


_TEXT_CHANGES: tuple[TextChange, ...] = (
    _odd_text,
    _odd_text,
    _no_text,
    _other_text,
    _odd_tokenizer,
    _no_tokenizer,
)


def _lying(data: bytes, rng: random.Random) -> bytes:
    """Return a file whose header says something else of the tokenizer or of all metadata."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    entry = header.get("tokenizer_json", {})
    first, end = entry.get("data_offsets", (0, 8))
    offsets: tuple[Any, ...] = (
        [0.0, 5.0],
        [first, 10**30],
        [10**30, 10**30 + 5],
        [-9, 9],
        ["a", "b"],
        [True, 9],
    )
    changes: tuple[Callable[[], object], ...] = (
        lambda: entry.update(data_offsets=rng.choice((*offsets, [end, first], [first], None, {}))),
        lambda: entry.update(
            dtype=rng.choice(("U8", "F32", None, 5)), shape=rng.choice(([10**12], [-1], "x"))
        ),
        lambda: header.update(
            __metadata__=rng.choice(([], None, "x", {"config.json": 7}, {"config.json": None}))
        ),
        lambda: header.update(tokenizer_json=rng.choice(ODD_VALUES)),
        lambda: header["__metadata__"].update({"config.json": "\ud800"}),
    )
    rng.choice(changes)()
    text = with_stand_ins(json.dumps(header), rng).encode()
    return len(text).to_bytes(8, "little") + text + body


# --- matrices ---


def _layers(tensors: dict[str, Tensor]) -> list[str]:
    return sorted(name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale"))


def _bytes_of(content: Any, rng: random.Random) -> Tensor:
    data = with_stand_ins(json.dumps(content), rng).encode()
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _mark_in_header(tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
    names = [name for name in tensors if name.endswith(_MARKER)]
    layers = {name.removesuffix(_MARKER): json.loads(bytes(tensors.pop(name).tolist())) for name in names}
    texts[_HEADER] = json.dumps({"format_version": "1.0", "layers": layers})


def _odd_marker(tensors: dict[str, Tensor], texts: dict[str, str], rng: random.Random) -> None:
    layer = rng.choice([*_layers(tensors), "nowhere", "language_model.model.norm", "aligner.layers.0"])
    content = rng.choice((*_ODD_MARKS, *ODD_VALUES))
    if _HEADER in texts:
        held = json.loads(texts[_HEADER]) if texts[_HEADER].startswith('{"format_version') else {}
        held.setdefault("layers", {})[layer] = content
        whole = rng.choice((held, held, held, {"layers": content}, content))
        texts[_HEADER] = with_stand_ins(json.dumps(whole), rng)
        return
    marker = _bytes_of(content, rng)
    tensors[f"{layer}{_MARKER}"] = rng.choice(
        (marker, marker, marker, marker[:3], marker.float(), marker[None])
    )


def _odd_part(tensors: dict[str, Tensor], _: dict[str, str], rng: random.Random) -> None:
    layer = rng.choice(_layers(tensors) or ["x"])
    parts = [name for name in tensors if name.startswith(f"{layer}.")] or sorted(tensors)
    _change(tensors, rng.choice(parts), rng)


def _change(tensors: dict[str, Tensor], name: str, rng: random.Random) -> None:
    one = tensors[name]
    flat = one.flatten()
    changes: tuple[Callable[[], Tensor], ...] = (
        lambda: one.float().sum(),
        lambda: one[None],
        lambda: flat,
        lambda: flat[: len(flat) // 2],
        lambda: flat[:0],
        one.float,
        lambda: one.to(rng.choice((torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool))),
        lambda: torch.full(one.shape, rng.choice((float("nan"), float("inf"), 0.0, -1e38))),
        lambda: torch.cat((flat, flat)),
    )
    if rng.random() < 0.2:
        tensors.pop(name)
    else:
        tensors[name] = rng.choice(changes)()


def _new_part(tensors: dict[str, Tensor], _: dict[str, str], rng: random.Random) -> None:
    layer = rng.choice(_layers(tensors) or ["x"])
    part = rng.choice(
        ("input_scale", "pre_quant_scale", "weight_scale_2", "scale_weight", "SCB", "weight.absmax")
    )
    values = (
        torch.tensor(1.0),
        torch.ones(32),
        torch.ones(1, 32),
        torch.ones(5),
        torch.tensor(3),
        torch.zeros(0),
    )
    tensors[f"{layer}.{part}"] = rng.choice(values)


def _any_tensor(tensors: dict[str, Tensor], _: dict[str, str], rng: random.Random) -> None:
    rng.choice(TENSOR_CHANGES)(tensors, rng)


_MATRIX_CHANGES: tuple[TextChange, ...] = (
    _odd_marker, _odd_marker, _odd_part, _odd_part, _odd_part, _new_part, _any_tensor,
)  # fmt: skip


# --- of other tools ---


def _matrices(tensors: dict[str, Tensor]) -> list[str]:
    return sorted(name for name in tensors if name.endswith("_proj.weight"))


def _to_four(tensors: dict[str, Tensor], rng: random.Random) -> None:
    """Store matrices as bitsandbytes does in 4 bits, and say odd things of one."""
    odd = rng.choice((None, None, *_matrices(tensors)))
    for name in _matrices(tensors):
        rows, columns = tensors[name].shape
        count = rows * columns
        said: dict[str, Any] = {"shape": [rows, columns], "dtype": "float32", "blocksize": 64}
        parts = {"absmax": torch.rand(-(-count // 64)), "quant_map": torch.linspace(-1, 1, 16)}
        if rng.random() < 0.3:
            said |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.1}
            parts |= {
                "nested_quant_map": torch.rand(256),
                "nested_absmax": torch.rand(-(-count // 64 // 256)),
            }
            parts["absmax"] = torch.zeros(-(-count // 64), dtype=torch.uint8)
        if name == odd:
            sizes = (
                0,
                1,
                128,
                2**33,
                2**62,
                1e30,
                float("inf"),
                [2**20, 2**20],
                [count],
                [1] * 5000,
                [-1, -count],
            )
            said[rng.choice(sorted(said))] = rng.choice((*sizes, *ODD_VALUES))
        tensors[name] = torch.randint(1, 255, (count // 2, 1), dtype=torch.uint8, generator=_DICE)
        tensors |= {f"{name}.{part}": one for part, one in parts.items()}
        kind = rng.choice(("nf4", "fp4", "x" * 500) if name == odd else ("nf4", "fp4"))
        tensors[f"{name}.quant_state.bitsandbytes__{kind}"] = _bytes_of(said, rng)


def _to_eight(tensors: dict[str, Tensor], rng: random.Random) -> None:
    for name in _matrices(tensors):
        layer = name.removesuffix(".weight")
        tensors[f"{layer}.SCB"] = torch.rand(len(tensors[name]))
        tensors[f"{layer}.weight_format"] = torch.tensor(int(rng.random() < 0.02), dtype=torch.uint8)
        tensors[name] = torch.randint(1, 99, tensors[name].shape, dtype=torch.int8, generator=_DICE)


def _to_old(tensors: dict[str, Tensor], rng: random.Random) -> None:
    for name in _matrices(tensors):
        kind = rng.choice((torch.float8_e4m3fn, torch.float8_e5m2))
        layer = name.removesuffix(".weight")
        tensors[name] = tensors[name].to(kind)
        tensors[f"{layer}.scale_weight"] = torch.tensor(rng.random())
        if rng.random() < 0.3:
            tensors[f"{layer}.scale_input"] = torch.ones(1)
    mark = rng.choice(("scaled_fp8", "scaled_fp8", "model.scaled_fp8", "x.scaled_fp8"))
    tensors[mark] = torch.zeros(rng.choice((0, 2, 7)), dtype=torch.float8_e4m3fn)


def _spoil_part(tensors: dict[str, Tensor], rng: random.Random) -> None:
    parts = [name for name in tensors if any(word in name for word in ("_proj.", "scaled_fp8"))]
    _change(tensors, rng.choice(parts), rng)
