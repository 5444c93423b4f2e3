"""The benchmark at its smallest size: every row runs once, and its check of equality can fail."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

pytest.importorskip("transformers", minversion="5.0")

from benchmarks import __main__ as command
from benchmarks import cells, report
from benchmarks.cells import CELLS
from benchmarks.cells import command as cell_command
from benchmarks.contenders import prompt_plan
from benchmarks.equality import _logits_at, check_equality, near_ties
from benchmarks.rows import ROWS, Bench
from benchmarks.sizes import SIZES
from benchmarks.timing import Stopwatch, Trial, interleave
from janus_core.generation.capturing import _Workshop

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


CPU = torch.device("cpu")
NAMES = ["ours unpacked", "authors", "transformers"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    workdir = tmp_path_factory.mktemp("weights")
    contenders = command.make_contenders(TINY, torch.float32, CPU, workdir, NAMES)
    return Bench(size=TINY, device=CPU, contenders=contenders)


def test_all_contenders_compute_the_same(bench: Bench) -> None:
    found = check_equality(bench)
    assert found["image_tokens"] == TINY.config.num_image_tokens
    assert found["largest_pixel_difference"] < 1e-4


def test_a_picture_that_is_another_in_a_batch_stops_the_benchmark(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = bench.ours.draw

    def second_differs(steps: int, *, greedy: bool = False, pictures: int = 1) -> Tensor:
        return draw(steps, greedy=greedy, pictures=pictures) + torch.arange(pictures)[:, None]

    monkeypatch.setattr(bench.ours, "draw", second_differs)
    with pytest.raises(SystemExit, match="of a picture in a batch differ"):
        check_equality(bench)


def test_an_answer_that_is_another_in_a_batch_stops_the_benchmark(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = bench.ours.answer

    def second_differs(images: list[Image.Image], tokens: int) -> Tensor:
        return answer(images, tokens) + torch.arange(len(images))[:, None]

    monkeypatch.setattr(bench.ours, "answer", second_differs)
    with pytest.raises(SystemExit, match="greedy answer in a batch differ"):
        check_equality(bench)


def test_a_contender_that_draws_other_tokens_stops_the_benchmark(bench: Bench) -> None:
    class Wrong:
        """Draws what nobody else draws."""

        def draw(self, steps: int, *, greedy: bool = False) -> Tensor:
            return bench.ours.draw(steps, greedy=greedy) + 1

    with pytest.raises(SystemExit, match="of wrong differ from ours from number 0"):
        check_equality(replace(bench, contenders={**bench.contenders, "wrong": Wrong()}))


def test_in_half_precision_a_difference_is_shown_with_how_near_the_tie_was(bench: Bench) -> None:
    class Other:
        """Draws the second-likeliest token in the fourth cell."""

        def draw(self, steps: int, *, greedy: bool = False) -> Tensor:
            tokens = bench.ours.draw(steps, greedy=greedy).clone()
            tokens[0, 3] = _logits_at(bench.ours, tokens[0, :3]).topk(2).indices[1]
            return tokens

    found = near_ties(bench.ours, {"same": bench.ours, "other": Other()}, 8)
    assert found["same"] == {"compared": 8, "first_difference": None}
    assert found["other"]["first_difference"] == 3
    assert 0 < found["other"]["margin"] < found["other"]["spread"]


def test_a_prompt_can_be_made_longer(bench: Bench) -> None:
    assert len(prompt_plan(bench.ours.janus.tokenizer, 77)) == 77


def test_the_way_of_a_gpu_can_be_walked_on_a_cpu(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = bench.ours.draw(16, greedy=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("janus_core.generation.static_decoder.may_capture", lambda model, compute: True)
        assert torch.equal(bench.contenders["ours unpacked"].draw(16, greedy=True), plain)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_runs_and_names_its_work(bench: Bench, name: str) -> None:
    found = command.time_row(name, bench, 1, "wall", torch.float32, {"copy_gb_per_s": 9.0})
    assert "ours" in found["timings"]
    assert all(timing["warm_up_s"] > 0 for timing in found["timings"].values())
    if "steps" not in name:  # those are differences of two short times
        assert all(timing["median_s"] > 0 for timing in found["timings"].values())
    assert "{" not in found["title"]


def test_every_contender_runs_once_a_round_in_turns() -> None:
    order: list[str] = []
    trials = {name: Trial(work=lambda name=name: order.append(name)) for name in "ab"}
    interleave(trials, 2, Stopwatch("wall", CPU))
    assert order == ["a", "b"] * 3  # the first round warms up


def ticking(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Let the clock say these seconds, one each time that it is read."""
    ticks = iter(seconds)
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))


def test_the_median_of_the_repeats_leaves_the_warm_up_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch, 0, 100, 0, 1, 0, 2, 0, 9)
    timing = interleave({"a": Trial(work=lambda: None)}, 3, Stopwatch("wall", CPU))["a"]
    assert (timing.warm_up_s, timing.median_s, timing.fastest_s) == (100, 2, 1)


