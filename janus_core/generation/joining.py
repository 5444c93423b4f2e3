"""Weights of layers that share an input, joined in memory, so that a step multiplies by them at once.

The parameters keep their identity and values; they become views of one storage. Nothing here knows what the
layers are for, or who multiplies.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from weakref import WeakSet

import torch
from torch import Tensor, nn

log = logging.getLogger("janus.joining")

_MOST_LEFT = 2**29  # bytes of old matrices that may pile up before the allocator gives them back

# Models for whose matrices memory was too short once: every batch would fail again, slowly.
_APART: WeakSet[nn.Module] = WeakSet()


class Joiner:
    """Joins matrices of one model; a context manager, which on leaving gives the old ones' memory back.

    On CUDA the allocator keeps the blocks of the old matrices, which no later request fits, and would reserve
    twice the model's bytes. It is told to let go of them in a few portions, since each time waits for the
    device.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._left = 0  # bytes of old matrices since the allocator last let go

    def __enter__(self) -> Joiner:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have the allocator give back what is left."""
        if self._left:
            self._let_go()

    def join(self, linears: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
        """Return the weights of layers of one input as one matrix, or each alone where memory is short.

        Later calls find them side by side and copy nothing. A host that evicts or replaces one of them breaks
        this up, and the next call joins them again.

        Returns: one matrix (all outputs, in), or one for each layer.
        """
        weights = [linear.weight for linear in linears]
        whole = _side_by_side(weights)
        if whole is None and self._model not in _APART:
            whole = self._joined(weights)
        return tuple(weight.detach() for weight in weights) if whole is None else (whole,)

    def _joined(self, weights: Sequence[Tensor]) -> Tensor | None:
        try:
            whole = _join(weights)
        except torch.OutOfMemoryError:  # both copies are needed for a moment
            _APART.add(self._model)
            log.info("Janus: too little memory to join matrices of the model; steps are a little slower.")
            return None
        self._left += whole.nbytes
        if self._left > _MOST_LEFT:
            self._let_go()
        return whole

    def _let_go(self) -> None:
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        self._left = 0


def _side_by_side(weights: Sequence[Tensor]) -> Tensor | None:
    """Return matrices that follow each other in one storage as one matrix, a view; None if they do not."""
    first = weights[0].detach()
    place = first.storage_offset()  # in entries, as `numel`
    for weight in weights:
        is_next = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (is_next and weight.storage_offset() == place and weight.is_contiguous()):
            return None
        place += weight.numel()
    return first.as_strided((sum(len(weight) for weight in weights), first.shape[1]), first.stride())


def _join(weights: Sequence[Tensor]) -> Tensor:
    """Move matrices of one input into one (all outputs, in), and return it."""
    # `weight.data` takes an inference tensor exactly where the weight is one
    with torch.inference_mode(weights[0].is_inference()), torch.no_grad():
        whole = torch.cat([weight.detach() for weight in weights])
        parts = torch.split(whole, [len(weight) for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.data = part
    return whole
