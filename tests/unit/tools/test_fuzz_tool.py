"""The fuzz finds a case again by its number, and notices what it is there to notice."""

from __future__ import annotations

import mmap
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tools.fuzz.__main__ as fuzz
from janus_core import ConfigError, ImageError
from tools.fuzz.damage import damaged

pytest.importorskip("resource", reason="peak memory cannot be measured on this system")
worker = pytest.importorskip("tools.fuzz.worker")

if not Path("/proc/self/clear_refs").exists():
    pytest.skip("the peak of memory cannot be reset on this system", allow_module_level=True)


def outcome(case: Callable[[], object]) -> dict[str, Any]:
    found: dict[str, Any] = worker.run_case(lambda _: case(), random.Random(0))
    return {"number": 0, "family": "x", **found}


def raising(error: BaseException) -> Callable[[], object]:
    def case() -> None:
        raise error

    return case


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("room")


def test_every_family_of_cases_runs_and_is_the_same_a_second_time(room: Path) -> None:
    first, second = (
        [line for line in worker.cases(3, range(23), room / name) if "end" in line] for name in ("a", "b")
    )
    assert len({line["family"] for line in first}) == 18
    assert [line["end"] for line in first] == [line["end"] for line in second]
    assert not [line for line in first if "wrong" in line]


def test_success_and_our_own_errors_are_no_failures() -> None:
    assert fuzz.verdict(outcome(lambda: None)) == ""
    assert fuzz.verdict(outcome(raising(ImageError("x")))) == ""


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError("x"), MemoryError(), SystemExit(3)])
def test_another_error_is_a_failure(error: BaseException) -> None:
    assert type(error).__name__ in fuzz.verdict(outcome(raising(error)))


def test_a_long_message_and_a_hidden_lack_of_memory_are_failures() -> None:
    assert "2000 characters" in fuzz.verdict(outcome(raising(ConfigError("x" * 2000))))
    hidden = ConfigError("x")
    hidden.__cause__ = MemoryError()
    assert "more memory asked for" in fuzz.verdict(outcome(raising(hidden)))


def take_fresh_memory() -> None:
    """Touch pages that are new to the process: an allocator may have as many left from earlier tests."""
    with mmap.mmap(-1, 2**27) as pages:
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1


def test_time_and_memory_are_measured() -> None:
    assert outcome(take_fresh_memory)["peak_mib"] > 100
    line = outcome(lambda: sum(range(3_000_000)))
    assert line["cpu_s"] > 0.01
    assert "seconds" in fuzz.verdict({**line, "cpu_s": 2.5})
    assert "MiB" in fuzz.verdict({**line, "peak_mib": 1025.0})


def test_a_worker_that_dies_is_a_failure_of_its_case_and_the_others_are_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = (
        "import sys, json, os\n"
        "for number in range(int(sys.argv[-3]), int(sys.argv[-2])):\n"
        "    print(json.dumps({'number': number, 'family': 'x'}), flush=True)\n"
        "    if number == 2: os.abort()\n"
        "    line = {'number': number, 'family': 'x', 'end': 'success', 'cpu_s': 0, 'peak_mib': 0}\n"
        "    print(json.dumps(line), flush=True)\n"
    )

    def started(command: list[str], **options: Any) -> Any:
        return popen([sys.executable, "-c", script, *command[3:]], **options)

    popen = fuzz.subprocess.Popen
    monkeypatch.setattr(fuzz.subprocess, "Popen", started)
    lines = list(fuzz.run(0, range(5)))
    assert [line["number"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["end"] for line in lines] == ["success", "success", "crash", "success", "success"]
    assert "the process ended with -6" in fuzz.verdict(lines[2])
    assert "| x | 5 | 4 |" in fuzz.report(lines)


@pytest.mark.parametrize("data", [bytes(range(256)), b"x", b"{}"])
def test_damage_follows_from_the_generator(data: bytes) -> None:
    for seed in range(20):
        is_json = data == b"{}"
        once, again = (damaged(data, random.Random(seed), is_json=is_json) for _ in range(2))
        assert once == again
