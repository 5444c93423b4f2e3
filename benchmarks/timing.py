"""Interleaved timing: every repeat runs each contender once, so that other load hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from unittest.mock import patch

import torch

from janus_core.generation import capturing

Clock = Literal["wall", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one contender does in one repeat.

    Attributes:
        work: what is timed.
        less: timed too and subtracted: the part of `work` that the row does not ask about, such as a prefill.
        times: factor for the result; 4 where only a quarter of the row's work is done.
    """

    work: Callable[[], object]
    less: Callable[[], object] | None = None
    times: float = 1.0


Trials = Mapping[str, Trial]  # by name of contender


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one contender in one row.

    Attributes:
        median_s: of the repeats, without the time for capturing graphs.
        fastest_s: of the repeats, likewise.
        warm_up_s: the trial before the repeats: packing, compiling, allocating.
        capture_s: median time for capturing graphs in a repeat.
    """

    median_s: float
    fastest_s: float
    warm_up_s: float
    capture_s: float


class Stopwatch:
    """Reads the wall or CPU clock after synchronising, and keeps the time for capturing graphs apart."""

    def __init__(self, clock: Clock, device: torch.device) -> None:
        self._read = time.process_time if clock == "cpu" else time.perf_counter
        self._device = device
        self._captured = 0.0

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
        """Return the seconds of a trial, and of its captures, as its row counts them."""
        taken, captured = self.seconds(trial.work)
        if trial.less is not None:
            less, less_captured = self.seconds(trial.less)
            taken, captured = taken - less, captured - less_captured
        return taken * trial.times, captured * trial.times

    @contextmanager
    def watching_captures(self) -> Iterator[None]:
        """Time every capture of a graph inside this context."""
        capture = capturing._Workshop.capture

        def timed(
            workshop: capturing._Workshop, step: capturing.Step, pool: capturing.PoolId
        ) -> torch.cuda.CUDAGraph | None:
            started = self.now()
            again = capture(workshop, step, pool)
            self._captured += self.now() - started
            return again

        with patch.object(capturing._Workshop, "capture", timed):
            yield


def interleave(
    trials: Trials, repeats: int, stopwatch: Stopwatch, warm_up: Trials | None = None
) -> dict[str, Timing]:
    """Time contenders in turns.

    Args:
        trials: by name of contender.
        repeats: how often each is timed.
        stopwatch: on the wall clock, or on the CPU clock, which sums this process's threads. With one thread
            the latter is what an idle machine would take, even where other jobs share this one.
        warm_up: shorter trials to begin with; by default `trials` themselves.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in trials}
    with stopwatch.watching_captures():
        before = {name: stopwatch.seconds(trial.work)[0] for name, trial in (warm_up or trials).items()}
        for _ in range(repeats):
            for name, trial in trials.items():
                taken[name].append(stopwatch.seconds_of(trial))
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
    """Return the bytes per second read and written by a copy, the best of seven."""
    source = torch.ones(2**26 if device.type == "cpu" else 2**30, device=device)
    target, stopwatch = torch.empty_like(source), Stopwatch("wall", device)
    best = min(stopwatch.seconds(lambda: target.copy_(source))[0] for _ in range(7))
    return 2 * source.nbytes / best  # every byte is read once and written once
