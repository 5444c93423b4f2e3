"""`inspect`: what a model folder, or one file, holds and what memory it needs, without loading it."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.folders import resolve_model
from ..checkpoints.layout import CheckpointFiles, find_files, read_optional_json
from ..checkpoints.load import read_checkpoint
from ..flow.flow_checkpoint import read_flow_checkpoint
from ..flow.flow_config import JanusFlowConfig
from ..flow.flow_memory import flow_draw_bytes
from ..model.config import JanusConfig, LanguageConfig
from ..model.kv_cache import kv_cache_bytes
from ..one_file import has_model_text
from ..quantised.weight import QuantisedWeight
from ..residency.memory import draw_bytes, stored_bytes, weight_bytes
from ..residency.parts import PARTS, Part, part_of, split_parts
from .models import chosen_model
from .terminal import report

_PROMPT_TOKENS = 128  # longer than most drawing prompts
_ROWS = 2  # one picture with guidance
_COMPUTED_IN = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def inspect(arguments: Namespace) -> None:
    """Print what a model folder holds."""
    found = describe(arguments.folder or chosen_model(arguments))
    shown = found | {"memory": [_memory_line(dtype, need) for dtype, need in found["memory"].items()]}
    width = max(map(len, shown))
    report(arguments, found, "\n".join(f"{key:<{width}}  {_readably(shown[key])}" for key in shown))


def _memory_line(dtype: str, need: dict[str, int]) -> str:
    parts = ", ".join(f"{what} {_size(count)}" for what, count in need.items())
    return f"{dtype}: {parts}"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _readably(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return ("; ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def describe(name_or_path: str) -> dict[str, Any]:
    """Return the facts about a model, in the order to print them.

    Raises:
        CheckpointError, ConfigError: the folder cannot be used.
    """
    files = find_files(resolve_model(name_or_path))
    if files.layout == "janusflow":
        return _describe_flow(files)
    with _remarks() as said:
        checkpoint = read_checkpoint(name_or_path)
    config, special = checkpoint.config, checkpoint.tokenizer.special
    counts = _count(checkpoint.state_dict, checkpoint.quantised, PARTS)
    uses_tokens = special.user is not None and special.assistant is not None and not config.old_roles
    return {
        **_files_line(files),
        "image size": config.vision.image_size,
        "image tokens": f"{config.num_image_tokens} drawn, {config.vision.num_patches} seen",
        "decoder": _decoder(config.language),
        "codebook": checkpoint.codebook,
        "parameters": counts,
        "stored as": _dtypes(checkpoint.state_dict, checkpoint.quantised),
        "memory": {
            name: _need(config, counts, checkpoint.quantised, dtype) for name, dtype in _COMPUTED_IN.items()
        },
        "special tokens": vars(special),
        "role words": "<|User|>, <|Assistant|>" if uses_tokens else "User, Assistant",
        "problems": [
            *_problems(files.folder, has_placeholder=special.image <= checkpoint.tokenizer.largest_id),
            *(text for text in said if "do_normalize" not in text),  # which is said above
        ],
    }


def _describe_flow(files: CheckpointFiles) -> dict[str, Any]:
    """Describe a JanusFlow folder, of which the lack of an image placeholder is no problem."""
    with _remarks() as said:
        checkpoint, model = read_flow_checkpoint(files.folder)
    config = checkpoint.config
    counts = _count(checkpoint.state_dict, checkpoint.quantised, split_parts(model))
    return {
        **_files_line(files),
        "image size": config.vision.image_size,
        "latents": f"{config.flow.latent_channels} × {config.latent_side} × {config.latent_side} drawn, "
        f"{config.num_latent_tokens} tokens; {config.vision.num_patches} seen",
        "decoder": _decoder(config.language),
        "parameters": counts,
        "stored as": _dtypes(checkpoint.state_dict, checkpoint.quantised),
        "memory": {
            name: _flow_need(config, stored_bytes(checkpoint.state_dict, checkpoint.quantised, dtype), dtype)
            for name, dtype in _COMPUTED_IN.items()
        },
        "special tokens": vars(checkpoint.tokenizer.special),
        "role words": "User, Assistant",
        "problems": [
            *_problems(files.folder, has_placeholder=True),
            *(text for text in said if "do_normalize" not in text),  # which is said above
        ],
    }


def _files_line(files: CheckpointFiles) -> dict[str, str]:
    return {
        "folder": str(files.folder),
        "layout": f"{files.layout}, {', '.join(path.name for path in files.weights)}",
    }


def _count(
    state_dict: dict[str, Tensor], quantised: dict[str, QuantisedWeight], parts: Iterable[Part]
) -> dict[str, int]:
    """Return the parameters of each part, and of all."""
    counts = dict.fromkeys(map(str, parts), 0)
    for name, tensor in state_dict.items():
        counts[part_of(name)] += tensor.numel()
    for name, weight in quantised.items():
        counts[part_of(name)] += prod(weight.shape)
    return {**counts, "total": sum(counts.values())}


def _decoder(language: LanguageConfig) -> dict[str, int]:
    return {
        "layers": language.num_hidden_layers,
        "width": language.hidden_size,
        "heads": language.num_attention_heads,
        "vocabulary": language.vocab_size,
        "context": language.max_position_embeddings,
    }


def _dtypes(state_dict: dict[str, Tensor], quantised: dict[str, QuantisedWeight]) -> list[str]:
    formats = Counter(weight.format.name for weight in quantised.values())
    plain = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state_dict.values()})
    return [*plain, *(f"{count} matrices in {name}" for name, count in formats.items())]


def _flow_need(config: JanusFlowConfig, weights: int, dtype: torch.dtype) -> dict[str, int]:
    """Return bytes: of the weights, of all that drawing one guided picture takes."""
    return {
        "weights": weights,
        "drawing": weights + flow_draw_bytes(config, _ROWS, _PROMPT_TOKENS, dtype),
    }


@contextmanager
def _remarks() -> Iterator[list[str]]:
    """Collect what reading a model remarks on."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage().removeprefix("Janus: "))  # type: ignore[method-assign]
    logger = logging.getLogger("janus")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def _need(
    config: JanusConfig, counts: dict[str, int], quantised: dict[str, QuantisedWeight], dtype: torch.dtype
) -> dict[str, int]:
    """Return bytes: of the weights, of one guided picture's KV cache, of all that drawing it takes."""
    plain = counts["total"] - sum(prod(weight.shape) for weight in quantised.values())
    weights = weight_bytes(config, plain, counts["vq_tokenizer"], dtype)
    weights += sum(weight.nbytes for weight in quantised.values())
    cache = kv_cache_bytes(config.language, _ROWS, _PROMPT_TOKENS + config.num_image_tokens, dtype)
    return {
        "weights": weights,
        "kv cache": cache,
        "drawing": weights + draw_bytes(config, 1, _PROMPT_TOKENS, dtype),
    }


def _problems(folder: Path, *, has_placeholder: bool) -> list[str]:
    problems = []
    if read_optional_json(folder / "preprocessor_config.json").get("do_normalize") is False:
        problems.append(
            "preprocessor_config.json says do_normalize false (an early copy); pixels are normalised anyway"
        )
    if not has_placeholder:
        problems.append(
            "the tokenizer has no image placeholder; the next free id stands in, which changes nothing"
        )
    if not any(
        has_model_text(folder / name) for name in ("preprocessor_config.json", "processor_config.json")
    ):
        problems.append("no preprocessor_config.json; the published values are used")
    return problems
