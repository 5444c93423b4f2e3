"""Sequences that begin alike: the decoder reads a common start once, in training too.

Every conversation begins with the same system text, and several questions ask about one picture. They stand
behind it in one row, each blind for the others and counted on from the picture; what comes out is what each
would give alone, for a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from janus_core.inputs.prompting import PromptPlan
from janus_core.model.kv_cache import KVCache
from janus_core.model.language_model import LanguageModel
from janus_core.model.layers import rotary_table

from .conversations import Continuation

_START, _PADDING = 0, -1  # parts of a row beside its questions, which count from 1


class _Start(KVCache):
    """Keys and values of one row's start, with their gradients, for every row that continues it."""

    def __init__(self) -> None:
        self.length = 0
        self._stored: list[tuple[Tensor, Tensor]] = []

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the first pass; let the second one see what was kept."""
        if self.length == 0:
            self._stored.append((keys, values))
            return keys, values
        start_keys, start_values = (tensor.expand(len(keys), -1, -1, -1) for tensor in self._stored[layer])
        return torch.cat((start_keys, keys), dim=2), torch.cat((start_values, values), dim=2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """Rows of a start and several continuations each.

    Attributes:
        token_ids: (b, t) int64, padded on the right.
        is_image: (b, t) bool.
        positions: (b, t) int64; each continuation counts on from the start.
        parts: (b, t) int64: 0 in the start, 1 and up in the continuations, −1 where padded.
        is_learnt: (b, t) bool.
    """

    token_ids: Tensor
    is_image: Tensor
    positions: Tensor
    parts: Tensor
    is_learnt: Tensor


def pack(rows: Sequence[tuple[PromptPlan, Sequence[Continuation]]], pad: int) -> Packed:
    """Lay starts and what continues them side by side."""
    columns: list[tuple[list[int], ...]] = []
    for start, continuations in rows:
        begun = len(start)
        ids, image = list(start.token_ids), [int(mark) for mark in start.is_image]
        places, parts, learnt = list(range(begun)), [_START] * begun, [0] * begun
        for part, each in enumerate(continuations, start=1):
            size = len(each.token_ids)
            ids += each.token_ids
            places += range(begun, begun + size)
            parts += [part] * size
            learnt += [int(mark) for mark in each.is_learnt]
        image += [0] * (len(ids) - begun)
        columns.append((ids, image, places, parts, learnt))
    length = max(len(row[0]) for row in columns)
    fills = (pad, 0, 0, _PADDING, 0)
    tensors = [
        torch.tensor([[*row[index], *[fill] * (length - len(row[index]))] for row in columns])
        for index, fill in enumerate(fills)
    ]
    return Packed(
        token_ids=tensors[0],
        is_image=tensors[1].bool(),
        positions=tensors[2],
        parts=tensors[3],
        is_learnt=tensors[4].bool(),
    )


def packed_states(language_model: LanguageModel, embeddings: Tensor, packed: Packed, shared: int) -> Tensor:
    """Run the decoder over packed rows.

    Args:
        language_model: the decoder.
        embeddings: (b, t, d) of all tokens.
        packed: which tokens belong together.
        shared: tokens at the start that are equal in all rows; they are read once.

    Returns: hidden states (b, t − shared, d).
    """
    start = _Start()
    positions, parts = packed.positions.to(embeddings.device), packed.parts.to(embeddings.device)
    if shared:
        language_model(embeddings[:1, :shared], positions[:1, :shared], cache=start)
    config = language_model.config
    table = rotary_table(positions[:, shared:], config.head_dim, config.rope_theta, embeddings.dtype)
    mask = _visible(parts)[:, None, shared:]  # (b, 1, t - shared, t): no row of it for the start
    x = embeddings[:, shared:]  # (b, t - shared, d)
    for index, layer in enumerate(language_model.layers):
        x = layer(x, table, mask, start if shared else None, index)
    return language_model.norm(x)  # type: ignore[no-any-return]


def _visible(parts: Tensor) -> Tensor:
    """Return (b, t, t): a token sees itself and, before it, the start and its own part."""
    queries, keys = parts[:, :, None], parts[:, None, :]  # (b, t, 1) and (b, 1, t)
    order = torch.arange(parts.shape[1], device=parts.device)
    is_before = order[None, None, :] <= order[None, :, None]
    is_own = (keys == _START) | (keys == queries)  # (b, t, t)
    return (is_before & is_own & (keys != _PADDING)) | (order[:, None] == order)
