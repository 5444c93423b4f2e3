"""Who brings a task's weights to the device: the protocol for owners, and the owner used without a host.

Only the modules that a task needs on the device are moved there, and on a CPU only they are converted from
the file's dtype. `parts` says which these are.
"""

from __future__ import annotations

from typing import Protocol

import torch

from ..adapters.changes import Stack, merge_into
from ..flow.flow_model import JanusFlowModel
from ..model.model import JanusModel
from ..options import Compute
from .parts import Task, modules_for, part_of, table_of


class WeightOwner(Protocol):
    """Owns a model's weights, and is asked before everything that computes with them."""

    def ready(self, *tasks: Task, memory_required: int) -> Compute:
        """Have the weights of tasks in place.

        Args:
            tasks: all that the caller is about to do, so that their weights are in place together.
            memory_required: bytes that they take beside the weights.

        Returns: where to compute, and whether the weights stay there until it is done.
        """


class Placement:
    """Owner that moves each module to the device when a task first needs it, and leaves it there.

    Adapters are merged then, in float32, so that what no task needs is never changed.
    """

    def __init__(
        self,
        model: JanusModel | JanusFlowModel,
        compute: Compute,
        vq_dtype: torch.dtype,
        adapters: Stack | None = None,
    ) -> None:
        """Move nothing yet.

        Args:
            model: with weights resting on the CPU.
            compute: where, and in which dtype, seeing and language compute.
            vq_dtype: of the VQ tokenizer there.
            adapters: what they do to the model's tensors.
        """
        self._model = model
        self._compute = compute
        self._vq_dtype = vq_dtype
        self._adapters = adapters or {}
        self._there: set[str] = set()  # paths of the modules moved so far

    def ready(self, *tasks: Task, memory_required: int = 0) -> Compute:
        """Put what tasks need on the device, in the dtype to compute in; no room is made for it."""
        # parameters made under inference mode could never be trained
        with torch.inference_mode(False), torch.no_grad():
            for name in modules_for(*tasks, table=table_of(self._model)):
                if name not in self._there:
                    is_vq = part_of(name) == "vq_tokenizer"
                    dtype = self._vq_dtype if is_vq else self._compute.dtype
                    self._model.get_submodule(name).to(self._compute.device, dtype)
                    merge_into(self._model, self._adapters, under=name)
                    self._there.add(name)
        return self._compute
