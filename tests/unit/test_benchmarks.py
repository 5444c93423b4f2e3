"""The benchmark at its smallest size: every row runs once, and its check of equality can fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", minversion="5.0")

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.equality import check_equality
from benchmarks.rows import ROWS, Contenders
from benchmarks.sizes import SIZES
from benchmarks.timing import interleave
from benchmarks.weights import make_folders

pytestmark = pytest.mark.filterwarnings(r"ignore:::transformers\..*")

TINY = SIZES["tiny"]
ROW: dict[str, Any] = {
    "title": "Draw",
    "unit": "image tokens",
    "count": 10,
    "repeats": 3,
    "copy_gb_per_s": 9.0,
    "bandwidth_share": {"ours": 0.5},
    "timings": {"ours": {"median_s": 2.0}, "authors": {"median_s": 5.0}},
}


@pytest.fixture(scope="module")
def contenders(tmp_path_factory: pytest.TempPathFactory) -> Contenders:
    folders = make_folders(TINY, torch.float32, tmp_path_factory.mktemp("weights"))
    return command.make_contenders(folders, torch.float32)


def test_all_contenders_compute_the_same(contenders: Contenders) -> None:
    found = check_equality(TINY, contenders)
    assert found["image_tokens"] == TINY.config.num_image_tokens
    assert found["largest_pixel_difference"] < 1e-4


def test_a_contender_that_draws_other_tokens_stops_the_benchmark(contenders: Contenders) -> None:
    class Wrong:
        """Draws what nobody else draws."""

        def draw(self, steps: int, *, greedy: bool = False) -> Tensor:
            return contenders["ours"].draw(steps, greedy=greedy) + 1

    with pytest.raises(SystemExit, match="of wrong differ from ours from number 0"):
        check_equality(TINY, {**contenders, "wrong": Wrong()})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_runs_and_names_its_work(contenders: Contenders, name: str) -> None:
    found = command.time_row(name, TINY, contenders, 1, "wall")
    assert "ours" in found["timings"]
    assert all(timing["median_s"] > 0 for timing in found["timings"].values())
    assert "{" not in found["title"]


def test_every_contender_runs_once_a_round_in_turns() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}  # type: ignore[misc]
    interleave(runs, 2, "wall")
    assert order == ["a", "b"] * 3  # the first round warms up


def test_the_median_of_the_repeats_leaves_the_warm_up_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0, 100, 0, 1, 0, 2, 0, 9])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    timing = interleave({"a": lambda: None}, 3, "wall")["a"]
    assert (timing.warm_up_s, timing.median_s, timing.fastest_s) == (100, 2, 1)


def test_rows_merge_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results" / "machine.json"
    report.merge(path, "mid", "draw", ROW)
    report.merge(path, "mid", "decode", ROW)
    assert set(json.loads(path.read_text(encoding="utf-8"))["mid"]) == {"draw", "decode"}


def test_the_table_says_how_many_times_as_long_the_others_take(tmp_path: Path) -> None:
    content = report.merge(tmp_path / "machine.json", "mid", "draw", ROW)
    assert "| Draw | 5 image tokens/s | 2.50 × (authors) | 50% (ours) |" in report.table(content)


def test_the_step_reads_decoder_head_and_half_the_cache() -> None:
    text, head = TINY.config.language, TINY.config.generation_head
    width, inner = text.hidden_size, text.intermediate_size
    layer = 4 * width**2 + 3 * width * inner + 2 * width
    heads = width**2 + width + head.codebook_size * (width + 1) + 8 * width + width + width**2 + width
    cache = 4 * text.num_hidden_layers * width * TINY.config.num_image_tokens // 2
    expected = text.num_hidden_layers * layer + heads + cache
    assert report.step_bytes(TINY.config, torch.float32) == 4 * expected


@pytest.mark.parametrize("arguments", [["--size", "7b"], ["--only", "nonsense"]])
def test_what_cannot_be_measured_is_refused_in_a_sentence(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    assert command.main() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
