"""Batches made ahead of their use by other processes, for devices that learn faster than one core can draw.

A batch is a pure function of its number, so who makes it changes nothing.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache

import torch

from janus_core.inputs.text_tokenizer import TextTokenizer

from .recipe import ModelSizes, StageRecipe
from .samples import Batch, Samples

_FOR_EACH_WORKER = 2  # batches that wait or are being made


class Ahead:
    """The batches of one stage, each asked for once and in order."""

    def __init__(
        self, tokenizer_json: str, sizes: ModelSizes, stage: StageRecipe, offset: int, workers: int
    ) -> None:
        """Start the processes.

        Args:
            tokenizer_json: content of the tokenizer's file.
            sizes: as for `Samples`.
            stage: likewise.
            offset: likewise.
            workers: processes, at least 1.
        """
        self._what = (tokenizer_json, sizes, stage, offset)
        self._most = _FOR_EACH_WORKER * workers
        # not forked: a child of a process with threads may wait for a lock that nobody will release
        self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
        self._made: dict[int, Future[Batch]] = {}

    def __call__(self, n: int) -> Batch:
        """Return batch n, and have the next ones made."""
        for ahead in range(n, n + self._most):
            if ahead not in self._made:
                self._made[ahead] = self._pool.submit(_make, *self._what, ahead)
        return self._made.pop(n).result()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _make(tokenizer_json: str, sizes: ModelSizes, stage: StageRecipe, offset: int, n: int) -> Batch:
    return _samples(tokenizer_json, sizes, stage, offset).batch(n)


@cache
def _samples(tokenizer_json: str, sizes: ModelSizes, stage: StageRecipe, offset: int) -> Samples:
    """Return what a process makes its batches with; built once."""
    torch.set_num_threads(1)
    return Samples(TextTokenizer(tokenizer_json, source="the recipe's tokenizer"), sizes, stage, offset)
