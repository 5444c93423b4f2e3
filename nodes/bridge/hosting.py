"""A model inside ComfyUI: patchers own its weights, which ComfyUI's memory manager loads, streams and evicts.

There is one patcher for each part. The engine names the tasks and the bytes they take beside the weights; its
table of parts says which patchers these tasks need; ComfyUI makes room for both.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import comfy.model_management as mm
import comfy.model_patcher as mp
import torch
from comfy.cli_args import args
from torch import Tensor, nn

from ...janus_core import (
    CheckpointError,
    Compute,
    Janus,
    JanusFlow,
    Lora,
    Part,
    SamplingError,
    Stack,
    Task,
    assemble,
    assemble_flow,
    build_flow_model,
    build_model,
    count_parameters,
    draw_bytes,
    fit_code_colours,
    flow_draw_bytes,
    is_janusflow_folder,
    merge_into,
    parts_for,
    read_adapters,
    read_checkpoint,
    read_flow_checkpoint,
    split_parts,
    stored_bytes,
)
from . import devices, paging, quantised
from .flow_sampling import FlowBaseModel
from .remarks import World, read_world

log = logging.getLogger("janus.hosting")

Residency = Literal["auto", "fast", "offload"]

_DRAWN_TOGETHER = 4  # pictures; drawing so many has to fit beside a model that stays whole on the device
_PROMPT_TOKENS = 128  # longer than most drawing prompts
_CAPTURED: tuple[Task, ...] = ("answer", "draw")  # tasks whose steps may be captured as CUDA graphs
_NO_NEW_WORDS = (
    '"{}" is quantised, and an adapter that changes the word table cannot be put on a quantised model. '
    "Choose the original model in Load Janus."
)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Patchers:
    """The engine's `WeightOwner` inside ComfyUI: a patcher for every part.

    Attributes:
        parts: the patchers.
        is_fast: the model should stay whole on the device, if ComfyUI has room.
    """

    def __init__(self, parts: dict[Part, mp.ModelPatcher], compute: Compute, is_fast: bool) -> None:
        self.parts = parts
        self.is_fast = is_fast
        self._compute = compute

    def ready(self, *tasks: Task, memory_required: int) -> Compute:
        """Have ComfyUI load the parts that tasks need, with `memory_required` bytes free beside them.

        Each time, after loading, this decides whether steps may be captured: a graph holds the addresses of
        all weights that a step reads, so their parts must be loaded whole and must not move.
        """
        # one call for all parts: separate ones might evict the first for the last
        mm.load_models_gpu([self.parts[part] for part in parts_for(*tasks)], memory_required=memory_required)
        stepped = parts_for(*(task for task in tasks if task in _CAPTURED))
        is_resident = self.is_fast and all(_stays_in_place(self.parts[part]) for part in stepped)
        runner = paging.runner_for(self.parts["language"], self._compute.device)
        return dataclasses.replace(self._compute, is_resident=is_resident, runner=runner)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a hosted model came from, so that it can be made again with other weights.

    Attributes:
        folder: of its files.
        dtype: as a person chose it.
        residency: likewise.
        is_packed: the engine packs its matrices, which then have no place for a host's patches.
    """

    folder: Path
    dtype: str
    residency: Residency
    is_packed: bool


