"""Decides whether a kernel of `triton_kernels` may be used on a device, by a trial there.

Kernels are an optional acceleration. Without Triton, on devices other than NVIDIA's GPUs, and if a kernel
cannot be compiled or its results differ, plain operators are used instead, and the log says so once.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from functools import lru_cache

import torch

log = logging.getLogger("janus.kernels")

_LEAST_CAPABILITY = (7, 5)  # Turing, the oldest that Triton builds for


@lru_cache
def can_run(device: torch.device) -> bool:
    """Tell whether kernels might run on a device: a CUDA GPU, Turing or newer, with Triton installed."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return False
    if importlib.util.find_spec("triton") is None:
        log.info("Janus: Triton is not installed, so its kernels are not used; steps are a little slower.")
        return False
    return True


def passes(what: str, device: torch.device, trial: Callable[[], bool]) -> bool:
    """Tell whether a kernel may be used on a device. It synchronises; callers cache the answer.

    Args:
        what: what the kernel computes, for the log.
        device: where it would run.
        trial: runs the kernel on random data and tells whether its results are those of plain operators.
    """
    if not can_run(device):
        return False
    try:
        problem = "" if trial() else "its results differ from those of plain operators"
    except Exception as error:  # noqa: BLE001 - compiler, its tools and driver raise errors of many kinds
        problem = f"{type(error).__name__}: {error}"
    if problem:
        log.info("Janus: the kernel for %s is not used on %s: %s", what, device, problem)
    return not problem
