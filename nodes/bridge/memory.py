"""A model inside ComfyUI: four patchers that its memory manager may load, stream and evict.

*Seeing*, *language*, *words* (their table and the text head) and the *VQ tokenizer* are loaded as a task
needs them, each time with an honest estimate of what else the task will allocate. A drawing needs no words on
the device: the core looks up the few of a prompt where they rest. Of a 7B model that spares it 1.7 GB.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import comfy.model_management as mm
import comfy.model_patcher as mp
import comfy.ops
import torch
from comfy.cli_args import args
from torch import Tensor, nn

from ...janus_core import (
    Checkpoint,
    Compute,
    Janus,
    JanusModel,
    SamplingError,
    answer_bytes,
    assemble,
    build_model,
    decode_bytes,
    draw_bytes,
    fit_code_colours,
    read_checkpoint,
)

log = logging.getLogger("janus.memory")

Part = Literal["seeing", "language", "words", "vq_tokenizer"]
Residency = Literal["auto", "fast", "offload"]
Result = TypeVar("Result")

_SHARE_OF_DEVICE = 0.8
_DRAWN_TOGETHER = 4  # pictures whose needs decide whether a model may stay whole on the device
_TEMPLATE_TOKENS = 128  # what stands round the words of a person, and a few words
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class HostedJanus:
    """A loaded model as it travels along a JANUS link.

    Attributes:
        janus: the core's model; its layers come from ComfyUI.
        parts: one patcher per part.
        is_fast: meant to stay whole on the device; ComfyUI may have no room for that.
    """

    def __init__(self, janus: Janus, parts: dict[Part, mp.ModelPatcher], is_fast: bool) -> None:
        self.janus = janus
        self.parts = parts
        self.is_fast = is_fast
        self._code_colours: Tensor | None = None

    @property
    def patcher(self) -> mp.ModelPatcher:
        """The largest part: by this name ComfyUI recognises a value that holds a model."""
        return self.parts["language"]

    def get_models(self) -> list[mp.ModelPatcher]:
        """Return all patchers, for ComfyUI."""
        return list(self.parts.values())

    def code_colours(self) -> Tensor:
        """Return the preview's colour of every code, fitted when first asked for."""
        if self._code_colours is None:
            janus = self.janus
            self._code_colours = fit_code_colours(
                janus.model.vq_tokenizer, janus.vq_dtype, janus.compute.device
            )
        return self._code_colours

    def ready(self, *parts: Part, memory_required: int) -> Janus:
        """Have ComfyUI load parts, `memory_required` bytes free beside them; returns the core's model.

        What may be captured is decided anew for each execution, after loading.
        """
        mm.load_models_gpu([self.parts[part] for part in parts], memory_required=memory_required)
        # every part that a step runs: a graph keeps their addresses
        stepped: tuple[Part, ...] = ("language", "words") if "words" in parts else ("language",)
        compute = dataclasses.replace(
            self.janus.compute,
            is_resident=self.is_fast and all(_stays_in_place(self.parts[part]) for part in stepped),
        )
        return dataclasses.replace(self.janus, compute=compute)

    def ready_to_draw(self, batch_size: int, *prompts: str) -> Janus:
        """Load what drawing from prompts needs."""
        prompt = _TEMPLATE_TOKENS + max(
            (len(self.janus.tokenizer.encode(text)) for text in prompts), default=0
        )
        need = draw_bytes(self.janus.config, batch_size, prompt, self.janus.compute.dtype)
        return self.ready("language", "vq_tokenizer", memory_required=need)

    def ready_to_answer(self, rows: int, pictures: int, new_tokens: int, said: str = "") -> Janus:
        """Load what answering needs; `pictures` and `said` are those of one conversation."""
        config = self.janus.config
        prompt = _TEMPLATE_TOKENS + len(self.janus.tokenizer.encode(said))
        prompt += pictures * (config.vision.num_patches + 2)
        need = answer_bytes(config, rows, prompt, new_tokens, self.janus.compute.dtype)
        parts: tuple[Part, ...] = ("language", "words")
        if pictures:
            parts = ("seeing", *parts)
        return self.ready(*parts, memory_required=need)

    def ready_for_tokens(self, pictures: int) -> Janus:
        """Load what encoding and decoding need."""
        return self.ready("vq_tokenizer", memory_required=decode_bytes(self.janus.config, pictures))


def _stays_in_place(patcher: mp.ModelPatcher) -> bool:
    """Tell whether a loaded part is whole, unpatched and unstreamed, and ComfyUI allows CUDA graphs."""
    is_dynamic = getattr(patcher, "is_dynamic", lambda: False)()
    if getattr(args, "disable_cuda_graphs", False) or is_dynamic:
        return False
    if getattr(patcher.model, "model_lowvram", False):
        return False
    hooks = ("weight_function", "bias_function")
    return not any(getattr(layer, hook, ()) for layer in patcher.model.modules() for hook in hooks)