class HostedJanus:
    """A loaded model of either kind as it travels along a JANUS link.

    It refers to the engine's model, which refers to the patchers. Nothing refers back, so that dropping the
    link frees the weights at once.

    Attributes:
        janus: the engine's model, with layers of ComfyUI's classes and the patchers as owner of its weights.
        origin: where it came from.
        loras: the adapters on top, in the order they were put there.
        world: what it knows, if that is a small world only.
    """

    def __init__(
        self,
        janus: Janus | JanusFlow,
        patchers: Patchers,
        origin: Origin,
        loras: Sequence[Lora] = (),
        world: World | None = None,
    ) -> None:
        self.janus: Janus | JanusFlow = dataclasses.replace(janus, owner=patchers)
        self.origin = origin
        self.loras = tuple(loras)
        self.world = world
        self._patchers = patchers
        self._code_colours: Tensor | None = None

    def __str__(self) -> str:
        """Return name, dtype and device, as core's "Preview as Text" shows them."""
        return str(self.janus)

    def on_top(self, loras: Sequence[Lora], parts: dict[Part, mp.ModelPatcher], name: str) -> "HostedJanus":
        """Return this model with one adapter more, whose patches are in `parts`.

        Both share their modules: whichever computes has ComfyUI put its own patches in place first.
        """
        janus = dataclasses.replace(self.janus, adapters=(*self.janus.adapters, name))
        patchers = Patchers(parts, self.janus.compute, self._patchers.is_fast)
        return HostedJanus(janus, patchers, self.origin, loras, self.world)

    def autoregressive(self, node: str) -> Janus:
        """Return the engine's model for a node that works with image tokens.

        Raises:
            CheckpointError: it is a JanusFlow model, which has none.
        """
        if isinstance(self.janus, JanusFlow):
            raise CheckpointError(
                f"{node} works with image tokens, and this is a JanusFlow model, which draws latents. Use "
                "Janus Flow Draw, or choose an autoregressive model in Load Janus, for example Janus-Pro-1B."
            )
        return self.janus

    def flow(self, node: str) -> JanusFlow:
        """Return the engine's model for a node that draws latents.

        Raises:
            CheckpointError: it is an autoregressive model.
        """
        if isinstance(self.janus, JanusFlow):
            return self.janus
        raise CheckpointError(
            f"{node} needs a JanusFlow model, and this is an autoregressive Janus, which draws image tokens. "
            "Use Janus Draw, or choose JanusFlow-1.3B in Load Janus."
        )

    @property
    def parts(self) -> dict[Part, mp.ModelPatcher]:
        """The patcher of every part."""
        return self._patchers.parts

    @property
    def patcher(self) -> mp.ModelPatcher:
        """The largest part. ComfyUI recognises values that hold a model by this attribute."""
        return self.parts["language"]

    def get_models(self) -> list[mp.ModelPatcher]:
        """Return all patchers, for ComfyUI."""
        return list(self.parts.values())

    def code_colours(self) -> Tensor:
        """Return the preview's colour of every code (v, 3), fitted on first use."""
        if self._code_colours is None:
            janus = self.autoregressive("A preview of image tokens")
            self._code_colours = fit_code_colours(
                janus.model.vq_tokenizer, janus.vq_dtype, janus.compute.device
            )
        return self._code_colours


def _stays_in_place(patcher: mp.ModelPatcher) -> bool:
    """Tell whether a loaded part is whole and unstreamed, its patches merged, and ComfyUI allows graphs."""
    is_dynamic = getattr(patcher, "is_dynamic", lambda: False)()  # pages weights in and out by itself
    if getattr(args, "disable_cuda_graphs", False) or is_dynamic:
        return False
    if getattr(patcher.model, "model_lowvram", False):
        return False
    hooks = ("weight_function", "bias_function")  # lists of patches applied at each use
    return not any(getattr(layer, hook, ()) for layer in patcher.model.modules() for hook in hooks)


