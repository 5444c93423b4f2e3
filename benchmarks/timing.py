"""Interleaved timing: every repeat runs each contender once, so that a busy moment hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from janus_core.generation import capturing

Clock = Literal["wall", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one contender does in one repeat.

    Attributes:
        work: what is timed.
        less: also run and timed, and taken off: what `work` shares with it is not asked about.
        times: the result counts so many times over; 4 where only a quarter of the row's work is done.
    """

    work: Callable[[], object]
    less: Callable[[], object] | None = None
    times: float = 1.0


Runs = Mapping[str, Run]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one contender in one row.

    Attributes:
        median_s: of the repeats, without what was spent on capturing graphs.
        fastest_s: of the repeats, likewise.
        warm_up_s: what came before them: packing, compiling, allocating, a first run.
        capture_s: spent on capturing graphs in each repeat, the median.
    """

    median_s: float
    fastest_s: float
    warm_up_s: float
    capture_s: float


class Stopwatch:
    """Reads one of two clocks, waits for the device, and knows what was spent on capturing meanwhile."""

    def __init__(self, clock: Clock, device: torch.device) -> None:
        self._read = time.process_time if clock == "cpu" else time.perf_counter
        self._device = device
        self._captured = 0.0

    def now(self) -> float:
        """Return the seconds on the clock once the device has done all its work."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._read()

    def seconds(self, work: Callable[[], object]) -> tuple[float, float]:
        """Return the seconds of a call, and how many of them went into capturing."""
        self._captured, started = 0.0, self.now()
        work()
        return self.now() - started, self._captured

    def seconds_of(self, run: Run) -> tuple[float, float]:
        """Return the seconds of a run as its row counts them."""
        taken, captured = self.seconds(run.work)
        if run.less is not None:
            less, less_captured = self.seconds(run.less)
            taken, captured = taken - less, captured - less_captured
        return taken * run.times, captured * run.times

    @contextmanager
    def watching_captures(self) -> Iterator[None]:
        """Time every capture of a graph while this lasts."""
        capture = capturing._Workshop.capture

        def timed(
            workshop: capturing._Workshop, step: capturing.Step, pool: capturing.PoolId
        ) -> torch.cuda.CUDAGraph | None:
            started = self.now()
            again = capture(workshop, step, pool)
            self._captured += self.now() - started
            return again

        capturing._Workshop.capture = timed  # type: ignore[method-assign]
        try:
            yield
        finally:
            capturing._Workshop.capture = capture  # type: ignore[method-assign]


def interleave(
    runs: Runs, repeats: int, stopwatch: Stopwatch, warm_up: Runs | None = None
) -> dict[str, Timing]:
    """Time functions in turns.

    Args:
        runs: by name of contender.
        repeats: how often each is timed.
        stopwatch: "wall", or "cpu" for the seconds that this process computed, all threads together. With one
            thread on a machine that other jobs share, those are the seconds it would take in peace.
        warm_up: shorter runs to begin with; by default `runs` themselves.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    with stopwatch.watching_captures():
        before = {name: stopwatch.seconds(run.work)[0] for name, run in (warm_up or runs).items()}
        for _ in range(repeats):
            for name, run in runs.items():
                taken[name].append(stopwatch.seconds_of(run))
    return {name: _timing(before.get(name, 0.0), pairs) for name, pairs in taken.items()}


def _timing(warm_up_s: float, pairs: list[tuple[float, float]]) -> Timing:
    without = [seconds - captured for seconds, captured in pairs]
    return Timing(
        median_s=statistics.median(without),
        fastest_s=min(without),
        warm_up_s=warm_up_s,
        capture_s=statistics.median(captured for _, captured in pairs),
    )


def copy_bandwidth(device: torch.device) -> float:
    """Return the bytes per second that are read and written while copying, the best of several tries."""
    source = torch.ones(2**26 if device.type == "cpu" else 2**30, device=device)
    target, stopwatch = torch.empty_like(source), Stopwatch("wall", device)
    best = min(stopwatch.seconds(lambda: target.copy_(source))[0] for _ in range(7))
    return 2 * source.nbytes / best
