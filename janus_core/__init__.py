"""DeepSeek's Janus in plain PyTorch: one model that looks at pictures and draws them.

Public names are imported on first use, so that importing the package takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoints.folders import bundled_models, is_complete_folder, is_janus_folder, models_in
    from .checkpoints.load import Checkpoint, read_checkpoint
    from .downloads.download import DownloadPlan, plan_download, run_download
    from .downloads.pace import TransferPace
    from .downloads.published import PUBLISHED
    from .downloads.record import is_unfinished
    from .errors import (
        CheckpointError,
        ConfigError,
        DownloadError,
        ImageError,
        JanusError,
        OutputError,
        PromptError,
        SamplingError,
    )
    from .generation.answering import Answer
    from .generation.canvas import RedrawOptions
    from .generation.preview import TokenWatch, fit_code_colours, preview_image
    from .inputs.image_tokens import Drawn, ImageTokens
    from .inputs.preprocessing import to_uint8
    from .inputs.prompting import CAPTION_STYLES, CUSTOM_STYLE, SYSTEM_TEXT, caption_request
    from .inputs.turns import Turn
    from .janus import Janus
    from .loading import assemble, load_janus
    from .model.config import JanusConfig
    from .model.model import JanusModel, build_model
    from .options import Compute, DrawOptions, Guidance, TextOptions
    from .residency.memory import answer_bytes, decode_bytes, draw_bytes
    from .residency.parts import Part, Task, parts_for, split_parts

_ROOMS = {
    "Answer": "generation.answering",
    "CAPTION_STYLES": "inputs.prompting",
    "CUSTOM_STYLE": "inputs.prompting",
    "Checkpoint": "checkpoints.load",
    "CheckpointError": "errors",
    "Compute": "options",
    "ConfigError": "errors",
    "DownloadError": "errors",
    "DownloadPlan": "downloads.download",
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
    "PUBLISHED": "downloads.published",
    "Part": "residency.parts",
    "PromptError": "errors",
    "RedrawOptions": "generation.canvas",
    "SYSTEM_TEXT": "inputs.prompting",
    "SamplingError": "errors",
    "Task": "residency.parts",
    "TextOptions": "options",
    "TokenWatch": "generation.preview",
    "TransferPace": "downloads.pace",
    "Turn": "inputs.turns",
    "answer_bytes": "residency.memory",
    "assemble": "loading",
    "build_model": "model.model",
    "bundled_models": "checkpoints.folders",
    "caption_request": "inputs.prompting",
    "decode_bytes": "residency.memory",
    "draw_bytes": "residency.memory",
    "fit_code_colours": "generation.preview",
    "is_complete_folder": "checkpoints.folders",
    "is_janus_folder": "checkpoints.folders",
    "is_unfinished": "downloads.record",
    "load_janus": "loading",
    "models_in": "checkpoints.folders",
    "parts_for": "residency.parts",
    "plan_download": "downloads.download",
    "preview_image": "generation.preview",
    "read_checkpoint": "checkpoints.load",
    "run_download": "downloads.download",
    "split_parts": "residency.parts",
    "to_uint8": "inputs.preprocessing",
}

__all__ = [
    "Answer",
    "CAPTION_STYLES",
    "CUSTOM_STYLE",
    "Checkpoint",
    "CheckpointError",
    "Compute",
    "ConfigError",
    "DownloadError",
    "DownloadPlan",
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
    "PUBLISHED",
    "Part",
    "PromptError",
    "RedrawOptions",
    "SYSTEM_TEXT",
    "SamplingError",
    "Task",
    "TextOptions",
    "TokenWatch",
    "TransferPace",
    "Turn",
    "answer_bytes",
    "assemble",
    "build_model",
    "bundled_models",
    "caption_request",
    "decode_bytes",
    "draw_bytes",
    "fit_code_colours",
    "is_complete_folder",
    "is_janus_folder",
    "is_unfinished",
    "load_janus",
    "models_in",
    "parts_for",
    "plan_download",
    "preview_image",
    "read_checkpoint",
    "run_download",
    "split_parts",
    "to_uint8",
]


def __getattr__(name: str) -> object:
    """Import a public name from its room on first use."""
    if name not in _ROOMS:
        raise AttributeError(f"janus_core has no public name {name!r}")
    return getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
