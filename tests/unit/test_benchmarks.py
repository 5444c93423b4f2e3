"""The benchmark at its smallest size: every row runs once, and its check of equality can fail."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from PIL import Image
from torch import Tensor

pytest.importorskip("transformers", minversion="5.0")

from benchmarks import __main__ as command
from benchmarks import contenders, report
from benchmarks.contenders import prompt_plan
from benchmarks.equality import _logits_at, check_equality, near_ties
from benchmarks.plot import plot
from benchmarks.references import _let_images_have_a_cache, make_contenders
from benchmarks.rows import ROWS, Bench
from benchmarks.sizes import SIZES
from benchmarks.timing import Stopwatch, Trial, interleave
from janus_core import conversing
from janus_core.generation import static_decoder
from janus_core.residency import packing

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
    contenders = make_contenders(TINY, torch.float32, CPU, workdir, NAMES)
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


def captured_drawing(monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> Callable[[], None]:
    """Return what captures a graph and replays it twice, with torch's graphs doing nothing here."""

    class Graph:
        """Stands for torch's class of the same methods."""

        def capture_begin(self, pool: Any = None) -> None:
            pass

        def capture_end(self) -> None:
            if fails:
                raise RuntimeError("the capture was invalidated")

        def replay(self) -> None:
            pass

    monkeypatch.setattr("torch.cuda.CUDAGraph", Graph)

    def draw() -> None:
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(pool=None)
        graph.capture_end()
        graph.replay()
        graph.replay()

    return draw


def test_capturing_is_in_the_time_and_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = captured_drawing(monkeypatch)
    ticking(monkeypatch, 0, 2, 5, 9, 10, 12, 15, 19)
    stopwatch = Stopwatch("wall", CPU)
    timing = interleave({"a": Trial(work=draw)}, 1, stopwatch)["a"]
    assert (timing.capture_s, timing.median_s) == (3, 9)
    assert (stopwatch.graphs, stopwatch.replays) == (2, 4)


def test_steps_are_timed_without_capturing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = captured_drawing(monkeypatch)
    ticking(monkeypatch, 0, 2, 5, 9, 10, 12, 15, 19, 20, 21)
    trial = Trial(work=draw, less=lambda: None)
    timing = interleave({"a": trial}, 1, Stopwatch("wall", CPU))["a"]
    assert (timing.capture_s, timing.median_s) == (3, 9 - 3 - 1)


def test_a_capture_that_fails_counts_for_the_time_but_not_as_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = captured_drawing(monkeypatch, fails=True)
    stopwatch = Stopwatch("wall", CPU)
    ticking(monkeypatch, 0, 2, 5)
    with stopwatch.watching_captures(), pytest.raises(RuntimeError, match="invalidated"):
        stopwatch.seconds(draw)
    assert (stopwatch.graphs, stopwatch.replays) == (0, 0)


def test_rows_merge_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results" / "machine.json"
    report.merge(path, "mid", "draw", ROW, CPU)
    report.merge(path, "mid", "decode", ROW, CPU)
    assert set(json.loads(path.read_text(encoding="utf-8"))["cells"]["mid"]) == {"draw", "decode"}


def test_a_check_holds_for_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    for now in ("abc", "abc+", "files abc"):
        monkeypatch.setattr(report, "commit", lambda now=now: now)
        assert not report.is_checked(path, "mid", {"ours"})
        report.note_check(path, "mid", {"image_tokens": 8, "contenders": ["ours", "authors"]})
        assert report.is_checked(path, "mid", {"ours"}) == (now != "abc+")
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


def test_results_without_any_ratio_make_no_chart(tmp_path: Path) -> None:
    row = {**ROW, "timings": {"ours": {"median_s": 2.0}}}
    assert not plot({"cells": {"mid": {"draw": row}}, "checks": {}}, tmp_path / "chart.png")
    assert not (tmp_path / "chart.png").exists()


def test_a_machine_without_git_tells_files_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(report, "HERE", tmp_path / "benchmarks")
    for folder in ("benchmarks", "janus_core", "tests"):
        (tmp_path / folder).mkdir()
    first = report.commit()
    assert first.startswith("files ")
    (tmp_path / "tests" / "a.py").write_text("1", encoding="utf-8")
    assert report.commit() == first
    (tmp_path / "janus_core" / "a.py").write_text("1", encoding="utf-8")
    second = report.commit()
    (tmp_path / "janus_core" / "a.py").write_text("2", encoding="utf-8")
    assert len({first, second, report.commit()}) == 3


def test_the_image_mode_of_transformers_finds_its_cache() -> None:
    class Model:
        """Has the method of transformers 5.17."""

        def _prepare_static_cache(self, batch_size: int, prefill_chunk_size: int | None) -> tuple[Any, ...]:
            return batch_size, prefill_chunk_size

    model = Model()
    _let_images_have_a_cache(model)
    assert model._prepare_static_cache(batch_size=2) == (2, None)  # type: ignore[call-arg]
    assert model._prepare_static_cache(batch_size=2, prefill_chunk_size=64) == (2, 64)


def test_a_growing_cache_is_warmed_up_with_a_whole_trial_on_a_gpu(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    on_gpu = replace(bench, device=torch.device("cuda"))
    for name in NAMES[1:]:
        monkeypatch.setattr(bench.contenders[name], "draw", lambda steps, **_: lengths.append(steps))
        with pytest.raises(TypeError):  # what is appended is no picture to decode
            (ROWS["picture"].warm_ups(on_gpu) or {})[name].work()
    assert lengths == [TINY.on_gpu.draw_steps, 4]


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


def test_nothing_is_packed_where_a_cpu_stands_in_for_a_gpu() -> None:
    """The engine must look packing up where the stand-in puts it."""
    try:
        command._set_up(Namespace(threads=1, stand_in=True))
        assert conversing.pack_for_answering is not packing.pack_for_answering
        assert contenders.pack_for_drawing is not packing.pack_for_drawing
        assert static_decoder.may_capture(None, None)
    finally:
        patch.stopall()
    assert conversing.pack_for_answering is packing.pack_for_answering
