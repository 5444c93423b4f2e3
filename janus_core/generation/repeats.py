"""Run one step again and again: on a CUDA device captured once as a graph, then replayed without Python.

A step works on tensors that keep their addresses and reads nothing back, so that the same kernels in the same
order are the same step. Nothing here knows what a step computes. A graph lives as long as its `Repeats`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import torch

log = logging.getLogger("janus.repeats")

Run: TypeAlias = Callable[[], None]
Capture: TypeAlias = Callable[[Run], Run]

_AHEAD = 8  # steps queued before the host waits: the device never idles, and an interruption is felt at once


class Repeats:
    """A step with one parameter, captured once for each value of it."""

    def __init__(self, step: Callable[[int], None], capture: Capture) -> None:
        """Prepare.

        Args:
            step: what to run; its parameter decides shapes and nothing else may.
            capture: runs what it is given once, and returns what runs it again.
        """
        self._step, self._capture = step, capture
        self._again: dict[int, Run] = {}

    def __call__(self, parameter: int) -> None:
        """Run the step once."""
        if parameter in self._again:
            self._again[parameter]()
        else:
            self._again[parameter] = self._capture(lambda: self._step(parameter))


def run_plainly(run: Run) -> Run:
    """Capture nothing: what runs again is the same function."""
    run()
    return run


def capture_for(device: torch.device) -> Capture:
    """Return the way to capture on a device."""
    return CudaCapture(device) if device.type == "cuda" else run_plainly


class CudaCapture:
    """Captures CUDA graphs that share one pool of memory, and goes on without where that fails."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._pool = device, torch.cuda.graph_pool_handle()
        self._fails = False

    def __call__(self, run: Run) -> Run:
        """Run once, which also loads what a capture must find ready, then capture."""
        if self._fails:
            return run_plainly(run)
        stream, current = _capture_stream(self._device), torch.cuda.current_stream(self._device)
        stream.wait_stream(current)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(stream):
                run()
                self._record(graph, run)
        except _CaptureError as error:
            log.warning("Janus: going on without a CUDA graph, slower: %s", error)
            self._fails = True
        finally:
            current.wait_stream(stream)
        return run if self._fails else graph.replay

    def _record(self, graph: torch.cuda.CUDAGraph, run: Run) -> None:
        """Record the kernels of one run; other threads may use the device meanwhile."""
        failure: RuntimeError | None = None
        try:
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                run()
            except RuntimeError as error:  # the recording must be ended all the same
                failure = error
            finally:
                graph.capture_end()
        except RuntimeError as error:
            failure = failure or error
        if failure is not None:
            raise _CaptureError(str(failure)) from None


class _CaptureError(Exception):
    """A graph could not be recorded; without the original, which may hold tensors."""


@lru_cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of a device that graphs are recorded on: torch keeps a workspace for each."""
    return torch.cuda.Stream(device)


class Pace:
    """Keeps the host a few steps ahead of a CUDA device, and not further."""

    def __init__(self, device: torch.device) -> None:
        self._queued: deque[torch.cuda.Event] | None = deque() if device.type == "cuda" else None
        self._device = device

    def step(self) -> None:
        """Count a step that was queued, and wait for the one so many steps ago."""
        if self._queued is None:
            return
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        self._queued.append(event)
        if len(self._queued) > _AHEAD:
            self._queued.popleft().synchronize()

    def finish(self) -> None:
        """Wait for everything that was queued: only then may graphs be dropped."""
        if self._queued:
            self._queued.pop().synchronize()
            self._queued.clear()
