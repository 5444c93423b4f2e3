"""What ComfyUI knows of a model's device: what to compute in, what fits, which layers it takes."""

from typing import Any

import comfy.model_management as mm
import comfy.ops
import torch
from torch import nn

_SHARE_OF_DEVICE = 0.8  # of its memory; the rest is for other models and fragmentation


def arithmetic(device: torch.device, parameters: int, stored: torch.dtype) -> torch.dtype:
    """Return the dtype that ComfyUI finds best to compute in.

    Under its fp8 flags ComfyUI answers with a dtype that weights may be stored in and nothing can be computed
    in; which one is to be computed in then follows from what the device is good at.
    """
    wanted = [torch.bfloat16, torch.float16, torch.float32]
    answer = mm.unet_dtype(
        device=device, model_params=parameters, supported_dtypes=wanted, weight_dtype=stored
    )
    if answer in wanted:
        return answer
    if mm.should_use_bf16(device, model_params=parameters):
        return torch.bfloat16
    return torch.float16 if mm.should_use_fp16(device, model_params=parameters) else torch.float32


def layers(is_fast: bool, device: torch.device) -> Any:
    """Return the layer classes for a model that is whole on the device, or streamed.

    A whole model is converted once; a streamed one keeps the file's mapped tensors and converts at each use.
    On a CPU nothing is moved, so a whole model there has torch's own layers, which the engine packs.
    """
    if not is_fast:
        return comfy.ops.manual_cast
    return nn if device.type == "cpu" else comfy.ops.disable_weight_init


def fits(needed: int, device: torch.device) -> bool:
    """Tell whether so many bytes may stay on a device."""
    return bool(needed <= _SHARE_OF_DEVICE * mm.get_total_memory(device))
