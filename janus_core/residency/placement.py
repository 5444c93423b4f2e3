"""Who has a task's weights in place: the protocol that a `Janus` asks, and its answer outside of hosts.

Drawing never asks the text head, and of the word embedding it wants a few rows, which are looked up where
the weights rest. So a task holds on the device what it multiplies by, and no more; on a CPU, likewise, only
that is converted from the file's dtype. Which modules these are says `parts`.
"""

from __future__ import annotations

from typing import Protocol

import torch

from ..flow.flow_model import JanusFlowModel
from ..model.model import JanusModel
from ..options import Compute
from .parts import Task, modules_for, part_of, table_of


class WeightOwner(Protocol):
    """Owns a model's weights; everything that computes asks it first."""

    def ready(self, *tasks: Task, memory_required: int) -> Compute:
        """Have what tasks need in place.

        Args:
            tasks: what is done next, together.
            memory_required: bytes that they take beside the weights.

        Returns: where to compute, and whether the weights stay there until it is done.
        """


class Placement:
    """Brings modules from where weights rest to the device, each when a task first needs it; they stay."""

    def __init__(self, model: JanusModel | JanusFlowModel, compute: Compute, vq_dtype: torch.dtype) -> None:
        """Bring nothing yet.

        Args:
            model: with weights resting on the CPU.
            compute: where, and in which dtype, seeing and language compute.
            vq_dtype: of the VQ tokenizer there.
        """
        self._model = model
        self._compute = compute
        self._vq_dtype = vq_dtype
        self._there: set[str] = set()

    def ready(self, *tasks: Task, memory_required: int = 0) -> Compute:
        """Put what tasks need on the device, in the dtype that it runs in. Nothing makes room: it is ours."""
        with torch.inference_mode(False), torch.no_grad():
            for name in modules_for(*tasks, table=table_of(self._model)):
                if name not in self._there:
                    is_vq = part_of(name) == "vq_tokenizer"
                    dtype = self._vq_dtype if is_vq else self._compute.dtype
                    self._model.get_submodule(name).to(self._compute.device, dtype)
                    self._there.add(name)
        return self._compute
