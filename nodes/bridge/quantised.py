"""Quantised models inside ComfyUI: core's own layers hold their matrices and do the arithmetic.

Core chooses how: natively where the device can, else dequantised at each use. LoRA, streaming and unloading
come with its layers. Nothing here knows a number format; core names those that it has.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any, TypeVar

import comfy.ops
import torch

from ...janus_core import Checkpoint, CheckpointError, FlowCheckpoint

Read = TypeVar("Read", Checkpoint, FlowCheckpoint)


def layers(checkpoint: Checkpoint | FlowCheckpoint, compute: torch.dtype, device: torch.device) -> Any:
    """Return core's layer classes for a model that has quantised matrices.

    Raises:
        CheckpointError: this ComfyUI does not know one of its formats.
    """
    wanted = sorted({weight.format.name for weight in checkpoint.quantised.values()})
    missing = [name for name in wanted if name not in _known()]
    if missing:
        raise CheckpointError(
            f'"{checkpoint.folder}" is quantised as {missing[0]}, which this ComfyUI cannot compute with. '
            "Update ComfyUI, or choose the original model."
        )
    asks = SimpleNamespace(quant_config={"mixed_ops": True})
    return comfy.ops.pick_operations(None, compute, load_device=device, model_config=asks)


def _known() -> set[str]:
    try:
        from comfy.quant_ops import QUANT_ALGOS
    except ImportError:  # older releases
        return set()
    return set(QUANT_ALGOS)


def as_core_takes_it(checkpoint: Read) -> Read:
    """Return a checkpoint whose quantised matrices stand among its tensors, with core's markers."""
    packed = {
        name: tensor
        for layer, weight in checkpoint.quantised.items()
        for name, tensor in weight.to_state(layer).items()
    }
    return dataclasses.replace(checkpoint, state_dict={**checkpoint.state_dict, **packed}, quantised={})
