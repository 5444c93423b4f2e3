"""Weights stay in their file: loading in the stored dtype on a CPU takes next to no memory of its own.

Measured in a process of its own, as RssAnon of /proc/self/status: memory that belongs to the process alone
and cannot be dropped, unlike pages of a mapped file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from janus_core.checkpoints.config_files import parse_authors
from janus_core.checkpoints.layout import Layout
from janus_core.checkpoints.names import published_names
from janus_core.model.model import build_model

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "parity" / "golden"
STATUS = Path("/proc/self/status")
LARGEST_SHARE = 0.15
SOURCES = {"authors": "janus-tiny-bin", "transformers": "janus-tiny-hf"}
FILES = {
    "safetensors": "model.safetensors",
    "native": "model.safetensors",
    "bin": "pytorch_model.bin",
    "old bin": "pytorch_model.bin",
}

# The tiny model is loaded first, so that libraries and caches are not counted. The sum reads every weight.
MEASURE = """
import re, sys
from pathlib import Path
from janus_core import load_janus

def private_kb():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

for folder in sys.argv[1:]:
    before = private_kb()
    janus = load_janus(folder, dtype="float32", device="cpu")
    checksum = sum(parameter.sum().item() for parameter in janus.model.parameters())
    print(private_kb() - before)
    del janus
"""

pytestmark = pytest.mark.skipif(
    not STATUS.exists() or "RssAnon" not in STATUS.read_text(),
    reason="private memory cannot be measured: this system has no RssAnon in /proc/self/status",
)


def wide_config(layout: Layout) -> str:
    config = json.loads((GOLDEN / SOURCES[layout] / "config.json").read_text())
    section = "language_config" if layout == "authors" else "text_config"
    config[section] |= {"intermediate_size": 40_000}
    return json.dumps(config)


def random_weights() -> dict[str, Tensor]:
    """Return some 90 MB of float32 weights of a widened tiny model, under our names."""
    config = parse_authors(json.loads(wide_config("authors")), {}, {})
    generator = torch.Generator().manual_seed(0)
    shapes = {name: tensor.shape for name, tensor in build_model(config).state_dict().items()}
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def write_folder(folder: Path, layout: Layout, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write all files but the weights; return these under the layout's names."""
    shutil.copytree(
        GOLDEN / SOURCES[layout], folder, ignore=shutil.ignore_patterns("*index*", "*.bin", "model*")
    )
    (folder / "config.json").write_text(wide_config(layout))
    published: dict[str, Tensor] = {}
    for ours, tensor in weights.items():
        names = published_names(ours, layout)
        published |= {n: part.clone() for n, part in zip(names, tensor.chunk(len(names)), strict=True)}
    return published


@pytest.fixture(scope="module")
def growth() -> dict[str, float]:
    """Return by which share of its weight file's size loading each folder made private memory grow."""
    weights = random_weights()
    with tempfile.TemporaryDirectory() as root:
        files = {name: Path(root) / name / file for name, file in FILES.items()}
        for name, file in files.items():
            published = write_folder(file.parent, "transformers" if name == "native" else "authors", weights)
            if file.suffix == ".safetensors":
                save_file(published, file)
            else:
                torch.save(published, file, _use_new_zipfile_serialization=name != "old bin")
        folders = [str(GOLDEN / "janus-tiny-bin"), *(str(file.parent) for file in files.values())]
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, *folders],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        grown_kb = [int(line) for line in run.stdout.split()][1:]
        sizes = [file.stat().st_size for file in files.values()]
    assert min(sizes) > 90e6
    return {name: 1024 * kb / size for name, kb, size in zip(files, grown_kb, sizes, strict=True)}


@pytest.mark.parametrize("name", ["safetensors", "native", "bin"])
def test_weights_stay_mapped(growth: dict[str, float], name: str) -> None:
    assert growth[name] < LARGEST_SHARE


def test_a_file_that_cannot_be_mapped_is_what_the_measure_finds(growth: dict[str, float]) -> None:
    assert growth["old bin"] > 0.9
