"""A batch whose rows begin alike: the decoder reads the common start once, in training too.

Every conversation begins with the same system text. Hidden states depend on earlier tokens only, so computing
them once for all rows changes nothing but the time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janus_core.model.kv_cache import KVCache
from janus_core.model.language_model import LanguageModel


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


def hidden_states(language_model: LanguageModel, embeddings: Tensor, shared: int) -> Tensor:
    """Run the decoder over rows that begin with the same `shared` tokens.

    Args:
        language_model: the decoder.
        embeddings: (b, t, d), without padding on the left.
        shared: tokens at the start that are equal in all rows; below t.

    Returns: (b, t, d), as one plain pass would give.
    """
    rows, length, _ = embeddings.shape
    positions = torch.arange(length, device=embeddings.device)[None]
    if rows == 1 or shared == 0:
        return language_model(embeddings, positions.expand(rows, -1))  # type: ignore[no-any-return]
    start = _Start()
    first = language_model(embeddings[:1, :shared], positions[:, :shared], cache=start)
    rest = language_model(embeddings[:, shared:], positions[:, shared:].expand(rows, -1), cache=start)
    return torch.cat((first.expand(rows, -1, -1), rest), dim=1)


def shared_tokens(token_ids: Tensor, is_image: Tensor) -> int:
    """Count the words at the start that are the same in all rows of (b, t), at most t − 1."""
    is_same = ((token_ids == token_ids[:1]) & ~is_image).all(dim=0)
    return min(int(is_same.int().cumprod(0).sum()), token_ids.shape[1] - 1)
