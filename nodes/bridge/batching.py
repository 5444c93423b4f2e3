"""Batches that fit: when the device is out of memory, work is tried again with half the batch size.

Knows nothing of models or of the work.
"""

import contextlib
import logging
from collections.abc import Callable
from typing import TypeVar

import comfy.model_management as mm

from ...janus_core import SamplingError

log = logging.getLogger("janus.batching")

Result = TypeVar("Result")


def in_batches(attempt: Callable[[int], Result], batch_size: int) -> Result:
    """Call `attempt(batch_size)`, and again with half of it each time the device is out of memory.

    Raises:
        SamplingError: a batch of one does not fit either.
    """
    while True:
        with contextlib.suppress(_OutOfMemory):
            return _without_oom(attempt, batch_size)
        mm.soft_empty_cache()  # outside the handler: the exception pins the tensors of the failed attempt
        if batch_size == 1:
            raise SamplingError(
                "The device ran out of memory even for one picture at a time. Choose residency offload or a "
                "smaller dtype in Load Janus, or close what else uses the device."
            )
        batch_size = (batch_size + 1) // 2
        log.warning("Janus: out of memory, going on with batches of %d", batch_size)


class _OutOfMemory(Exception):  # noqa: N818 - carries no message to anyone
    """The device is out of memory; without the original error, which would keep tensors alive."""


def _without_oom(attempt: Callable[[int], Result], batch_size: int) -> Result:
    try:
        return attempt(batch_size)
    except mm.InterruptProcessingException:  # Cancel
        raise
    except Exception as error:
        if not _is_oom(error):
            raise
    raise _OutOfMemory  # outside the handler, so that it has no context


def _is_oom(error: Exception) -> bool:
    # `is_oom` is newer, and knows errors that come as other classes
    is_devices = mm.is_oom(error) if hasattr(mm, "is_oom") else isinstance(error, mm.OOM_EXCEPTION)
    return bool(is_devices) or "can't allocate memory" in str(error)  # torch's message on a CPU
