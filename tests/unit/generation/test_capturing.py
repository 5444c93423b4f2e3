from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import torch

from janus_core import Compute
from janus_core.generation import capturing
from janus_core.generation.capturing import Pace, Stepper, can_capture

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
ON_CUDA = Compute(device=CUDA, dtype=torch.bfloat16)


@pytest.fixture
def done() -> list[int]:
    return []


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


class FakeGraph:
    """Stands in for a CUDA graph; fails where it is told to."""

    fails_at = ""
    made: list[FakeGraph] = []  # noqa: RUF012 - reset by the fixture
    alive = 0

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.pool: object = None
        FakeGraph.made.append(self)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == FakeGraph.fails_at:
            raise RuntimeError(f"{name} is not possible here")

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local"
        self.pool = pool
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


class FakePool:
    """Stands in for a pool of memory that outlives its graphs."""

    id = (0, 7)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeGraph]]:
    """Replace the few things of torch.cuda that a capture uses."""
    FakeGraph.fails_at, FakeGraph.made = "", []
    FakeEvent.waited, FakeEvent.count = [], 0
    stream, handles = FakeStream(), iter(range(100))
    monkeypatch.setattr("torch.cuda.CUDAGraph", FakeGraph)
    monkeypatch.setattr("torch.cuda.graph_pool_handle", lambda: (next(handles), 0))
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: stream)
    monkeypatch.setattr("torch.cuda.stream", lambda stream: stream)
    monkeypatch.setattr("torch.cuda.Stream", lambda device: stream)
    monkeypatch.setattr("torch.cuda.Event", FakeEvent)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(capturing, "_new_pool", lambda device: FakePool())
    capturing._capturer.cache_clear()
    yield FakeGraph
    capturing._capturer.cache_clear()


def run(keys: list[int], step: Callable[[], None]) -> None:
    with Stepper(CUDA, captures=True) as stepper:
        for key in keys:
            stepper.run(step, key)


# plain steps


@pytest.mark.parametrize("captures", [True, False])
def test_a_cpu_runs_every_step(done: list[int], captures: bool) -> None:
    with Stepper(CPU, captures=captures) as stepper:
        for key in (64, 64, 128):
            stepper.run(lambda key=key: done.append(key), key)
    assert done == [64, 64, 128]


def test_an_error_of_a_step_comes_through() -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), Stepper(CPU, captures=True) as stepper:
        stepper.run(fail, 64)


def test_nothing_is_captured_that_must_not_be(cuda: type[FakeGraph], done: list[int]) -> None:
    with Stepper(CUDA, captures=False) as stepper:
        for _ in range(3):
            stepper.run(lambda: done.append(1), 64)
    assert (len(done), cuda.made) == (3, [])


# the pace


def test_a_cpu_needs_no_pace() -> None:
    pace = Pace(CPU)
    for _ in range(100):
        pace.step()


def test_the_host_waits_for_the_step_eight_earlier(cuda: type[FakeGraph]) -> None:
    pace = Pace(CUDA)
    for _ in range(11):
        pace.step()
    assert FakeEvent.waited == [1, 2, 3]


def test_in_the_end_the_host_waits_for_the_last_step_once(cuda: type[FakeGraph]) -> None:
    pace = Pace(CUDA)
    for _ in range(3):
        pace.step()
    pace.finish()
    pace.finish()
    assert FakeEvent.waited == [3]


@pytest.mark.parametrize("captures", [True, False])
def test_what_is_queued_ends_before_an_error_goes_on(cuda: type[FakeGraph], captures: bool) -> None:
    with suppress(KeyboardInterrupt), Stepper(CUDA, captures=captures) as stepper:
        for _ in range(3):
            stepper.run(lambda: None, 64)
        raise KeyboardInterrupt
    assert FakeEvent.waited == [3]
    assert stepper._graphs == {}


# captures


def test_a_graph_is_recorded_after_a_real_step_and_replayed(cuda: type[FakeGraph], done: list[int]) -> None:
    run([64] * 4, lambda: done.append(64))
    assert done == [64, 64]  # once for real, once while recording
    assert cuda.made[0].calls == ["begin", "end", "replay", "replay", "replay"]


def test_each_key_is_captured_once(cuda: type[FakeGraph], done: list[int]) -> None:
    run([64, 64, 128, 128, 64], lambda: done.append(1))
    assert [graph.calls[2:] for graph in cuda.made] == [["replay"] * 2, ["replay"]]


