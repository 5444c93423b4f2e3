"""Damaged model folders: only a JanusError may come out, soon, without a warning and without much memory."""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from janus_core import load_janus
from janus_core.checkpoints.config_files import parse_authors
from janus_core.checkpoints.config_writing import write_authors
from janus_core.checkpoints.layout import Layout
from janus_core.checkpoints.names import published_names
from janus_core.errors import JanusError
from janus_core.model.config import JanusConfig
from janus_core.model.model import build_model

resource = pytest.importorskip("resource", reason="peak memory cannot be measured on this system")

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
LONGEST_S = 5.0  # of processor time; most cases take less than 0.1
LARGEST_GROWTH_KB = 200_000

# folder, file in it, how many damaged copies; 500 and more in all
TARGETS = (
    ("safetensors", "config.json", 42),
    ("safetensors", "preprocessor_config.json", 20),
    ("safetensors", "processor_config.json", 42),
    ("safetensors", "tokenizer.json", 42),
    ("safetensors", "tokenizer_config.json", 20),
    ("safetensors", "special_tokens_map.json", 20),
    ("safetensors", "model.safetensors", 42),
    ("shards", "pytorch_model.bin.index.json", 42),
    ("shards", "pytorch_model-00001-of-00002.bin", 42),
    ("shards", "pytorch_model-00002-of-00002.bin", 42),
    ("legacy", "pytorch_model.bin", 42),
    ("native", "config.json", 42),
    ("native", "processor_config.json", 42),
    ("native", "model.safetensors", 42),
)

NESTED = "stands for a deeply nested value"
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 10**9, 10**400, 1e-300, float("inf"), float("nan"), "", "x", "\ud800", [],
    [1], {}, {"a": 1}, 0.5, "../../config.json", "a" * 5000, NESTED,
)  # fmt: skip

Mutate = Callable[[bytes, random.Random], bytes]


# --- a smaller model than the golden one, in every layout ---


def small_config() -> JanusConfig:
    config = json.loads((GOLDEN / "janus-tiny-bin" / "config.json").read_text())
    config["vision_config"]["params"] |= {"image_size": 32, "width": 32, "layers": 1}
    config["gen_vision_config"]["params"] |= {"ch_mult": [1], "image_token_size": 32}
    config["language_config"] |= {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config["gen_head_config"]["params"] |= {"n_embed": 32, "image_token_embed": 32, "image_token_size": 32}
    config["aligner_config"]["params"] |= {"input_dim": 32, "n_embed": 32}
    config["gen_aligner_config"]["params"] |= {"n_embed": 32}
    return parse_authors(config, {}, {})


def small_weights(config: JanusConfig, layout: Layout) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}
    for ours, meta in build_model(config).state_dict().items():
        names = published_names(ours, layout)
        parts = torch.randn(meta.shape, generator=generator).chunk(len(names))
        weights |= {name: part.clone() for name, part in zip(names, parts, strict=True)}
    return weights


def native_config(config: JanusConfig) -> dict[str, Any]:
    native: dict[str, Any] = json.loads((GOLDEN / "janus-tiny-hf" / "config.json").read_text())
    native["text_config"] |= vars(config.language)
    native["vision_config"] |= {"hidden_size": 32, "num_hidden_layers": 1, "image_size": 32}
    native["vision_config"] |= {"projection_dim": 32}
    native["vq_config"] |= {"channel_multiplier": [1], "num_embeddings": 32, "projection_dim": 32}
    native["vq_config"] |= {"image_token_embed_dim": 32}
    return native


def write_side_files(folder: Path, config: JanusConfig, source: str) -> None:
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((GOLDEN / source / name).read_bytes())
    for name, content in write_authors(config).items():
        (folder / name).write_text(json.dumps(content, indent=1))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("originals")
    config = small_config()
    weights = small_weights(config, "authors")
    for name in ("safetensors", "shards", "legacy"):
        write_side_files(root / name, config, "janus-tiny-bin")
    save_file(weights, root / "safetensors" / "model.safetensors")
    torch.save(weights, root / "legacy" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    weight_map = {
        name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(weights)
    }
    for shard in set(weight_map.values()):
        torch.save({n: t for n, t in weights.items() if weight_map[n] == shard}, root / "shards" / shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (root / "shards" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    write_side_files(root / "native", config, "janus-tiny-hf")
    (root / "native" / "config.json").write_text(json.dumps(native_config(config)))
    processor = json.loads((GOLDEN / "janus-tiny-hf" / "processor_config.json").read_text())
    processor["image_processor"]["size"] = {"height": 32, "width": 32}
    (root / "native" / "processor_config.json").write_text(json.dumps(processor))
    save_file(small_weights(config, "transformers"), root / "native" / "model.safetensors")
    return root


# --- how a file is damaged ---


def a_place(data: bytes, rng: random.Random) -> int:
    """Return an offset; half of them near the start or the end, where formats keep their structure."""
    near = min(len(data), 600)
    return rng.choice((rng.randrange(near), len(data) - 1 - rng.randrange(near), rng.randrange(len(data))))


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 100))):
        changed[a_place(data, rng)] = rng.randrange(256)
    return bytes(changed)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: a_place(data, rng)]


def splice(data: bytes, rng: random.Random) -> bytes:
    start, length, target = a_place(data, rng), rng.choice((1, 8, 64, 4096)), a_place(data, rng)
    piece = rng.choice((data[start : start + length], rng.randbytes(length), bytes(length)))
    return data[:target] + piece + data[target + rng.choice((0, length)) :]


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from places_in(inner)


def replace_values(data: bytes, rng: random.Random) -> bytes:
    content = json.loads(data)
    places = list(places_in(content))
    for holder, key in rng.sample(places, rng.choice((1, 1, 2, 4))):
        if isinstance(holder, dict) and rng.random() < 0.2:
            holder.pop(key)
        else:
            holder[key] = rng.choice(ODD_VALUES)
    levels = rng.choice((300, 900, 960, 100_000))
    nested = '[{"a":' * (levels // 2) + "1" + "}]" * (levels // 2)
    return json.dumps(content).replace(f'"{NESTED}"', nested).encode()


def damaged(path: Path, rng: random.Random) -> bytes:
    mutations: list[Mutate] = [flip, truncate, splice]
    if path.suffix == ".json":
        mutations += [replace_values] * 4
    return rng.choice(mutations)(path.read_bytes(), rng)


# --- the cases ---


@pytest.mark.parametrize("folder", ["safetensors", "shards", "legacy", "native"])
def test_the_undamaged_folder_loads(originals: Path, folder: str) -> None:
    assert load_janus(originals / folder, dtype="float32", device="cpu").config == small_config()


@pytest.mark.parametrize(
    ("folder", "file", "seed"),
    [(folder, file, seed) for folder, file, copies in TARGETS for seed in range(copies)],
)
def test_a_damaged_file_loads_or_raises_a_janus_error(
    originals: Path, tmp_path: Path, folder: str, file: str, seed: int
) -> None:
    for path in (originals / folder).iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / file).unlink()
    rng = random.Random(f"{folder} {file} {seed}")
    (tmp_path / file).write_bytes(damaged(originals / folder / file, rng))
    peak_kb, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    said = str(tmp_path)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            load_janus(tmp_path, dtype="float32", device="cpu")
        except JanusError as error:
            said = str(error)
    assert not warned
    assert str(tmp_path) in said
    assert len(said) < 1000
    assert time.process_time() - started < LONGEST_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kb < LARGEST_GROWTH_KB
