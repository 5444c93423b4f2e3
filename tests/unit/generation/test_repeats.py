from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from janus_core.generation.repeats import CudaCapture, Pace, Repeats, Run, capture_for, run_plainly

CPU = torch.device("cpu")


@pytest.fixture
def done() -> list[int]:
    return []


@pytest.fixture
def tape() -> tuple[list[str], Callable[[Run], Run]]:
    """Return what a capture that records did, and the capture: it runs once, records, and replays."""
    story: list[str] = []

    def capture(run: Run) -> Run:
        story.append("capture")
        run()

        def replay() -> None:
            story.append("replay")
            run()

        return replay

    return story, capture


def test_the_first_run_of_a_parameter_captures_and_later_ones_replay(
    done: list[int], tape: tuple[list[str], Callable[[Run], Run]]
) -> None:
    story, capture = tape
    repeats = Repeats(done.append, capture)
    for parameter in (64, 64, 128, 128, 64):
        repeats(parameter)
    assert story == ["capture", "replay", "capture", "replay", "replay"]


def test_every_call_runs_the_step_exactly_once(
    done: list[int], tape: tuple[list[str], Callable[[Run], Run]]
) -> None:
    repeats = Repeats(done.append, tape[1])
    for parameter in (64, 64, 128, 128, 64):
        repeats(parameter)
    assert done == [64, 64, 128, 128, 64]


def test_without_a_graph_every_call_runs_the_step(done: list[int]) -> None:
    repeats = Repeats(done.append, run_plainly)
    for parameter in (64, 64, 128):
        repeats(parameter)
    assert done == [64, 64, 128]


def test_a_cpu_captures_nothing() -> None:
    assert capture_for(CPU) is run_plainly


def test_an_error_of_the_first_run_comes_through_and_nothing_is_kept() -> None:
    def fail(_: int) -> None:
        raise ValueError("broken")

    repeats = Repeats(fail, run_plainly)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            repeats(64)


def test_a_cpu_needs_no_pace() -> None:
    pace = Pace(CPU)
    for _ in range(100):
        pace.step()


class FakeEvent:
    """Stands in for a CUDA event and tells which one was waited for."""

    waited: list[int] = []  # noqa: RUF012 - reset by the fixture
    count = 0

    def __init__(self, blocking: bool) -> None:
        FakeEvent.count += 1
        self.number = FakeEvent.count

    def record(self, stream: object) -> None:
        pass

    def synchronize(self) -> None:
        FakeEvent.waited.append(self.number)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> type[FakeEvent]:
    FakeEvent.waited, FakeEvent.count = [], 0
    monkeypatch.setattr("torch.cuda.Event", FakeEvent)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: None)
    return FakeEvent


def test_the_host_waits_for_the_step_so_many_before(events: type[FakeEvent]) -> None:
    pace = Pace(torch.device("cuda"))
    for _ in range(11):
        pace.step()
    assert events.waited == [1, 2, 3]


def test_in_the_end_the_host_waits_for_the_last_step_once(events: type[FakeEvent]) -> None:
    pace = Pace(torch.device("cuda"))
    for _ in range(3):
        pace.step()
    pace.finish()
    pace.finish()
    assert events.waited == [3]


class FakeGraph:
    """Stands in for a CUDA graph; fails where it is told to."""

    fails_at = ""
    made: list[FakeGraph] = []  # noqa: RUF012 - reset by the fixture

    def __init__(self) -> None:
        self.calls: list[str] = []
        FakeGraph.made.append(self)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == FakeGraph.fails_at:
            raise RuntimeError(f"{name} is not possible here")

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local"
        self._call("begin")

    def capture_end(self) -> None:
        self._call("end")

    def replay(self) -> None:
        self._call("replay")


class FakeStream:
    """Stands in for a CUDA stream."""

    def wait_stream(self, other: FakeStream) -> None:
        pass

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> type[FakeGraph]:
    """Replace the few things of torch.cuda that a capture uses."""
    FakeGraph.fails_at, FakeGraph.made = "", []
    stream = FakeStream()
    monkeypatch.setattr("torch.cuda.CUDAGraph", FakeGraph)
    monkeypatch.setattr("torch.cuda.graph_pool_handle", lambda: "pool")
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: stream)
    monkeypatch.setattr("torch.cuda.stream", lambda stream: stream)
    monkeypatch.setattr("janus_core.generation.repeats._capture_stream", lambda device: stream)
    return FakeGraph


def test_a_graph_is_recorded_after_a_real_run_and_replayed(cuda: type[FakeGraph], done: list[int]) -> None:
    repeats = Repeats(done.append, CudaCapture(torch.device("cuda")))
    for _ in range(4):
        repeats(64)
    assert done == [64, 64]  # once for real, once while recording
    assert cuda.made[0].calls == ["begin", "end", "replay", "replay", "replay"]


@pytest.mark.parametrize("where", ["begin", "end"])
def test_a_failed_recording_goes_on_without(
    cuda: type[FakeGraph], done: list[int], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.fails_at = where
    repeats = Repeats(done.append, CudaCapture(torch.device("cuda")))
    repeats(64)
    done.clear()
    for parameter in (64, 64, 128, 128):
        repeats(parameter)
    assert done == [64, 64, 128, 128]
    assert len(cuda.made) == 1
    assert "without a CUDA graph" in caplog.text


def test_a_step_that_cannot_be_recorded_ends_the_recording(cuda: type[FakeGraph]) -> None:
    runs: list[int] = []

    def step(parameter: int) -> None:
        runs.append(parameter)
        if len(runs) == 2:
            raise RuntimeError("reads the host")

    repeats = Repeats(step, CudaCapture(torch.device("cuda")))
    for _ in range(3):
        repeats(64)
    assert cuda.made[0].calls == ["begin", "end"]
    assert len(runs) == 4


def test_what_is_no_failure_of_recording_comes_through(cuda: type[FakeGraph]) -> None:
    runs: list[int] = []

    def step(parameter: int) -> None:
        runs.append(parameter)
        if len(runs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Repeats(step, CudaCapture(torch.device("cuda")))(64)
    assert cuda.made[0].calls == ["begin", "end"]
