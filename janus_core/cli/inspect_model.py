"""`inspect`: what a model folder holds and needs, from its files and without memory for weights."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.folders import resolve_model
from ..checkpoints.layout import find_files, read_optional_json
from ..checkpoints.load import read_checkpoint
from ..model.config import JanusConfig
from ..model.kv_cache import kv_cache_bytes
from ..residency.memory import draw_bytes, weight_bytes
from ..residency.parts import PARTS, part_of
from .models import chosen_model
from .terminal import report

_PROMPT_TOKENS = 128  # of a drawing prompt that is longer than most
_ROWS = 2  # one picture with guidance


def inspect(arguments: Namespace) -> None:
    """Say what a model folder holds."""
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
    """Return what a person wants to know of a model, in the order to read it.

    Raises:
        CheckpointError, ConfigError: the folder cannot be used.
    """
    files = find_files(resolve_model(name_or_path))
    checkpoint = read_checkpoint(name_or_path)
    config, special = checkpoint.config, checkpoint.tokenizer.special
    counts = dict.fromkeys(map(str, PARTS), 0)
    for name, tensor in checkpoint.state_dict.items():
        counts[part_of(name)] += tensor.numel()
    total = sum(counts.values())
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in checkpoint.state_dict.values()})
    uses_tokens = special.user is not None and special.assistant is not None and not config.old_roles
    return {
        "folder": str(files.folder),
        "layout": f"{files.layout}, {', '.join(path.name for path in files.weights)}",
        "image size": config.vision.image_size,
        "image tokens": f"{config.num_image_tokens} drawn, {config.vision.num_patches} seen",
        "decoder": {
            "layers": config.language.num_hidden_layers,
            "width": config.language.hidden_size,
            "heads": config.language.num_attention_heads,
            "vocabulary": config.language.vocab_size,
            "context": config.language.max_position_embeddings,
        },
        "codebook": checkpoint.codebook,
        "parameters": {**counts, "total": total},
        "stored as": dtypes,
        "memory": {
            str(dtype).removeprefix("torch."): _need(config, counts, dtype)
            for dtype in (torch.float32, torch.bfloat16)
        },
        "special tokens": vars(special),
        "role words": "<|User|>, <|Assistant|>" if uses_tokens else "User, Assistant",
        "problems": _problems(files.folder, has_placeholder=special.image <= checkpoint.tokenizer.largest_id),
    }


def _need(config: JanusConfig, counts: dict[str, int], dtype: torch.dtype) -> dict[str, int]:
    """Return bytes: of the weights, of one guided picture's KV cache, of all that drawing it takes."""
    weights = weight_bytes(config, sum(counts.values()), counts["vq_tokenizer"], dtype)
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
    if not (folder / "preprocessor_config.json").exists() and not (folder / "processor_config.json").exists():
        problems.append("no preprocessor_config.json; the published values are used")
    return problems
