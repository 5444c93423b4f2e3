"""From a model folder to a `Janus` ready for use: device, dtype, weights in place.

Decides once where and in which dtype a model runs; everything below is told.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from dataclasses import replace
from typing import Literal

import torch

from .checkpoints.load import Checkpoint, assign_weights, read_checkpoint_and_model
from .errors import SamplingError
from .janus import Janus
from .model.layers import Operations
from .model.model import JanusModel, build_model
from .options import Compute
from .residency.placement import Placement

log = logging.getLogger("janus.loading")

DTypeName = Literal["auto", "float32", "bfloat16", "float16"]


def choose_device(device: str | torch.device) -> torch.device:
    """Return a device; "auto" prefers CUDA, then MPS, then the CPU.

    Raises:
        SamplingError: no such device here, or one without memory.
    """
    if device != "auto":
        try:
            chosen = torch.device(device)
            torch.empty(1, device=chosen).item()
        except (RuntimeError, AssertionError, ImportError) as error:
            raise SamplingError(
                f'The device "{device}" cannot be used: {error}. Use auto, cpu, cuda or mps.'
            ) from error
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(dtype: DTypeName | torch.dtype, device: torch.device) -> torch.dtype:
    """Return a dtype; "auto" is bfloat16 where the device has it natively, else float16, on CPUs float32."""
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1:
        return dtype
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise SamplingError(f'There is no dtype "{dtype}". Use auto, float32, bfloat16 or float16.')
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if _computes_bfloat16() else torch.float32
    return torch.float16


def _computes_bfloat16() -> bool:
    """Tell whether this CPU has instructions for bfloat16.

    oneDNN says yes on any x86 with AVX-512 and imitates what is missing there, slower than float32; torch is
    built without oneDNN on Apple's computers.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def load_janus(
    path: str | os.PathLike[str],
    *,
    dtype: DTypeName | torch.dtype = "auto",
    device: str | torch.device = "auto",
    operations: Operations | None = None,
) -> Janus:
    """Load a model folder of any published layout.

    Args:
        path: the folder, or the name of a bundled model.
        dtype: of seeing and language; weights already stored in it stay mapped from the file on a CPU, others
            are converted when a task first needs them. The VQ tokenizer runs in float32.
        device: "auto", "cpu", "cuda", "mps" or a torch device.
        operations: namespace of layer classes; default `torch.nn`.

    Raises:
        CheckpointError, ConfigError: the folder cannot be used. SamplingError: no such dtype or device.
    """
    started = time.perf_counter()
    place = choose_device(device)
    # A host's layers may stream their weights; torch's own stay where they are put.
    compute = Compute(device=place, dtype=choose_dtype(dtype, place), is_resident=operations is None)
    checkpoint, model = read_checkpoint_and_model(path)
    if operations is not None:
        model = build_model(checkpoint.config, operations)
    # Weights rest mapped from the file; each task brings its own to the device, in the dtype that runs.
    janus = assemble(
        checkpoint,
        model,
        compute,
        weights_on=torch.device("cpu") if compute.is_resident else place,
        weights_dtype=None if compute.is_resident else compute.dtype,
    )
    if compute.is_resident:
        janus = replace(janus, owner=Placement(janus.model, compute, janus.vq_dtype))
    log.info(
        "Janus: loaded %s in %s on %s in %.1f s",
        checkpoint.folder.name,
        str(compute.dtype).removeprefix("torch."),
        place,
        time.perf_counter() - started,
    )
    return janus


def assemble(
    checkpoint: Checkpoint,
    model: JanusModel,
    compute: Compute,
    *,
    weights_on: torch.device,
    weights_dtype: torch.dtype | None,
) -> Janus:
    """Give a built model its weights and return it ready for use.

    Args:
        checkpoint: what was read.
        model: as `build_model` makes it of its configuration.
        compute: where and in which dtype seeing and language run; the VQ tokenizer runs in float32.
        weights_on: where the weights rest; a host may move them to `compute.device` later.
        weights_dtype: of seeing and language, the VQ tokenizer's being float32; None keeps every tensor as it
            is mapped from the file, for layers that convert at each use.
    """
    weights = checkpoint.state_dict
    if weights_dtype is not None:
        weights = {
            name: tensor.to(weights_on, torch.float32 if name.startswith("vq_tokenizer.") else weights_dtype)
            for name, tensor in weights.items()
        }
    assign_weights(model, weights)
    return Janus(
        model=model,
        tokenizer=checkpoint.tokenizer,
        codebook=checkpoint.codebook,
        compute=compute,
        vq_dtype=torch.float32,
        guidance=checkpoint.guidance,
    )
