"""Whether a kernel of `triton_kernels` may be used on a device: it is tried there first.

Kernels are an acceleration that nobody needs. Where Triton is missing, on all but NVIDIA's GPUs, and where a
kernel cannot be built or computes something else than plain operators, these go on, and the log says so once.
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
    """Tell whether kernels might run on a device: a CUDA GPU that is not too old, with Triton installed."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return False
    if importlib.util.find_spec("triton") is None:
        log.info("Janus: Triton is not installed, so steps go on without its kernels, a little slower.")
        return False
    return True


def passes(what: str, device: torch.device, trial: Callable[[], bool]) -> bool:
    """Tell whether a kernel may be used on a device. It waits for the device; callers remember the answer.

    Args:
        what: it does, for the log.
        device: where it would run.
        trial: runs the kernel on some data and tells whether it computes what plain operators do.
    """
    if not can_run(device):
        return False
    try:
        problem = "" if trial() else "its results differ from those of plain operators"
    except Exception as error:  # noqa: BLE001 - a compiler, its tools and a driver raise whatever they like
        problem = f"{type(error).__name__}: {error}"
    if problem:
        log.info("Janus: going on without the kernel for %s on %s: %s", what, device, problem)
    return not problem
