"""Interleaved timing: every repeat runs each contender once, so that a busy moment hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

Clock = Literal["wall", "cpu"]
Runs = Mapping[str, Callable[[], object]]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one contender in one row.

    Attributes:
        median_s: of the repeats.
        fastest_s: of the repeats.
        warm_up_s: what came before them: packing, allocating, a short run.
    """

    median_s: float
    fastest_s: float
    warm_up_s: float


def interleave(runs: Runs, repeats: int, clock: Clock, warm_up: Runs | None = None) -> dict[str, Timing]:
    """Time functions in turns.

    Args:
        runs: by name of contender.
        repeats: how often each is timed.
        clock: "wall", or "cpu" for the seconds that this process computed, all threads together. With one
            thread on a machine that other jobs share, those are the seconds it would take in peace.
        warm_up: shorter runs to begin with; by default `runs` themselves.
    """
    before = {name: _seconds(run, clock) for name, run in (warm_up or runs).items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            taken[name].append(_seconds(run, clock))
    return {
        name: Timing(median_s=statistics.median(seconds), fastest_s=min(seconds), warm_up_s=before[name])
        for name, seconds in taken.items()
    }


def _seconds(run: Callable[[], object], clock: Clock) -> float:
    read = time.process_time if clock == "cpu" else time.perf_counter
    started = read()
    run()
    return read() - started


def copy_bandwidth() -> float:
    """Return the bytes per second that are read and written while copying, the best of several tries."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    best = min(_seconds(lambda: target.copy_(source), "wall") for _ in range(7))
    return 2 * source.nbytes / best
