"""The script for a card: it ends in time, leaves nothing behind, keeps what it timed, and is loud."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", minversion="5.0")

from benchmarks import card, card_cell, report
from benchmarks.card import ALARM, CELLS, Log, run_cell
from benchmarks.card_cell import LoudHandler, run, session_of, tell_captures
from benchmarks.card_checks import correctness, profiled_steps
from benchmarks.references import make_contenders
from benchmarks.rows import ROWS, Bench
from benchmarks.sizes import SIZES
from benchmarks.timing import Stopwatch, Trial, turns
from janus_core.generation import capturing, joining, kernels

pytestmark = pytest.mark.filterwarnings(r"ignore:::transformers\..*")

CPU, TINY = torch.device("cpu"), SIZES["tiny"]
PARENT = """
import sys
from pathlib import Path
from benchmarks import card
child = '''
import os, time
from benchmarks.card import end_with_parent
end_with_parent()
open({pid!r}, "w").write(str(os.getpid()))
time.sleep(60)
'''
card.run_part = lambda part, out, is_dry: card.run_cell(
    [sys.executable, "-c", child], 60, {{}}, card.Log(Path({log!r})))
sys.argv = ["card", "--part", "1", "--out", "."]
sys.exit(card.main())
"""


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(is_so: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until something holds, and tell whether it came to that."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if is_so():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_stops_the_script_leaves_no_cell_behind(tmp_path: Path, number: signal.Signals) -> None:
    noted = tmp_path / "pid"
    parent = PARENT.format(pid=str(noted), log=str(tmp_path / "log"))
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        assert wait_for(lambda: noted.exists() and noted.read_text(encoding="utf-8") != "")
        child = int(noted.read_text(encoding="utf-8"))
        assert is_alive(child)
        os.kill(process.pid, number)
        code = process.wait(60)
    assert wait_for(lambda: not is_alive(child))
    assert code == (-number if number == signal.SIGKILL else 130)


def test_a_cell_whose_parent_is_gone_ends_while_it_still_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    commands: list[list[str]] = []
    monkeypatch.setattr(card, "run_cell", lambda command, *_: commands.append(command) or 0)
    card.run_part(1, tmp_path, is_dry=True)
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(commands[0], stdin=subprocess.DEVNULL, env=environment, check=False)
    assert done.returncode == 1
    assert time.monotonic() - started < 50


def test_a_cell_that_takes_too_long_is_killed_and_what_it_printed_is_kept(tmp_path: Path) -> None:
    started = time.monotonic()
    endless = "print('begun'); import time; time.sleep(60)"
    assert run_cell([sys.executable, "-uc", endless], 5.0, {}, Log(tmp_path / "log")) != 0
    assert time.monotonic() - started < 40
    assert "begun" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_cell_gets_its_variables_and_no_network(tmp_path: Path) -> None:
    child = "import os; print(os.environ['SETTING'], os.environ['HF_HUB_OFFLINE'])"
    run_cell([sys.executable, "-c", child], 60, {"SETTING": "set"}, Log(tmp_path / "log"))
    assert "set 1" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_cell_that_is_done_ends_well_though_it_still_watches(tmp_path: Path) -> None:
    child = "import time; from benchmarks.card import end_with_parent; end_with_parent(); time.sleep(0.3)"
    assert run_cell([sys.executable, "-c", child], 60, {}, Log(tmp_path / "log")) == 0


def test_a_part_ends_within_its_limit_however_long_its_cells_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def takes_all(line: list[str], limit_s: float, environment: dict[str, str], log: Log) -> int:
        now[0] += limit_s
        log.write(f"{ALARM} eager")
        return 0

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(card, "run_cell", takes_all)
    for part in (1, 2):
        now[0] = 0.0
        assert card.run_part(part, tmp_path, is_dry=False) == 0
        assert now[0] <= 345
        lines = (tmp_path / f"part-{part}.log").read_text(encoding="utf-8").splitlines()
        assert lines[-1].endswith(f"{ALARM} eager")  # said once more, at the end
        assert sum(ALARM in line for line in lines) == sum(cell.part == part for cell in CELLS) + 1


def test_cells_name_what_there_is_and_cover_what_a_card_can_show() -> None:
    rows = {row for cell in CELLS for row in cell.rows}
    assert rows - set(ROWS) == {"correctness", "profile", "peak"}
    assert set(ROWS) - rows == {"steps", "packing"}
    assert {cell.size for cell in CELLS} <= set(SIZES)
    assert {who for cell in CELLS for who in cell.contenders} == {"ours", "authors", "transformers"}


def test_correctness_comes_first_then_one_picture() -> None:
    first = [(cell.size, cell.rows[0]) for cell in CELLS if cell.part == 1]
    assert first[:4] == [("tiny", "correctness"), ("1b", "picture"), ("7b", "picture"), ("1b", "later_steps")]


def test_results_of_other_settings_stand_apart() -> None:
    labels = [cell.label for cell in CELLS if cell.rows[0] == "later_steps"]
    assert len(set(labels)) == len(labels) == 3
    assert all(bool(cell.label) == bool(cell.environment) for cell in CELLS)


@pytest.mark.parametrize("rows", ["correctness", "later_steps", "prefill", "peak"])
def test_each_kind_of_cell_runs_at_the_tiny_size(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(card_cell, "copy_bandwidth", lambda device: 9e9)
    monkeypatch.setattr(card_cell, "WORKDIR", tmp_path / "weights")
    index = next(index for index, cell in enumerate(CELLS) if cell.rows[0] == rows)
    session = session_of(index, tmp_path, time.time(), is_dry=True)
    assert run(session) == 0
    assert ALARM not in capsys.readouterr().out
    kept = report.read(session.results)
    if session.cell.rows == ("correctness",):
        assert all(told.endswith("equal") for told in kept["correctness"].values())
        assert set(kept["checks"]) == {"tiny"}
    elif session.cell.contenders[0] == "ours":
        assert set(kept["cells"][session.key]) == set(session.cell.rows) - {"profile"}
    assert (tmp_path / "profile.txt").exists() == ("profile" in session.cell.rows)
    report.table(kept)


def test_results_are_kept_after_every_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_cell, "copy_bandwidth", lambda device: 9e9)
    session = session_of(1, tmp_path, time.time() - 1, is_dry=True)
    seen: list[set[str]] = []

    def work() -> None:
        kept = report.read(session.results)["cells"].get(session.key, {})
        seen.append(set(kept.get("picture", {"timings": {}})["timings"]))

    trials = {name: Trial(work=work) for name in ("ours", "authors")}
    row = replace(ROWS["picture"], trials=lambda bench: trials, warm_up=None, repeats=2)
    monkeypatch.setitem(ROWS, "picture", row)
    card_cell.time_row(session, Bench(size=TINY, device=CPU, contenders={}), "picture")
    assert seen == [set(), set(), set(), {"ours"}]  # two warm-ups; nothing is begun once time is over


def test_a_results_file_is_whole_when_writing_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "part-1.json"
    report.put(path, "1b", "picture", {"seconds": 1})

    def killed(self: Path, *args: Any, **kwargs: Any) -> int:
        with self.open("w", encoding="utf-8") as file:
            file.write('{"cells": {"1b": {"pic')
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        report.put(path, "1b", "picture", {"seconds": 2})
    assert json.loads(path.read_text(encoding="utf-8"))["cells"]["1b"]["picture"] == {"seconds": 1}


def test_both_parts_become_the_results_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, name, commit in ((1, "picture", "files 1"), (2, "pictures", "files 2")):
        row = {"device": "NVIDIA H100 80GB HBM3", "commit": commit}
        report.put(tmp_path / f"part-{part}.json", "1b, bfloat16", name, row)
    monkeypatch.setattr(report, "HERE", tmp_path)
    monkeypatch.setattr(report, "_digest", lambda: "files 2")
    monkeypatch.setattr(report, "commit", lambda: "abc")
    monkeypatch.setattr(report, "write_readme", lambda: None)
    monkeypatch.setattr(sys, "argv", ["card", "--keep", "--out", str(tmp_path)])
    assert card.main() == 0
    kept = report.read(tmp_path / "results" / "nvidia-h100-80gb-hbm3.json")
    commits = {name: row["commit"] for name, row in kept["cells"]["1b, bfloat16"].items()}
    assert commits == {"picture": "files 1", "pictures": "abc"}


@pytest.mark.parametrize(
    ("name", "level", "message", "begins"),
    [
        (capturing.log.name, logging.WARNING, "going on without", f"{ALARM} CAPTURE FAILED"),
        (kernels.log.name, logging.INFO, "no Triton", f"{ALARM} A KERNEL IS NOT USED"),
        (joining.log.name, logging.INFO, "no memory", f"{ALARM} MATRICES ARE NOT JOINED"),
        ("janus.load", logging.INFO, "loaded", "janus.load: loaded"),
        ("others", logging.WARNING, "beware", "others: beware"),
        ("others", logging.ERROR, "broken", f"{ALARM} broken"),
        ("others", logging.INFO, "chatter", ""),
    ],
)
def test_the_log_is_loud_where_it_must_be(
    name: str, level: int, message: str, begins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    LoudHandler().emit(logging.LogRecord(name, level, __file__, 1, message, None, None))
    said = capsys.readouterr().out
    assert said.startswith(begins)
    assert bool(said) == bool(begins)


@pytest.mark.parametrize(
    ("graphs", "replays", "device", "is_loud"),
    [(0, 0, "cuda", True), (1, 0, "cuda", True), (2, 9, "cuda", False), (0, 0, "cpu", False)],
)
def test_rows_that_captured_nothing_on_a_card_raise_the_alarm(
    graphs: int, replays: int, device: str, is_loud: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_captures("picture", graphs, replays, torch.device(device))
    assert capsys.readouterr().out.startswith(ALARM) == is_loud


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    names = ["authors", "transformers"]
    made = make_contenders(TINY, torch.float32, CPU, tmp_path_factory.mktemp("weights"), names)
    return Bench(size=TINY, device=CPU, contenders=made)


def test_correctness_tells_of_a_failure_and_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = bench.ours.draw

    def differs(steps: int, **options: Any) -> Tensor:
        return draw(steps, **options) + 1

    monkeypatch.setattr(bench.contenders["authors"], "draw", differs)
    first, *rest = correctness(bench)
    assert "authors differ from ours" in str(first.failure)
    assert first.figures == {}
    assert not any(outcome.failure for outcome in rest)


def test_a_capture_that_computes_something_else_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, answer = bench.ours.draw, bench.ours.answer
    monkeypatch.setattr(bench.ours, "draw", lambda *args, **options: draw(*args, **options).flip(1))
    monkeypatch.setattr(bench.ours, "answer", lambda *args, **options: answer(*args, **options).flip(1))
    eager = type(bench.ours)
    monkeypatch.setattr("benchmarks.card_checks._eager", lambda ours: _Plain(eager, ours))
    assert all(outcome.failure for outcome in correctness(bench))


class _Plain:
    """Our contender without what a test did to it."""

    def __init__(self, kind: Any, ours: Any) -> None:
        self.draw = kind.draw.__get__(ours)
        self.answer = kind.answer.__get__(ours)


def test_the_profile_counts_what_a_step_runs(bench: Bench) -> None:
    table, figures = profiled_steps(bench.ours, 4, 40, CPU)
    assert figures["kernels_per_step"] > 10
    assert "Self CPU" in table


def test_a_contender_that_raises_is_told_of_and_left_out() -> None:
    told: list[str] = []

    def breaks() -> None:
        raise RuntimeError("out of memory")

    trials, stopwatch = (
        {"ours": Trial(work=lambda: None), "other": Trial(work=breaks)},
        Stopwatch("wall", CPU),
    )
    found = list(turns(trials, 2, stopwatch, on_failure=lambda who, error: told.append(f"{who}: {error}")))
    assert told == ["other: out of memory"]
    assert [timing["ours"].repeats for timing in found] == [1, 2]
    assert all(set(timing) == {"ours"} for timing in found)
    with pytest.raises(RuntimeError):
        list(turns(trials, 2, stopwatch))


def test_without_time_each_contender_is_timed_once() -> None:
    trials = {"a": Trial(work=lambda: None), "b": Trial(work=lambda: None)}
    *_, last = turns(trials, 5, Stopwatch("wall", CPU), has_time=lambda seconds: False)
    assert {name: timing.repeats for name, timing in last.items()} == {"a": 1, "b": 1}
