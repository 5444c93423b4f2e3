"""Decoder whose layers a host runs one by one, so that it may page their weights and capture each as a graph.

Between steps no buffer moves and no Python state of a layer changes: a layer reads the residual stream from a
fixed buffer and writes its result there, and the place in the cache is kept on the device. So whoever runs
the layers may replay what it captured, and need not call them again. It does not know who that is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..model.language_model import DecoderLayer, LanguageModel
from ..options import LayerRunner
from .counted_attention import attention_for
from .steps import Sequences


class PagedDecoder:
    """Decoder with fixed buffers that calls the model's own layers through a host's runner; see `Decoder`."""

    can_be_captured = False  # as a whole: the host captures layers

    def __init__(
        self, model: LanguageModel, sequences: Sequences, compute_dtype: torch.dtype, runner: LayerRunner
    ) -> None:
        """Take sequences over.

        Args:
            model: whose layers are called.
            sequences: filled by a prefill; their cache belongs to this decoder from now on.
            compute_dtype: of embeddings and hidden states; the cache may be in a wider one.
            runner: runs the layers.
        """
        self._model = model
        self._runner = runner
        self._dtype = compute_dtype
        self._attention = attention_for(sequences, model.config, compute_dtype)
        self._x = torch.empty_like(sequences.hidden, dtype=compute_dtype)  # (b, d), the residual stream
        runner.restart()

    def prepare(self, done: int) -> int:
        """Do nothing: a captured layer cannot learn how much of the cache is filled, so it reads all."""
        return 0

    def step(self, embeddings: Tensor) -> Tensor:
        """Append one token's embedding (b, d) to every row and return the next hidden states (b, d)."""
        self._attention.begin()
        self._x.copy_(embeddings)
        layers: list[nn.Module] = list(self._model.layers)
        calls = [partial(self._run_layer, index, layer) for index, layer in enumerate(layers)]
        self._runner.run(layers, calls, self._dtype)
        self._attention.end()
        hidden: Tensor = self._model.norm(self._x)
        return hidden

    def _run_layer(self, index: int, layer: nn.Module) -> None:
        """Add what a layer computes to the residual stream, in place."""
        assert isinstance(layer, DecoderLayer)
        x = self._x  # (b, d)
        projected = torch.cat(layer.self_attn.project(layer.input_layernorm(x)), dim=-1)
        x.add_(layer.self_attn.o_proj(self._attention.attend(index, projected)))
        x.add_(layer.mlp(layer.post_attention_layernorm(x)))

    def select(self, rows: Sequence[int]) -> PagedDecoder:
        """Return a decoder whose row i continues row `rows[i]` of this one, with buffers of its own."""
        index = torch.tensor(rows, device=self._x.device)
        selected = copy.copy(self)
        selected._attention = self._attention.select(index)
        selected._x = self._x[index]
        self._runner.restart()
        return selected

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue row `rows[i]` from now on, in the same buffers."""
        self._attention.reorder(rows)