def host(folder: Path, dtype: str, residency: Residency) -> HostedJanus:
    """Read a model folder and wrap it for ComfyUI.

    Args:
        folder: in any published layout.
        dtype: "auto" asks ComfyUI, else the arithmetic to use.
        residency: fast keeps the model whole on the device where ComfyUI can make room, offload streams it,
            auto decides by size.

    Raises:
        CheckpointError, ConfigError: the folder cannot be used. SamplingError: no such dtype or residency.
    """
    _check_choice("dtype", dtype, ("auto", *_DTYPES))
    _check_choice("residency", residency, get_args(Residency))
    device = mm.get_torch_device()
    checkpoint = read_checkpoint(folder)
    parameters = sum(tensor.numel() for tensor in checkpoint.state_dict.values())
    stored = checkpoint.state_dict["language.language_model.embed_tokens.weight"].dtype
    compute = _DTYPES.get(dtype) or mm.unet_dtype(
        device=device,
        model_params=parameters,
        supported_dtypes=[torch.bfloat16, torch.float16, torch.float32],
        weight_dtype=stored,
    )
    is_fast = residency == "fast" or (
        residency == "auto" and _fits(checkpoint, parameters * compute.itemsize, compute, device)
    )
    operations = _layers(is_fast, device)
    model = build_model(checkpoint.config, operations)
    offload = mm.unet_offload_device()
    janus = assemble(
        checkpoint,
        model,
        Compute(device=device, dtype=compute),
        weights_on=offload,
        weights_dtype=compute if is_fast else None,
    )
    if hasattr(mm, "archive_model_dtypes"):  # paged weights come to the device in the dtype that it notes
        mm.archive_model_dtypes(model)
    patcher = mp.ModelPatcher if is_fast else getattr(mp, "CoreModelPatcher", mp.ModelPatcher)
    modules = split(model)
    if operations is nn:  # once it is packed the core has another text head, and nobody should keep this one
        del modules["words"].lm_head
    log.info(
        "Janus: %s ready, %.1f million parameters, %s, %s",
        folder.name,
        parameters / 1e6,
        str(compute).removeprefix("torch."),
        "whole on the device" if is_fast else "streamed",
    )
    return HostedJanus(
        janus,
        {name: patcher(part, load_device=device, offload_device=offload) for name, part in modules.items()},
        is_fast,
    )


def _layers(is_fast: bool, device: torch.device) -> Any:
    """Return the layer classes for a model that is whole on the device, or streamed.

    A whole model is converted once; a streamed one keeps the file's mapped tensors, converted at each use. On
    a CPU nothing is ever moved, so a whole model there has torch's own layers, which the core packs.
    """
    if not is_fast:
        return comfy.ops.manual_cast
    return nn if device.type == "cpu" else comfy.ops.disable_weight_init


def split(model: JanusModel) -> dict[Part, nn.Module]:
    """Return the parts of a model that are loaded separately; together they hold every weight once."""
    language, decoder = model.language, model.language.language_model
    return {
        "seeing": model.seeing,
        "language": nn.ModuleDict(
            {
                "layers": decoder.layers,
                "norm": decoder.norm,
                "image_token_embedding": language.image_token_embedding,
                "generation_aligner": language.generation_aligner,
                "generation_head": language.generation_head,
            }
        ),
        "words": nn.ModuleDict({"embed_tokens": decoder.embed_tokens, "lm_head": decoder.lm_head}),
        "vq_tokenizer": model.vq_tokenizer,
    }


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse what is not in a list: neither 0.3.64 nor a link checks a combo's value."""
    if value not in choices:
        raise SamplingError(f'There is no {name} "{value}". Choose one of {", ".join(choices)}.')


def _fits(checkpoint: Checkpoint, weights: int, dtype: torch.dtype, device: torch.device) -> bool:
    needed = weights + draw_bytes(checkpoint.config, _DRAWN_TOGETHER, _TEMPLATE_TOKENS, dtype)
    return bool(needed <= _SHARE_OF_DEVICE * mm.get_total_memory(device))


def in_batches(run: Callable[[int], Result], batch_size: int) -> Result:
    """Call `run(batch_size)`, and again with half of it whenever the device runs out of memory.

    Raises:
        SamplingError: a batch of one does not fit either.
    """
    while True:
        with contextlib.suppress(_OutOfMemory):
            return _without_oom(run, batch_size)
        mm.soft_empty_cache()  # outside the handler: the exception pins the tensors of the failed run
        if batch_size == 1:
            raise SamplingError(
                "The device ran out of memory even for one picture at a time. Choose residency offload or a "
                "smaller dtype in Load Janus, or close what else uses the device."
            )
        batch_size = (batch_size + 1) // 2
        log.warning("Janus: out of memory, going on with batches of %d", batch_size)


class _OutOfMemory(Exception):  # noqa: N818 - carries no message to anyone
    """The device ran out of memory; deliberately without the original, which holds tensors."""


def _without_oom(run: Callable[[int], Result], batch_size: int) -> Result:
    try:
        return run(batch_size)
    except mm.InterruptProcessingException:
        raise
    except Exception as error:
        if not _is_oom(error):
            raise
    raise _OutOfMemory


def _is_oom(error: Exception) -> bool:
    is_devices = mm.is_oom(error) if hasattr(mm, "is_oom") else isinstance(error, mm.OOM_EXCEPTION)
    return bool(is_devices) or "can't allocate memory" in str(error)  # what torch says of a CPU
