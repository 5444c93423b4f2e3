"""Batches: how work is cut, and what callbacks hear of it."""

from __future__ import annotations

import pytest
import torch

from janus_core import SamplingError
from janus_core.generation.batches import batched, in_chunks, shifted, within


def test_a_sequence_is_cut_into_batches_of_which_the_last_may_be_shorter() -> None:
    assert batched("abcdefg", 3) == ["abc", "def", "g"]
    assert batched((), 3) == []


def test_steps_of_a_batch_count_on_behind_those_before_it() -> None:
    heard: list[tuple[int, int]] = []
    on_step = within(lambda done, total: heard.append((done, total)), start=32, total=48)
    assert on_step is not None
    on_step(1, 16)
    on_step(16, 16)
    assert heard == [(33, 48), (48, 48)]


def test_rows_of_a_batch_count_on_behind_those_before_it() -> None:
    heard: list[tuple[int, str]] = []
    on_text = shifted(lambda row, text: heard.append((row, text)), start=8)
    assert on_text is not None
    on_text(1, "a star")
    assert heard == [(9, "a star")]


def test_where_nobody_listens_no_callback_is_made() -> None:
    assert within(None, 0, 1) is None
    assert shifted(None, 0) is None


def test_chunks_are_joined_in_order_and_counted() -> None:
    rows, heard = torch.arange(5), list[tuple[int, int]]()
    joined = in_chunks(lambda chunk: chunk * 2, rows, 2, lambda done, total: heard.append((done, total)))
    assert torch.equal(joined, rows * 2)
    assert heard == [(2, 5), (4, 5), (5, 5)]


def test_chunks_of_nothing_are_refused() -> None:
    with pytest.raises(SamplingError, match="batch_size"):
        in_chunks(lambda chunk: chunk, torch.arange(5), 0, None)