def test_after_a_restart_steps_are_captured_anew(cuda: type[FakeGraph], done: list[int]) -> None:
    with Stepper(CUDA, captures=True) as stepper:
        for _ in range(2):
            stepper.run(lambda: done.append(1), 64)
            stepper.run(lambda: done.append(1), 64)
            stepper.restart()
    assert [graph.calls for graph in cuda.made] == [["begin", "end", "replay"]] * 2


def test_all_graphs_of_a_device_share_one_pool_that_outlives_them(cuda: type[FakeGraph]) -> None:
    for _ in range(3):
        run([64, 128], lambda: None)
    assert {graph.pool for graph in cuda.made} == {FakePool.id}


def test_two_drawings_at_once_do_not_share_a_pool(cuda: type[FakeGraph]) -> None:
    """Graphs of one pool may use the same memory, so they must not run side by side."""
    with Stepper(CUDA, captures=True) as one, Stepper(CUDA, captures=True) as other:
        one.run(lambda: None, 64)
        other.run(lambda: None, 64)
    run([64], lambda: None)
    assert [graph.pool for graph in cuda.made] == [FakePool.id, (0, 0), FakePool.id]


@pytest.mark.parametrize("where", ["begin", "end"])
def test_a_failed_recording_goes_on_without(
    cuda: type[FakeGraph], done: list[int], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.fails_at = where
    run([64], lambda: done.append(1))
    done.clear()
    run([64, 64, 128, 128], lambda: done.append(1))
    assert done == [1] * 4
    assert len(cuda.made) == 1
    assert "without a CUDA graph" in caplog.text


def test_a_process_in_which_recording_failed_tries_no_more(cuda: type[FakeGraph]) -> None:
    assert can_capture(ON_CUDA)
    cuda.fails_at = "end"
    run([64], lambda: None)
    assert not can_capture(ON_CUDA)


def test_a_recording_that_cannot_end_gives_its_pool_back(
    cuda: type[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the asynchronous allocator frees nothing any more."""
    released: list[tuple[str, int, object]] = []
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(
            f"torch._C.{name}", lambda device, pool, name=name: released.append((name, device, pool))
        )
    cuda.fails_at = "end"
    run([64], lambda: None)
    assert released == [
        ("_cuda_endAllocateToPool", 0, FakePool.id),
        ("_cuda_releasePool", 0, FakePool.id),
    ]


def failing(error: BaseException) -> tuple[list[int], Callable[[], None]]:
    """Return a step that fails while it is recorded, and the list of its runs."""
    runs: list[int] = []

    def step() -> None:
        runs.append(1)
        if len(runs) == 2:
            raise error

    return runs, step


def test_a_step_that_cannot_be_recorded_ends_the_recording(cuda: type[FakeGraph]) -> None:
    runs, step = failing(RuntimeError("reads the host"))
    run([64] * 3, step)
    assert cuda.made[0].calls == ["begin", "end"]
    assert len(runs) == 4


class CancelError(Exception):
    """Stands in for a host's Cancel."""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CancelError(), ValueError("a mistake")])
@pytest.mark.parametrize("ends", [True, False], ids=["ends", "cannot end"])
def test_what_is_no_failure_of_recording_comes_through(
    cuda: type[FakeGraph], error: BaseException, ends: bool
) -> None:
    cuda.fails_at = "" if ends else "end"
    with pytest.raises(type(error)):
        run([64], failing(error)[1])
    assert cuda.made[0].calls == ["begin", "end"]


# where to capture


def test_cuda_captures(cuda: type[FakeGraph]) -> None:
    assert can_capture(ON_CUDA)


def test_a_cpu_captures_nothing() -> None:
    assert not can_capture(Compute(device=CPU, dtype=torch.float32, captures=True))


def test_a_caller_may_forbid_captures(cuda: type[FakeGraph]) -> None:
    assert not can_capture(Compute(device=CUDA, dtype=torch.bfloat16, captures=False))


@pytest.mark.parametrize(("captures", "expected"), [(None, False), (True, True)])
def test_rocm_captures_where_it_is_asked_for(
    cuda: type[FakeGraph], monkeypatch: pytest.MonkeyPatch, captures: bool | None, expected: bool
) -> None:
    monkeypatch.setattr("torch.version.hip", "6.4")
    compute = Compute(device=CUDA, dtype=torch.bfloat16, captures=captures)
    assert can_capture(compute) is expected


def test_deterministic_algorithms_forbid_captures(cuda: type[FakeGraph]) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        assert not can_capture(ON_CUDA)
    finally:
        torch.use_deterministic_algorithms(False)


def test_inside_another_capture_nothing_is_captured(
    cuda: type[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: True)
    assert not can_capture(ON_CUDA)