def test_what_is_shared_is_taken_off_and_part_of_the_work_counts_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticking(monkeypatch, 0, 0, 0, 10, 0, 4)
    trial = Trial(work=lambda: None, less=lambda: None, times=4)
    assert interleave({"a": trial}, 1, Stopwatch("wall", CPU))["a"].median_s == 24


def test_capturing_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Workshop, "__init__", lambda self, device: None)
    monkeypatch.setattr(_Workshop, "capture", lambda self, step, pool: None)
    workshop = _Workshop(CPU)
    ticking(monkeypatch, 0, 2, 5, 9, 10, 12, 15, 19)
    timing = interleave(
        {"a": Trial(work=lambda: workshop.capture(lambda: None, None))}, 1, Stopwatch("wall", CPU)
    )["a"]
    assert (timing.capture_s, timing.median_s) == (3, 6)


def test_rows_merge_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results" / "machine.json"
    report.merge(path, "mid", "draw", ROW, CPU)
    report.merge(path, "mid", "decode", ROW, CPU)
    assert set(json.loads(path.read_text(encoding="utf-8"))["cells"]["mid"]) == {"draw", "decode"}


def test_a_check_holds_for_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    for now in ("abc", "abc+", "unknown"):
        monkeypatch.setattr(report, "commit", lambda now=now: now)
        assert not report.is_checked(path, "mid", {"ours"})
        report.note_check(path, "mid", {"image_tokens": 8, "contenders": ["ours", "authors"]})
        assert report.is_checked(path, "mid", {"ours"}) == (now == "abc")
        assert not report.is_checked(path, "mid", {"ours", "compiled"})
    monkeypatch.setattr(report, "commit", lambda: "another")
    assert not report.is_checked(path, "mid", {"ours"})


def test_the_table_says_how_many_times_as_long_the_others_take(tmp_path: Path) -> None:
    content = report.merge(tmp_path / "machine.json", "mid", "draw", ROW, CPU)
    line = "| Draw | 2 s, 5 image tokens/s | 2.50 × (authors) | 50% (ours) of 9.0 GB/s |"
    assert line in report.table(content)


def test_steps_in_mid_picture_tell_how_long_a_picture_takes(tmp_path: Path) -> None:
    row = {**ROW, "unit": "steps", "picture_steps": 576}
    content = report.merge(tmp_path / "machine.json", "mid", "later_steps", row, CPU)
    assert "| 2 s, 5 steps/s, a picture of 576 in 115 s |" in report.table(content)


def test_results_of_all_machines_can_be_told_and_drawn() -> None:
    files = sorted((report.HERE / "results").glob("*.json"))
    assert files
    for file in files:
        content = report.read(file)
        commits = {row["commit"] for rows in content["cells"].values() for row in rows.values()}
        assert all(f"| {commit} |" in report.table(content) for commit in commits)


def test_the_page_shows_the_results_that_are_kept() -> None:
    page = (report.HERE / "README.md").read_text(encoding="utf-8")
    assert report.with_tables(page) == page


def test_the_step_reads_decoder_head_and_half_the_cache() -> None:
    text, head = TINY.config.language, TINY.config.generation_head
    width, inner = text.hidden_size, text.intermediate_size
    layer = 4 * width**2 + 3 * width * inner + 2 * width
    heads = width**2 + width + head.codebook_size * (width + 1) + 8 * width + width + width**2 + width
    cache = 4 * text.num_hidden_layers * width * TINY.config.num_image_tokens // 2
    expected = text.num_hidden_layers * layer + heads + cache
    assert report.step_bytes(TINY.config, torch.float32) == 4 * expected


@pytest.mark.parametrize("arguments", [["--size", "7b", "--device", "cpu"], ["--only", "nonsense"]])
def test_what_cannot_be_measured_is_refused_in_a_sentence(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    assert command.main() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_cell_that_takes_too_long_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time; time.sleep(3); open({str(alive)!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert cells.run_within([sys.executable, "-c", parent], 1.0) == 124
    time.sleep(4)
    assert not alive.exists()


def test_cells_for_a_gpu_name_what_there_is() -> None:
    for cell in CELLS:
        found = dict(zip(cell[::2], cell[1::2], strict=False))
        assert found["--size"] in SIZES
        assert set(found["--only"].split(",")) <= set(command.NAMES)


def test_cells_cover_every_row_that_a_gpu_can_show() -> None:
    asked = {row for cell in CELLS for row in cell[cell.index("--only") + 1].split(",")}
    assert set(command.NAMES) - asked == {"steps", "later_steps", "packing", "load_converted"}


def test_a_dry_cell_is_the_same_at_the_tiny_size(tmp_path: Path) -> None:
    line = cell_command(CELLS[0], is_dry=True, folder=tmp_path)
    assert line[line.index("--size") + 1] == "tiny"
    assert {"--stand-in", "picture", "cpu"} <= set(line)
