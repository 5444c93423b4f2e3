"""Many pictures or texts, one batch at a time: chunks of rows, callbacks that count across batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import SamplingError
from ..options import OnStep, OnText, OnTokens, check_count
from .sampling import not_finite

T = TypeVar("T")


def batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a sequence into batches of `size`; the last may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def in_chunks(work: Callable[[Tensor], Tensor], rows: Tensor, size: int, on_step: OnStep | None) -> Tensor:
    """Return what `work` makes of all rows, `size` of them at a time, on the CPU."""
    check_count("batch_size", size)
    done: list[Tensor] = []
    for chunk in torch.split(rows, size):
        done.append(work(chunk).cpu())  # so that the device holds one chunk at a time
        if on_step is not None:
            on_step(sum(map(len, done)), len(rows))
    with torch.inference_mode(False):  # an ordinary tensor, which the caller may change in place
        return torch.cat(done)


def shifted(on_text: OnText | None, start: int) -> OnText | None:
    """Return a callback for a batch whose rows follow `start` others."""
    if on_text is None:
        return None
    return lambda row, text: on_text(start + row, text)


def within(on_step: OnStep | None, start: int, total: int) -> OnStep | None:
    """Return a callback for a batch whose steps follow `start` others, of `total` in all."""
    if on_step is None:
        return None
    return lambda done, _: on_step(start + done, total)


def of_pictures(on_tokens: OnTokens | None, numbers: Sequence[int]) -> OnTokens | None:
    """Return a callback for a batch whose pictures have these numbers in all batches."""
    if on_tokens is None:
        return None
    return lambda tokens, rows: on_tokens(tokens, [numbers[row] for row in rows])


@contextmanager
def numbered_as(numbers: Sequence[int], dtype: torch.dtype) -> Iterator[None]:
    """Have an error about rows of a batch tell the numbers that they have in all batches."""
    try:
        yield
    except SamplingError as error:
        if not error.rows:
            raise
        named = dict.fromkeys(numbers[row] for row in error.rows)  # several rows may be one picture's
        raise not_finite(list(named), dtype) from error


def numbered_from(start: int, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Do as `numbered_as` for rows that `start` others come before."""
    return numbered_as(range(start, sys.maxsize), dtype)
