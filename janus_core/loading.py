"""From a model folder to a `Janus` or `JanusFlow` ready for use: chooses device and dtype, assigns weights.

Device and dtype are chosen here once; everything below gets them as arguments.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypedDict, TypeVar

import torch
from torch import nn

from .adapters.adapter_files import Adapters, read_adapters
from .adapters.changes import merge_into
from .checkpoints.folders import is_janusflow_folder, resolve_model
from .checkpoints.load import Checkpoint, assign_weights, read_checkpoint_and_model
from .errors import SamplingError
from .flow.flow_checkpoint import FlowCheckpoint, read_flow_checkpoint
from .flow.flow_model import JanusFlowModel, build_flow_model
from .janus import Janus
from .janus_flow import JanusFlow
from .model.layers import Operations
from .model.model import JanusModel, build_model
from .options import Compute, Lora
from .quantised.linear import put_into
from .residency.placement import Placement

log = logging.getLogger("janus.loading")

Loaded = TypeVar("Loaded", Janus, JanusFlow)
DTypeName = Literal["auto", "float32", "bfloat16", "float16"]


def choose_device(device: str | torch.device) -> torch.device:
    """Return a device; "auto" prefers CUDA, then MPS, then the CPU.

    Raises:
        SamplingError: no such device here, or one without memory.
    """
    if device != "auto":
        try:
            chosen = torch.device(device)
            torch.empty(1, device=chosen).item()  # a device that is only a name fails here ("meta" too)
        except (RuntimeError, AssertionError, ImportError) as error:
            raise SamplingError(
                f'The device "{device}" cannot be used: {_why_not(str(device), error)}. Use auto, cpu, '
                "cuda or mps."
            ) from error
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _why_not(device: str, error: Exception) -> str:
    """Return in a few words why a device cannot be used; torch writes pages about some."""
    if device.startswith("mps"):
        return "PyTorch has no MPS here, which takes a Mac with Apple's own processor"
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".")[:150]


def choose_dtype(dtype: DTypeName | torch.dtype, device: torch.device) -> torch.dtype:
    """Return a dtype; "auto" is bfloat16 where the device has it natively, else float16, on CPUs float32."""
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1:
        return dtype
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise SamplingError(f'There is no dtype "{dtype}". Use auto, float32, bfloat16 or float16.')
    if device.type == "cuda":  # older cards emulate bfloat16, slower than float16
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if _computes_bfloat16() else torch.float32
    return torch.float16  # MPS


def _computes_bfloat16() -> bool:
    """Tell whether this CPU has instructions for bfloat16.

    oneDNN reports support on any x86 with AVX-512 and emulates it where instructions are missing, slower than
    float32. Builds of torch for macOS have no oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
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
    loras: Sequence[Lora] = (),
) -> Janus | JanusFlow:
    """Load a model folder of any published layout; a JanusFlow folder gives a `JanusFlow`.

    Args:
        path: the folder, or the name of a bundled model.
        dtype: of seeing and language; on a CPU, weights stored in it stay mapped from the file, others are
            converted when a task first needs them. The VQ tokenizer computes in float32.
        device: "auto", "cpu", "cuda", "mps" or a torch device.
        operations: namespace of layer classes; default `torch.nn`.
        loras: adapters, merged into the weights when a task first needs them.

    Raises:
        CheckpointError, ConfigError: the folder or an adapter cannot be used. SamplingError: no such dtype
            or device.
    """
    if is_janusflow_folder(resolve_model(path)):
        return _timed(_load_flow, path, dtype, device, operations, loras)
    return load_autoregressive(path, dtype=dtype, device=device, operations=operations, loras=loras)


def load_autoregressive(
    path: str | os.PathLike[str],
    *,
    dtype: DTypeName | torch.dtype = "auto",
    device: str | torch.device = "auto",
    operations: Operations | None = None,
    loras: Sequence[Lora] = (),
) -> Janus:
    """Load a model folder as `load_janus`, for those who want image tokens; refuses a JanusFlow folder."""
    return _timed(_load_autoregressive, path, dtype, device, operations, loras)


