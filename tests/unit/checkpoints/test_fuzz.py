"""Damaged model folders: only a JanusError may come out, soon, without a warning and without much memory."""

from __future__ import annotations

import random
import time
import warnings
from pathlib import Path

import pytest

from janus_core import load_janus
from janus_core.errors import JanusError
from tools.fuzz.damage import damaged
from tools.fuzz.originals import small_config, write_originals

resource = pytest.importorskip("resource", reason="peak memory cannot be measured on this system")

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


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("originals")
    write_originals(root)
    return root


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
    data = (originals / folder / file).read_bytes()
    (tmp_path / file).write_bytes(damaged(data, rng, is_json=file.endswith(".json")))
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
