"""Interleaved timing: every repeat runs each contender once, so that other load hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from unittest.mock import patch

import torch

Clock = Literal["wall", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one contender does in one repeat.

    Attributes:
        work: what is timed.
        less: timed too and subtracted: the part of `work` that the row does not ask about, such as a prefill.
            Capturing graphs is not asked about either then.
        times: factor for the result; 4 where only a quarter of the row's work is done.
    """

    work: Callable[[], object]
    less: Callable[[], object] | None = None
    times: float = 1.0


Trials = Mapping[str, Trial]  # by name of contender
OnFailure = Callable[[str, Exception], None]  # contender, what its trial raised


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one contender in one row.

    Attributes:
        median_s: of the repeats, with the time for capturing graphs, since a person waits for it; without
            where the row asks for steps alone.
        fastest_s: of the repeats, likewise.
        warm_up_s: the trial before the repeats: packing, compiling, allocating.
        capture_s: median time for capturing graphs in a repeat.
        repeats: how many there were.
    """

    median_s: float
    fastest_s: float
    warm_up_s: float
    capture_s: float
    repeats: int


class Stopwatch:
    """Reads the wall or CPU clock after synchronising, and knows what was spent on capturing graphs.

    Attributes:
        graphs: captured so far, while captures were watched.
        replays: of graphs, likewise.
    """

    def __init__(self, clock: Clock, device: torch.device) -> None:
        self._read = time.process_time if clock == "cpu" else time.perf_counter
        self._device = device
        self._captured = 0.0
        self._began = 0.0
        self.graphs = 0
        self.replays = 0

    def now(self) -> float:
        """Return the clock's seconds once the device has finished all queued work."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._read()

    def seconds(self, work: Callable[[], object]) -> tuple[float, float]:
        """Return the seconds of a call, and how many of them were spent capturing."""
        self._captured = 0.0
        started = self.now()
        work()
        return self.now() - started, self._captured

    def seconds_of(self, trial: Trial) -> tuple[float, float]:
        """Return the seconds of a trial as its row counts them, and how many were spent capturing."""
        taken, captured = self.seconds(trial.work)
        if trial.less is not None:
            less, less_captured = self.seconds(trial.less)
            taken = (taken - captured) - (less - less_captured)
        return taken * trial.times, captured * trial.times

    @contextmanager
    def watching_captures(self) -> Iterator[None]:
        """Time every capture of a graph inside this context, whoever captures, and count what is replayed.

        From begin to end of a capture nothing runs on the device, so the host's time is all it takes.
        """
        graph: Any = torch.cuda.CUDAGraph
        begin, end, replay = graph.capture_begin, graph.capture_end, graph.replay

        def begun(self_: Any, *args: Any, **kwargs: Any) -> None:
            self._began = self._read()
            begin(self_, *args, **kwargs)

        def ended(self_: Any) -> None:
            try:
                end(self_)
                self.graphs += 1
            finally:
                self._captured += self._read() - self._began

        def replayed(self_: Any) -> None:
            self.replays += 1
            replay(self_)

        with patch.multiple(graph, capture_begin=begun, capture_end=ended, replay=replayed):
            yield


def interleave(
    trials: Trials, repeats: int, stopwatch: Stopwatch, warm_up: Trials | None = None
) -> dict[str, Timing]:
    """Time contenders in turns and return what all repeats tell; see `turns`."""
    last = deque(turns(trials, repeats, stopwatch, warm_up), maxlen=1)
    return last[0] if last else {}


def turns(
    trials: Trials,
    repeats: int,
    stopwatch: Stopwatch,
    warm_up: Trials | None = None,
    *,
    has_time: Callable[[float], bool] = lambda seconds: True,
    on_failure: OnFailure | None = None,
) -> Iterator[dict[str, Timing]]:
    """Time contenders in turns; after every trial, yield the timings so far.

    Args:
        trials: by name of contender.
        repeats: how often each is timed.
        stopwatch: on the wall clock, or on the CPU clock, which sums this process's threads. With one thread
            the latter is what an idle machine would take, even where other jobs share this one.
        warm_up: shorter trials to begin with; by default `trials` themselves.
        has_time: tells whether a trial may begin that took so many seconds before; each is timed once anyway.
        on_failure: is told what a trial raised, and its contender takes no further part; without it, raises.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in trials}
    before: dict[str, float] = {}

    def attempt(name: str, call: Callable[[], tuple[float, float]]) -> tuple[float, float] | None:
        try:
            return call()
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(name, error)
            taken.pop(name)
            return None

    with stopwatch.watching_captures():
        for name, trial in (warm_up or trials).items():
            if (warmed := attempt(name, lambda trial=trial: stopwatch.seconds(trial.work))) is not None:  # type: ignore[misc]
                before[name] = warmed[0]
        for name, trial in [*trials.items()] * repeats:
            if name not in taken or (taken[name] and not has_time(taken[name][-1][0])):
                continue
            if (pair := attempt(name, lambda trial=trial: stopwatch.seconds_of(trial))) is not None:  # type: ignore[misc]
                taken[name].append(pair)
                yield {who: _timing(before.get(who, 0.0), pairs) for who, pairs in taken.items() if pairs}


def _timing(warm_up_s: float, pairs: list[tuple[float, float]]) -> Timing:
    return Timing(
        median_s=statistics.median(seconds for seconds, _ in pairs),
        fastest_s=min(seconds for seconds, _ in pairs),
        warm_up_s=warm_up_s,
        capture_s=statistics.median(captured for _, captured in pairs),
        repeats=len(pairs),
    )


def copy_bandwidth(device: torch.device) -> float:
    """Return the bytes per second read and written by a copy, the best of seven."""
    source = torch.ones(2**26 if device.type == "cpu" else 2**30, device=device)
    target, stopwatch = torch.empty_like(source), Stopwatch("wall", device)
    best = min(stopwatch.seconds(lambda: target.copy_(source))[0] for _ in range(7))
    return 2 * source.nbytes / best  # every byte is read once and written once
