from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close

from janus_core import CheckpointError, SamplingError, read_adapter
from janus_core.adapters.changes import merged, stacked
from janus_core.adapters.extraction import extract, low_rank

from .conftest import LAYERS, RANK, Tiny, hand_merged

NORM = "language.language_model.norm.weight"
TABLE = "language.language_model.embed_tokens.weight"
CONV = "seeing.vision_tower.patch_embedding.weight"


def applied(tiny: Tiny, path: Path) -> dict[str, Tensor]:
    adapter = read_adapter(path, tiny.shapes, "janus-tiny")
    stack = stacked([(adapter.changes, 1.0)])
    return {name: merged(tensor, stack.get(name, ())) for name, tensor in tiny.weights.items()}


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, tensor in expected.items():
        assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("out", ["style.safetensors", "folder"])
def test_a_difference_of_low_rank_comes_back_whole(tiny: Tiny, tmp_path: Path, out: str) -> None:
    tuned = hand_merged(tiny)
    found = extract(tiny.weights, tuned, RANK, "authors")
    assert found.kept > 0.999999
    assert found.left_out == ()
    file = found.save(tmp_path / out)
    assert file.exists()
    assert_same(applied(tiny, tmp_path / out), tuned)
    with safe_open(file, "pt") as opened:
        changed = {name for name in opened.keys() if "lora_A" in name}  # noqa: SIM118 - not iterable itself
    assert len(changed) == len(LAYERS)
    assert json.loads(safe_open(file, "pt").metadata()["adapter_config"])["lora_alpha"] == RANK


def test_norms_tables_and_convolutions_are_carried_too(tiny: Tiny, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    tuned = dict(tiny.weights)
    for name in (
        NORM,
        TABLE,
        CONV,
        "seeing.vision_tower.position_embedding.weight",
        "seeing.vision_tower.norm.bias",
    ):
        tuned[name] = tuned[name] + torch.randn(tuned[name].shape, generator=generator)
    found = extract(tiny.weights, tuned, 10_000, "authors")
    found.save(tmp_path / "all.safetensors")
    assert_same(applied(tiny, tmp_path / "all.safetensors"), tuned)
    assert found.kept == pytest.approx(1.0, abs=1e-6)


def test_the_share_that_is_told_is_that_of_the_applied_adapter(tiny: Tiny, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    names = [f"{layer}.weight" for layer in LAYERS]
    tuned = dict(tiny.weights)
    for name in names:
        tuned[name] = tuned[name] + torch.randn(tuned[name].shape, generator=generator)
    found = extract(tiny.weights, tuned, RANK, "authors")
    result = applied(tiny, found.save(tmp_path / "x.safetensors"))
    rest = sum(float((result[name] - tuned[name]).square().sum()) for name in names)
    whole = sum(float((tiny.weights[name] - tuned[name]).square().sum()) for name in names)
    assert 0.05 < found.kept < 0.9
    assert found.kept == pytest.approx(1 - rest / whole, abs=1e-3)
    worst, share = found.worst
    assert worst in names
    assert share <= found.kept


def test_a_large_matrix_keeps_as_much_as_its_decomposition_allows() -> None:
    generator = torch.Generator().manual_seed(3)
    sizes = 0.97 ** torch.arange(300)
    matrix = torch.randn(400, 300, generator=generator) * sizes @ torch.randn(300, 500, generator=generator)
    best = torch.linalg.svdvals(matrix)[:16].square().sum().item()
    up, down, kept = low_rank(matrix, 16)
    assert (up.shape, down.shape) == ((400, 16), (16, 500))
    assert kept == pytest.approx(best, rel=0.01)
    missing = float((matrix - up @ down).square().sum() / matrix.square().sum())
    assert missing == pytest.approx(1 - kept / float(matrix.square().sum()), abs=1e-3)
    assert torch.equal(low_rank(matrix, 16)[0], up)


def test_nothing_touches_the_global_random_state(tiny: Tiny) -> None:
    before = torch.get_rng_state()
    low_rank(torch.ones(400, 500), 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_changes_of_the_vq_tokenizer_are_told_and_left_out(tiny: Tiny) -> None:
    tuned = hand_merged(tiny)
    name = "vq_tokenizer.codebook.weight"
    tuned[name] = tuned[name] + 1
    found = extract(tiny.weights, tuned, RANK, "authors")
    assert found.left_out == (name,)
    assert found.kept < 0.9


def test_models_that_make_no_pair_are_refused(tiny: Tiny) -> None:
    with pytest.raises(CheckpointError, match="do not differ"):
        extract(tiny.weights, tiny.weights, RANK, "authors")
    wider = {**tiny.weights, NORM: torch.ones(4096)}
    with pytest.raises(CheckpointError, match=r"is \[64\] in the base and \[4096\] in the other"):
        extract(tiny.weights, wider, RANK, "authors")
    with pytest.raises(SamplingError, match="rank"):
        extract(tiny.weights, hand_merged(tiny), 0, "authors")
