"""Run a step repeatedly: on CUDA captured once as a graph and replayed, elsewhere called.

A step that is captured works on fixed buffers and never waits for the device, so that replaying its kernels
is the next step. Nothing here knows what a step computes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Any, TypeAlias

import torch

from ..options import Compute

log = logging.getLogger("janus.capturing")

Step: TypeAlias = Callable[[], None]
PoolId: TypeAlias = Any  # torch has no one type for the ids of both kinds of pool

_AHEAD = 8  # steps queued before the host waits: enough to keep the device busy, few enough to interrupt soon


def can_capture(compute: Compute) -> bool:
    """Tell whether steps can be captured on a device: CUDA, where no capture has failed in this process.

    ROCm only if asked for (`Compute.captures`): captures are untested there. Capturing cannot work under
    deterministic algorithms or inside another capture.
    """
    wanted = torch.version.hip is None if compute.captures is None else compute.captures
    return (
        wanted
        and compute.device.type == "cuda"
        and not torch.are_deterministic_algorithms_enabled()
        and not torch.cuda.is_current_stream_capturing()
        and not _capturer(compute.device).has_failed
    )


class Stepper:
    """Runs a step, captured or not, and stays at most a few steps ahead of the device.

    A context manager: on leaving, also by an exception, it waits for everything queued and drops its graphs.
    The buffers of the step must live until then.
    """

    def __init__(self, device: torch.device, *, captures: bool) -> None:
        """Prepare.

        Args:
            device: where the step computes.
            captures: whether the step may be captured, see `can_capture`.
        """
        self._pace = Pace(device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._capturer = _capturer(device) if captures and device.type == "cuda" else None
        self._pool: PoolId | None = None

    def __enter__(self) -> Stepper:
        """Take the device's shared memory pool for graphs, or a new one if another stepper has it."""
        if self._capturer is not None:
            self._pool = self._capturer.borrow_pool()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for everything queued, drop the graphs, and give the pool back."""
        try:
            self.restart()
        finally:
            if self._capturer is not None and self._pool is not None:
                self._capturer.return_pool(self._pool)

    def run(self, step: Step, key: int) -> None:
        """Run a step once.

        Args:
            step: the same in all calls between two restarts.
            key: the number that the shapes in the step depend on; each has a graph of its own.
        """
        if key in self._graphs:
            self._graphs[key].replay()
        elif self._capturer is None or self._pool is None or self._capturer.has_failed:
            step()
        else:
            graph = self._capturer.capture(step, self._pool)  # also runs the step
            if graph is not None:
                self._graphs[key] = graph
        self._pace.step()

    def restart(self) -> None:
        """Wait for everything queued and drop the graphs: the step's buffers are about to change."""
        try:
            self._pace.finish()
        finally:
            self._graphs.clear()


class _Capturer:
    """Captures steps on one device; kept for the life of the process.

    Captures share a stream, since torch keeps a workspace for each stream that captured; a memory pool, since
    each new one leaves tens of megabytes reserved; and the flag that a capture failed, since the next would
    fail too.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._lock = threading.Lock()
        self._keeper = _new_pool(device)  # holds the pool while no graph does
        self._shared = torch.cuda.graph_pool_handle() if self._keeper is None else self._keeper.id
        self.has_failed = False

    def borrow_pool(self) -> PoolId:
        """Return the shared pool, or a new one while graphs of another stepper use it."""
        # graphs that share a pool must not run at the same time: each assumes that its memory is its own
        return self._shared if self._lock.acquire(blocking=False) else torch.cuda.graph_pool_handle()

    def return_pool(self, pool: PoolId) -> None:
        """Release a pool from `borrow_pool`."""
        if pool == self._shared:
            self._lock.release()

    def capture(self, step: Step, pool: PoolId) -> torch.cuda.CUDAGraph | None:
        """Run a step once, then capture it.

        Returns: the graph, or None where capturing failed; further captures are then not tried.
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)  # the step reads what was queued on the caller's stream
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(self._stream):
                step()  # the real one, and the warm-up: libraries load kernels and workspaces on first use
                self._record(graph, step, pool)  # computes nothing
        except _CaptureError as error:
            log.warning("Janus: going on without a CUDA graph, slower: %s", error)
            self.has_failed = True
            return None  # the step itself has been run
        finally:
            current.wait_stream(self._stream)  # what the caller queues next reads what the step wrote
        return graph

    def _record(self, graph: torch.cuda.CUDAGraph, step: Step, pool: PoolId) -> None:
        """Record the kernels of one step; other threads may use the device meanwhile."""
        # "thread_local": only this thread's forbidden calls invalidate the capture, not those of a host's
        problem: BaseException | None = None
        try:
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        except RuntimeError as error:
            raise _CaptureError(str(error)) from None
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - a recording must be ended, then all of them go on
            problem = error
        try:
            graph.capture_end()
        except RuntimeError as error:
            self._release(pool)
            problem = problem or error
        if isinstance(problem, RuntimeError):
            raise _CaptureError(str(problem)) from None
        if problem is not None:
            raise problem

    def _release(self, pool: PoolId) -> None:
        """Detach a failed capture from its pool, which torch does not do when `capture_end` fails.

        Otherwise the asynchronous allocator would free nothing any more, and every later capture would fail.
        """
        number = torch.cuda.current_device() if self._device.index is None else self._device.index
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):  # not in every torch
            release = vars(torch._C).get(name)
            if release is not None:
                with suppress(RuntimeError):
                    release(number, pool)


class _CaptureError(Exception):
    """Capturing failed. Carries the message only: the original error may hold tensors alive."""


@lru_cache
def _capturer(device: torch.device) -> _Capturer:
    """Return the one capturer of a device."""
    return _Capturer(device)


def _new_pool(device: torch.device) -> torch.cuda.MemPool | None:
    """Return a pool that outlives its graphs, or None if the allocator has none (the asynchronous one)."""
    try:
        with torch.cuda.device(device):
            return torch.cuda.MemPool()
    except (RuntimeError, AttributeError):
        return None


class Pace:
    """Keeps the host at most a few steps ahead of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._queued: deque[torch.cuda.Event] | None = deque() if device.type == "cuda" else None

    def step(self) -> None:
        """Count a step that was queued, and wait for the step queued eight steps earlier."""
        if self._queued is None:
            return
        event = torch.cuda.Event(blocking=True)  # the waiting thread sleeps instead of spinning on a core
        event.record(torch.cuda.current_stream(self._device))
        self._queued.append(event)
        if len(self._queued) > _AHEAD:
            self._queued.popleft().synchronize()

    def finish(self) -> None:
        """Wait for everything that was queued: only then may graphs be dropped."""
        if self._queued:
            self._queued.pop().synchronize()  # the last event: a stream finishes in order
            self._queued.clear()
