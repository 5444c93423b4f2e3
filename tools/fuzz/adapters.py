"""Cases of adapters: files and PEFT folders with odd tensors or odd configurations, or damaged by chance."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from janus_core import Lora, load_janus
from janus_core.checkpoints.names import published_names
from janus_core.janus import Janus
from janus_core.model.model import build_model

from .damage import ODD_VALUES, damaged, with_stand_ins
from .models import ODD_PATTERNS, TENSOR_CHANGES, stop_soon
from .originals import small_config, write_originals

_RANK = 2
_MATRICES = (
    "language.language_model.layers.0.self_attn.q_proj.weight",
    "language.language_model.layers.0.mlp.down_proj.weight",
    "language.language_model.lm_head.weight",
    "language.generation_head.output.weight",
    "language.generation_aligner.layers.2.weight",
    "seeing.understanding_aligner.layers.0.weight",
    "seeing.vision_tower.patch_embedding.weight",
)
_TABLE, _WHOLE = "language.language_model.embed_tokens.weight", "language.language_model.norm.weight"
_POSITIONS = "seeing.vision_tower.position_embedding.weight"
_PREFIXES = ("base_model.model.", "", "base_model.model.model.", "module.")
_CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": _RANK, "lora_alpha": 4, "use_rslora": False, "use_dora": False, "bias": "none",
    "alpha_pattern": {"q_proj": 2}, "rank_pattern": {}, "modules_to_save": None, "fan_in_fan_out": False,
    "base_model_name_or_path": "deepseek-ai/Janus-Pro-1B", "init_lora_weights": True,
    "layer_replication": None,
}  # fmt: skip
_STRENGTHS: tuple[Any, ...] = (
    1.0,
    1,
    0,
    -1,
    0.5,
    100,
    101,
    -1e9,
    float("nan"),
    float("inf"),
    10**400,
    True,
    None,
    "1",
    [1],
)


class AdapterCases:
    """Cases of adapters for one small model."""

    def __init__(self, room: Path) -> None:
        self._room = room / "adapters"
        self._room.mkdir(parents=True)
        write_originals(self._room)
        self._model = self._room / "safetensors"
        self._tensors = _tensors()
        self._case = self._room / "case"

    def file(self, rng: random.Random) -> None:
        """Load with an adapter whose weight file is damaged, or whose tensors are odd."""
        path = self._folder(rng)
        weights = path / "adapter_model.safetensors"
        if rng.random() < 0.3:
            weights.write_bytes(damaged(weights.read_bytes(), rng, is_json=False))
        else:
            tensors = dict(self._tensors)
            for _ in range(rng.choice((1, 1, 3))):
                rng.choice((*TENSOR_CHANGES, *_CHANGES))(tensors, rng)
            prefix = rng.choice(_PREFIXES)
            tensors = {prefix + name: one.contiguous() for name, one in tensors.items()}
            save_file(tensors, weights, rng.choice((None, _inside(rng))))
        self._use(rng.choice((path, weights)), rng)

    def folder(self, rng: random.Random) -> None:
        """Load with a PEFT folder whose configuration is odd, or that holds something else."""
        path = self._folder(rng)
        config = path / "adapter_config.json"
        if rng.random() < 0.3:
            config.write_bytes(damaged(config.read_bytes(), rng, is_json=True))
        else:
            content = _odd_config(rng)
            config.write_bytes(with_stand_ins(json.dumps(content), rng).encode("utf-8", "surrogatepass"))
        if rng.random() < 0.2:
            rng.choice(_FOLDER_CHANGES)(path, self._model)
        self._use(rng.choice((path, path, path / "adapter_model.safetensors", *_ODD_PATHS)), rng)

    def _folder(self, rng: random.Random) -> Path:
        shutil.rmtree(self._case, ignore_errors=True)
        self._case.mkdir()
        prefix = rng.choice(_PREFIXES)
        tensors = {prefix + name: one for name, one in self._tensors.items()}
        save_file(tensors, self._case / "adapter_model.safetensors")
        (self._case / "adapter_config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
        return self._case

    def _use(self, path: str | Path, rng: random.Random) -> None:
        """Load a model with an adapter; where that succeeds, at times draw with it."""
        strength = rng.choice(_STRENGTHS) if rng.random() < 0.2 else 1.0
        loras = [Lora(path=path, strength=strength)] * rng.choice((1, 1, 2))
        loaded = load_janus(self._model, dtype="float32", device="cpu", loras=loras)
        assert isinstance(loaded, Janus)
        if rng.random() < 0.5:
            loaded.draw("a red circle", on_step=stop_soon)


_ODD_PATHS = (
    "",
    "~nobody/x.safetensors",
    "a\0b",
    "x" * 300,
    "x/" * 3000,
    "C:\\x.safetensors",
    "/dev/null",
    "/",
)


def _tensors() -> dict[str, Tensor]:
    """Return an adapter of each kind of layer, by the authors' names."""
    shapes = {name: one.shape for name, one in build_model(small_config()).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for ours in _MATRICES:
        module = published_names(ours, "authors")[0].removesuffix(".weight")
        rows, *inner = shapes[ours]
        ones = [1] * (len(inner) - 1)
        found[f"{module}.lora_A.weight"] = torch.randn(_RANK, *inner, generator=generator)
        found[f"{module}.lora_B.weight"] = torch.randn(rows, _RANK, *ones, generator=generator)
    rows, width = shapes[_TABLE]
    module = published_names(_TABLE, "authors")[0].removesuffix(".weight")
    found[f"{module}.lora_embedding_A"] = torch.randn(_RANK, rows, generator=generator)
    found[f"{module}.lora_embedding_B"] = torch.randn(width, _RANK, generator=generator)
    found[published_names(_WHOLE, "authors")[0]] = torch.randn(shapes[_WHOLE], generator=generator)
    positions = torch.randn(1, *shapes[_POSITIONS], generator=generator)
    return found | {published_names(_POSITIONS, "authors")[0]: positions}


# --- configurations ---


def _odd_config(rng: random.Random) -> dict[str, Any]:
    content = dict(_CONFIG)
    for _ in range(rng.choice((1, 1, 2, 4))):
        key = rng.choice((*content, "velora_config", "target_parameters", "x" * 3000))
        content[key] = rng.choice(ODD_VALUES)
    if rng.random() < 0.3:
        pattern = rng.choice((*ODD_PATTERNS, *_SLOW_PATTERNS))
        content["alpha_pattern"] = {pattern: rng.choice((2, 0, 1e308, *ODD_VALUES))}
    if rng.random() < 0.1:
        content["alpha_pattern"] = {f"{rng.choice(_SLOW_PATTERNS)}{number}": 1 for number in range(5000)}
    return content


_SLOW_PATTERNS = (
    "(.*)" * 12 + "x",
    ".*" * 30 + "x",
    r"(\w*\.)*x",
    r"(?:[a-z_.]*){9}$x",
    "a?" * 40 + "a" * 40,
    "",
)


def _inside(rng: random.Random) -> dict[str, str]:
    text = with_stand_ins(json.dumps(rng.choice((_CONFIG, _odd_config(rng), *ODD_VALUES))), rng)
    return {"adapter_config": rng.choice((text, text, "{", "", "[" * 50_000))}


# --- tensors ---


def _a_factor(tensors: dict[str, Tensor], rng: random.Random) -> str:
    return rng.choice([name for name in tensors if "lora_" in name] or sorted(tensors))


def _reshape(tensors: dict[str, Tensor], rng: random.Random) -> None:
    name = _a_factor(tensors, rng)
    one = tensors[name]
    tensors[name] = rng.choice(
        (
            one.sum(),
            one.flatten(),
            one[None],
            one[:0],
            one[..., :0],
            one[:1],
            one.movedim(0, -1) if one.ndim else one,
        )
    )


def _no_rank(tensors: dict[str, Tensor], rng: random.Random) -> None:
    for name in list(tensors):
        if "lora_A" in name or "lora_embedding_A" in name:
            tensors[name] = tensors[name][:0]
        elif "lora_B" in name or "lora_embedding_B" in name:
            tensors[name] = tensors[name][..., :0]


def _add(tensors: dict[str, Tensor], rng: random.Random) -> None:
    name = _a_factor(tensors, rng)
    module = name.partition(".lora_")[0]
    ending = rng.choice(
        ("alpha", "lora_B.bias", "lora_magnitude_vector", "lora_A.other.weight", "bias", "dora_scale",
            "weight", "lora_mid.weight", "hada_w1_a", "base_layer.weight", "modules_to_save.default.weight",
            "lora_A." + "x" * 5000)
    )  # fmt: skip
    value = rng.choice(
        (torch.ones(1), torch.tensor(3), torch.tensor(0.0), torch.tensor(True), torch.ones(2, 3, 4))
    )
    tensors[f"{module}.{ending}"] = rng.choice((value, tensors[name].clone()))


def _long_names(tensors: dict[str, Tensor], rng: random.Random) -> None:
    for name in list(tensors):
        tensors[f"{'x' * rng.choice((1, 9000))}.{name}"] = tensors.pop(name)


_CHANGES: tuple[Callable[[dict[str, Tensor], random.Random], None], ...] = (
    _reshape, _reshape, _no_rank, _add, _add, _long_names,
)  # fmt: skip


# --- folders ---


def _is_a_model(path: Path, model: Path) -> None:
    shutil.copytree(model, path, dirs_exist_ok=True)
    (path / "adapter_model.safetensors").unlink()


def _is_a_pickle(path: Path, _: Path) -> None:
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")


def _is_a_folder(path: Path, _: Path) -> None:
    (path / "adapter_model.safetensors").unlink()
    (path / "adapter_model.safetensors").mkdir()


def _is_a_loop(path: Path, _: Path) -> None:
    (path / "adapter_config.json").unlink()
    (path / "adapter_config.json").symlink_to(path / "adapter_config.json")


_FOLDER_CHANGES = (_is_a_model, _is_a_pickle, _is_a_folder, _is_a_loop)
