"""Run one step again and again: captured on a CUDA device as a graph and replayed, elsewhere called.

A step that is captured works on tensors that keep their addresses and reads nothing back, so that the same
kernels in the same order are the same step. Nothing here knows what a step computes.
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
PoolId: TypeAlias = Any  # torch names no type that a pool's id, of either kind, would fit

_AHEAD = 8  # steps queued before the host waits: the device never idles, and an interruption is felt at once


def can_capture(compute: Compute) -> bool:
    """Tell whether steps can be captured on a device: CUDA, where no capture has failed in this process.

    ROCm captures only where it is asked for (`Compute.captures`), since nobody has shown that it is right
    there. Under deterministic algorithms, and inside somebody else's capture, recording cannot work.
    """
    wanted = torch.version.hip is None if compute.captures is None else compute.captures
    return (
        wanted
        and compute.device.type == "cuda"
        and not torch.are_deterministic_algorithms_enabled()
        and not torch.cuda.is_current_stream_capturing()
        and not _workshop(compute.device).has_failed
    )


class Stepper:
    """Runs a step once for each call, at most a few steps ahead of the device.

    A context manager: on leaving, everything queued has run and every graph is dropped, whatever happened.
    Only then may the tensors that the step works on go.
    """

    def __init__(self, device: torch.device, *, captures: bool) -> None:
        """Prepare.

        Args:
            device: where the step computes.
            captures: whether the step may be captured, see `can_capture`.
        """
        self._pace = Pace(device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._workshop = _workshop(device) if captures and device.type == "cuda" else None
        self._pool: PoolId | None = None

    def __enter__(self) -> Stepper:
        """Take the device's pool of memory for graphs, unless another drawing has it."""
        if self._workshop is not None:
            self._pool = self._workshop.borrow_pool()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for everything queued, drop the graphs, and give the pool back."""
        try:
            self.restart()
        finally:
            if self._workshop is not None and self._pool is not None:
                self._workshop.return_pool(self._pool)

    def run(self, step: Step, key: int) -> None:
        """Run a step once.

        Args:
            step: the same for all calls between two restarts.
            key: what the shapes in the step depend on; a graph is captured for each.
        """
        if key in self._graphs:
            self._graphs[key].replay()
        elif self._workshop is None or self._pool is None or self._workshop.has_failed:
            step()
        else:
            graph = self._workshop.capture(step, self._pool)
            if graph is not None:
                self._graphs[key] = graph
        self._pace.step()

    def restart(self) -> None:
        """Wait for everything queued and forget the graphs: the next step writes elsewhere."""
        try:
            self._pace.finish()
        finally:
            self._graphs.clear()


class _Workshop:
    """What captures on one device share for as long as the process lives.

    A stream, because torch keeps a workspace for each that recorded; a pool of memory, because each new one
    leaves tens of megabytes reserved; and whether a capture failed, because the next would fail too.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._lock = threading.Lock()
        self._keeper = _new_pool(device)
        self._shared = torch.cuda.graph_pool_handle() if self._keeper is None else self._keeper.id
        self.has_failed = False

    def borrow_pool(self) -> PoolId:
        """Return the shared pool, or one of its own where graphs of another thread use that already."""
        return self._shared if self._lock.acquire(blocking=False) else torch.cuda.graph_pool_handle()

    def return_pool(self, pool: PoolId) -> None:
        """Let others use a pool again."""
        if pool == self._shared:
            self._lock.release()

    def capture(self, step: Step, pool: PoolId) -> torch.cuda.CUDAGraph | None:
        """Run a step once, which also loads what a capture must find ready, then record it.

        Returns: the graph, or None where recording failed, which is remembered.
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(self._stream):
                step()
                self._record(graph, step, pool)
        except _CaptureError as error:
            log.warning("Janus: going on without a CUDA graph, slower: %s", error)
            self.has_failed = True
            return None
        finally:
            current.wait_stream(self._stream)
        return graph

    def _record(self, graph: torch.cuda.CUDAGraph, step: Step, pool: PoolId) -> None:
        """Record the kernels of one step; other threads may use the device meanwhile."""
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
        """Take an unfinished recording's hold off its pool, which torch leaves when ending it fails.

        Left there, the asynchronous allocator would never free anything again, and every later capture would
        fail.
        """
        number = torch.cuda.current_device() if self._device.index is None else self._device.index
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):  # not in every torch
            release = vars(torch._C).get(name)
            if release is not None:
                with suppress(RuntimeError):
                    release(number, pool)


class _CaptureError(Exception):
    """A graph could not be recorded; without the original, which may hold tensors."""


@lru_cache
def _workshop(device: torch.device) -> _Workshop:
    """Return what captures on a device share."""
    return _Workshop(device)


def _new_pool(device: torch.device) -> torch.cuda.MemPool | None:
    """Return a pool that outlives its graphs, or None where the allocator has none (the asynchronous one)."""
    try:
        with torch.cuda.device(device):
            return torch.cuda.MemPool()
    except (RuntimeError, AttributeError):
        return None


class Pace:
    """Keeps the host a few steps ahead of a CUDA device, and not further."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._queued: deque[torch.cuda.Event] | None = deque() if device.type == "cuda" else None

    def step(self) -> None:
        """Count a step that was queued, and wait for the step queued eight steps earlier."""
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