def host(
    folder: Path,
    dtype: str,
    residency: Residency,
    loras: Sequence[Lora] = (),
    base: HostedJanus | None = None,
) -> HostedJanus:
    """Read a model folder, or a model in one file, and wrap it for ComfyUI.

    Args:
        folder: in any published layout, or the file.
        dtype: of the arithmetic; "auto" asks ComfyUI.
        residency: fast keeps the model whole on the device if ComfyUI can make room, offload streams it, auto
            decides by size.
        loras: adapters to merge into the weights at once; what is put on later is patched.
        base: the same model with fewer adapters, whose other weights are shared where both are converted.

    Raises:
        CheckpointError, ConfigError: folder or adapter cannot be used. SamplingError: a choice that is none.
    """
    _check_choice("dtype", dtype, ("auto", *_DTYPES))
    _check_choice("residency", residency, get_args(Residency))
    device = mm.get_torch_device()
    kind = _FLOW if is_janusflow_folder(folder) else _AUTOREGRESSIVE
    checkpoint = kind.read(folder)
    if loras and checkpoint.quantised:
        raise CheckpointError(_NO_NEW_WORDS.format(folder.name))
    shapes = {name: tensor.shape for name, tensor in checkpoint.state_dict.items()}
    adapters = read_adapters(loras, shapes, folder.name)
    parameters = count_parameters(checkpoint.state_dict, checkpoint.quantised)
    stored = checkpoint.state_dict["language.language_model.embed_tokens.weight"].dtype
    compute = _DTYPES.get(dtype) or devices.arithmetic(device, parameters, stored)
    weights = stored_bytes(checkpoint.state_dict, checkpoint.quantised, compute)
    need = weights + kind.draw_bytes(checkpoint.config, compute)
    is_fast = residency == "fast" or (residency == "auto" and devices.fits(need, device))
    is_quantised = bool(checkpoint.quantised)
    operations = (
        quantised.layers(checkpoint, compute, device) if is_quantised else devices.layers(is_fast, device)
    )
    checkpoint = quantised.as_core_takes_it(checkpoint)
    model = kind.build(checkpoint.config, operations)
    if base is not None and operations is nn:
        checkpoint = _sharing(checkpoint, base.janus.model, adapters.stack)
    offload = mm.unet_offload_device()
    janus = kind.assemble(
        checkpoint,
        model,
        Compute(device=device, dtype=compute),
        weights_on=offload,
        weights_dtype=compute if is_fast and not is_quantised else None,
    )
    merge_into(model, adapters.stack)
    janus = dataclasses.replace(janus, adapters=adapters.names)
    if hasattr(mm, "archive_model_dtypes"):  # paged weights are converted to the dtype that it records
        mm.archive_model_dtypes(model)
    patcher = mp.ModelPatcher if is_fast else getattr(mp, "CoreModelPatcher", mp.ModelPatcher)
    modules = _modules(model, janus.compute, is_flow=kind is _FLOW, is_packed=operations is nn)
    log.info(
        "Janus: %s ready, %.1f million parameters, %s, %s",
        folder.name,
        parameters / 1e6,
        str(compute).removeprefix("torch."),
        "whole on the device" if is_fast else "streamed",
    )
    parts = {
        name: patcher(part, load_device=device, offload_device=offload) for name, part in modules.items()
    }
    origin = Origin(folder=folder, dtype=dtype, residency=residency, is_packed=operations is nn)
    patchers = Patchers(parts, janus.compute, is_fast)
    return HostedJanus(janus, patchers, origin, loras, read_world(folder))


def _modules(model: Any, compute: Compute, *, is_flow: bool, is_packed: bool) -> dict[Part, nn.Module]:
    """Return what each part's patcher owns."""
    modules: dict[Part, nn.Module] = {**split_parts(model)}
    if is_flow:  # what draws is also the MODEL of core's samplers, so that both share their weights
        modules["language"] = FlowBaseModel(model, compute)
    elif paging.IS_WANTED:
        modules["language"] = paging.UnitsOfLayers(dict(modules["language"].named_children()))
    if is_packed:  # packing replaces the text head; a patcher would keep the unpacked one alive
        del modules["words"].lm_head
    return modules


def _sharing(checkpoint: Any, model: nn.Module, stack: Stack) -> Any:
    """Return a checkpoint that takes unchanged tensors from a model that has them converted already."""
    there = {name: tensor.detach() for name, tensor in model.named_parameters() if name not in stack}
    weights = {name: there.get(name, tensor) for name, tensor in checkpoint.state_dict.items()}
    return dataclasses.replace(checkpoint, state_dict=weights)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
    """What differs between the kinds of models while one is read and built."""

    read: Callable[[Path], Any]
    build: Callable[..., Any]
    assemble: Callable[..., Any]
    draw_bytes: Callable[[Any, torch.dtype], int]


_AUTOREGRESSIVE = _Kind(
    read=read_checkpoint,
    build=build_model,
    assemble=assemble,
    draw_bytes=lambda config, dtype: draw_bytes(config, _DRAWN_TOGETHER, _PROMPT_TOKENS, dtype),
)
_FLOW = _Kind(
    read=lambda folder: read_flow_checkpoint(folder)[0],
    build=build_flow_model,
    assemble=assemble_flow,
    draw_bytes=lambda config, dtype: flow_draw_bytes(config, 2 * _DRAWN_TOGETHER, _PROMPT_TOKENS, dtype),
)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise SamplingError for a value that is not in a list; ComfyUI does not check values from links."""
    if value not in choices:
        raise SamplingError(f'There is no {name} "{value}". Choose one of {", ".join(choices)}.')
