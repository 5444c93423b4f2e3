"""Core's graphs under dynamic memory: decoder layers captured one by one while their weights are paged.

Switched off: it has not run on a card yet, where alone it can be faster. What core has of it differs between
releases, so its shape is looked at, never its version; without it layers are called as ever.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ...janus_core import LayerRunner

IS_WANTED = False
_POP = ("queue", "device", "module", "dtype", "core", "enable_graph", "generator")
_OPTIONS = {"prefetch_dynamic_vbars": True}  # how core is told that layers are popped from its queue


class UnitsOfLayers(nn.ModuleDict):
    """A part whose decoder layers core packs and pages one by one."""

    def get_dynamic_vram__units(self) -> tuple[list[Any], list[Any]]:
        """Return the units in the order of use, and those to load last."""
        return list(self["layers"].children()), []


def core_graphs() -> Any:
    """Return core's module of graphs for paged layers, if it is of the kind that is known here, else None."""
    try:
        import comfy.model_prefetch as core
    except ImportError:  # older than dynamic memory
        return None
    pop = getattr(core, "prefetch_queue_pop", None)
    is_known = pop is not None and tuple(inspect.signature(pop).parameters) == _POP
    has_rest = hasattr(core, "make_prefetch_queue") and hasattr(core, "cleanup_prefetch_queues")
    return core if is_known and has_rest else None


class CoreRunner:
    """Runs layers through core's queue, which pages their weights, and captures and replays them."""

    def __init__(self, core: Any, device: torch.device) -> None:
        self._core = core
        self._device = device

    def restart(self) -> None:
        """Have core drop all graphs: the buffers that they were captured with are about to change."""
        self._core.cleanup_prefetch_queues()

    def run(
        self, layers: Sequence[nn.Module], calls: Sequence[Callable[[], None]], dtype: torch.dtype
    ) -> None:
        """Run the layers of one step in order."""
        queue = self._core.make_prefetch_queue(list(layers), self._device, _OPTIONS)
        for layer, call in zip(layers, calls, strict=True):
            self._core.prefetch_queue_pop(
                queue, self._device, layer, dtype, core=call, enable_graph=True, generator=None
            )
        if queue is not None:  # lets go of the last layer
            self._core.prefetch_queue_pop(queue, self._device, None)


def runner_for(patcher: Any, device: torch.device) -> LayerRunner | None:
    """Return who runs the layers of a part that core pages; None where they are simply called."""
    is_dynamic = getattr(patcher, "is_dynamic", lambda: False)()
    core = core_graphs() if IS_WANTED and is_dynamic else None
    return None if core is None else CoreRunner(core, device)
