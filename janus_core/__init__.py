"""DeepSeek's Janus in plain PyTorch: one model that looks at pictures and draws them.

Public names are imported when first used, so that importing the package costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoints.folders import bundled_models, is_janus_folder
    from .checkpoints.load import Checkpoint, read_checkpoint
    from .errors import (
        CheckpointError,
        ConfigError,
        ImageError,
        JanusError,
        OutputError,
        PromptError,
        SamplingError,
    )
    from .generation.answering import Answer
    from .generation.preview import decoded_preview, fit_code_colours, preview_image
    from .inputs.image_tokens import Drawn, ImageTokens
    from .inputs.preprocessing import to_uint8
    from .inputs.prompting import CAPTION_STYLES, SYSTEM_TEXT
    from .inputs.turns import Turn
    from .janus import Janus
    from .loading import assemble, load_janus
    from .model.config import JanusConfig
    from .model.model import JanusModel, build_model
    from .options import Compute, DrawOptions, Guidance, TextOptions
    from .residency.memory import answer_bytes, decode_bytes, draw_bytes

_ROOMS = {
    "Answer": "generation.answering",
    "CAPTION_STYLES": "inputs.prompting",
    "Checkpoint": "checkpoints.load",
    "CheckpointError": "errors",
    "Compute": "options",
    "ConfigError": "errors",
    "DrawOptions": "options",
    "Drawn": "inputs.image_tokens",
    "Guidance": "options",
    "ImageError": "errors",
    "ImageTokens": "inputs.image_tokens",
    "Janus": "janus",
    "JanusConfig": "model.config",
    "JanusError": "errors",
    "JanusModel": "model.model",
    "OutputError": "errors",
    "PromptError": "errors",
    "SYSTEM_TEXT": "inputs.prompting",
    "SamplingError": "errors",
    "TextOptions": "options",
    "Turn": "inputs.turns",
    "answer_bytes": "residency.memory",
    "assemble": "loading",
    "build_model": "model.model",
    "bundled_models": "checkpoints.folders",
    "decode_bytes": "residency.memory",
    "decoded_preview": "generation.preview",
    "draw_bytes": "residency.memory",
    "fit_code_colours": "generation.preview",
    "is_janus_folder": "checkpoints.folders",
    "load_janus": "loading",
    "preview_image": "generation.preview",
    "read_checkpoint": "checkpoints.load",
    "to_uint8": "inputs.preprocessing",
}

__all__ = [
    "Answer",
    "CAPTION_STYLES",
    "Checkpoint",
    "CheckpointError",
    "Compute",
    "ConfigError",
    "DrawOptions",
    "Drawn",
    "Guidance",
    "ImageError",
    "ImageTokens",
    "Janus",
    "JanusConfig",
    "JanusError",
    "JanusModel",
    "OutputError",
    "PromptError",
    "SYSTEM_TEXT",
    "SamplingError",
    "TextOptions",
    "Turn",
    "answer_bytes",
    "assemble",
    "build_model",
    "bundled_models",
    "decode_bytes",
    "decoded_preview",
    "draw_bytes",
    "fit_code_colours",
    "is_janus_folder",
    "load_janus",
    "preview_image",
    "read_checkpoint",
    "to_uint8",
]


def __getattr__(name: str) -> object:
    """Import a public name from its room on first use."""
    if name not in _ROOMS:
        raise AttributeError(f"janus_core has no public name {name!r}")
    return getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