def _timed(
    load: Callable[[Path, Compute, Operations | None, Sequence[Lora]], Loaded],
    path: str | os.PathLike[str],
    dtype: DTypeName | torch.dtype,
    device: str | torch.device,
    operations: Operations | None,
    loras: Sequence[Lora],
) -> Loaded:
    """Load a folder, having decided where and in which dtype it computes, and say how long it took."""
    started, folder = time.perf_counter(), resolve_model(path)
    place = choose_device(device)
    # Layers of a caller's own may stream their weights; torch's stay where they are put.
    compute = Compute(device=place, dtype=choose_dtype(dtype, place), is_resident=operations is None)
    loaded = load(folder, compute, operations, loras)
    log.info(
        "Janus: loaded %s in %s on %s in %.1f s",
        folder.name,
        str(compute.dtype).removeprefix("torch."),
        place,
        time.perf_counter() - started,
    )
    return loaded


def _load_autoregressive(
    folder: Path, compute: Compute, operations: Operations | None, loras: Sequence[Lora]
) -> Janus:
    checkpoint, model = read_checkpoint_and_model(folder)
    adapters = read_adapters(loras, shapes_of(model), folder.name)
    if operations is not None:
        model = build_model(checkpoint.config, operations)
    janus = assemble(checkpoint, model, compute, **_resting(compute))
    return _owned(janus, compute, janus.vq_dtype, adapters)


def _load_flow(
    folder: Path, compute: Compute, operations: Operations | None, loras: Sequence[Lora]
) -> JanusFlow:
    checkpoint, model = read_flow_checkpoint(folder)
    adapters = read_adapters(loras, shapes_of(model), folder.name)
    if operations is not None:
        model = build_flow_model(checkpoint.config, operations)
    janus = assemble_flow(checkpoint, model, compute, **_resting(compute))
    return _owned(janus, compute, compute.dtype, adapters)


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of all tensors of a built model, by our names."""
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _owned(janus: Loaded, compute: Compute, vq_dtype: torch.dtype, adapters: Adapters) -> Loaded:
    """Return a model with its adapters: merged by its owner, or at once into a host's layers."""
    janus = replace(janus, adapters=adapters.names)
    if compute.is_resident:
        return replace(janus, owner=Placement(janus.model, compute, vq_dtype, adapters.stack))
    merge_into(janus.model, adapters.stack)
    return janus


class _Resting(TypedDict):
    weights_on: torch.device
    weights_dtype: torch.dtype | None


def _resting(compute: Compute) -> _Resting:
    """Say where weights rest: mapped from the file, and each task brings its own to the device.

    A host's layers get them at once, in the dtype that runs.
    """
    if compute.is_resident:
        return {"weights_on": torch.device("cpu"), "weights_dtype": None}
    return {"weights_on": compute.device, "weights_dtype": compute.dtype}


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
        model: from `build_model`, with the checkpoint's configuration.
        compute: device and dtype of seeing and language; the VQ tokenizer computes in float32.
        weights_on: where the weights rest; a host may move them to `compute.device` later.
        weights_dtype: of the weights of seeing and language, while the VQ tokenizer's are float32; None keeps
            every tensor as mapped from the file, for layers that convert at each use.
    """
    weights = checkpoint.state_dict
    put_into(model, checkpoint.quantised, weights_on)
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
        name=checkpoint.folder.name,
    )


def assemble_flow(
    checkpoint: FlowCheckpoint,
    model: JanusFlowModel,
    compute: Compute,
    *,
    weights_on: torch.device,
    weights_dtype: torch.dtype | None,
) -> JanusFlow:
    """Give a built JanusFlow model its weights and return it ready for use; see `assemble`."""
    weights = checkpoint.state_dict
    put_into(model, checkpoint.quantised, weights_on)
    if weights_dtype is not None:
        weights = {name: tensor.to(weights_on, weights_dtype) for name, tensor in weights.items()}
    assign_weights(model, weights)
    return JanusFlow(
        model=model,
        tokenizer=checkpoint.tokenizer,
        compute=compute,
        cfg_weight=checkpoint.cfg_weight,
        name=checkpoint.folder.name,
    )
