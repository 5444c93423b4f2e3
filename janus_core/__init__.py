"""DeepSeek's Janus in plain PyTorch: one model that looks at pictures and draws them.

Public names are imported on first use, so that importing the package takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adapters.adapter_files import Adapter, adapter_files, described, read_adapter, read_adapters
    from .adapters.changes import LowRank, Stack, Whole, merge_into
    from .captions.caption_files import Caption, Existing, Sidecars
    from .captions.caption_run import CaptionRun, CaptionTask, CaptionWatch, Survey, survey
    from .captions.finding import find_pictures
    from .checkpoints.folders import (
        bundled_models,
        is_complete_folder,
        is_janus_folder,
        is_janusflow_folder,
        models_in,
    )
    from .checkpoints.load import Checkpoint, read_checkpoint
    from .converting.convert import Conversion, convert
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
        PromptTooLongError,
        SamplingError,
    )
    from .flow.flow_checkpoint import FlowCheckpoint, read_flow_checkpoint
    from .flow.flow_config import JanusFlowConfig
    from .flow.flow_memory import flow_draw_bytes
    from .flow.flow_model import JanusFlowModel, build_flow_model
    from .flow.flow_noise import normal_noise
    from .flow.flow_options import FlowOptions
    from .flow.flow_prompts import FlowRow, guided_away_from, prompt_row
    from .flow.latents import SCALING, FlowDrawn
    from .flow.solvers import SOLVERS
    from .flow.velocity import PreparedRows, embed_rows, rows_of_one_length
    from .generation.answering import Answer
    from .generation.canvas import RedrawOptions
    from .generation.choosing import Choice
    from .generation.endings import is_finished
    from .generation.preview import TokenWatch, fit_code_colours, preview_image
    from .generation.scoring import SCORE_QUESTION, Score, best_first
    from .generation.sketch import Sketch
    from .inputs.caption_styles import CaptionRequest, read_presets, request_for, style_names
    from .inputs.carried_tokens import (
        TOKENS_NOTE,
        CarriedTokens,
        carried_by,
        pixel_fingerprint,
        write_note,
    )
    from .inputs.image_tokens import Drawn, ImageTokens
    from .inputs.pictures import check_picture, read_picture
    from .inputs.preprocessing import to_uint8
    from .inputs.prompting import CAPTION_STYLES, CUSTOM_STYLE, SYSTEM_TEXT, caption_request
    from .inputs.turns import Chat, Turn
    from .janus import Janus
    from .janus_flow import JanusFlow
    from .loading import assemble, assemble_flow, load_autoregressive, load_janus, shapes_of
    from .model.config import JanusConfig
    from .model.model import JanusModel, build_model
    from .one_file import has_model_text, read_model_text
    from .options import Compute, DrawOptions, Guidance, LayerRunner, Lora, TextOptions
    from .residency.memory import (
        VQ_TOGETHER,
        answer_bytes,
        count_parameters,
        decode_bytes,
        draw_bytes,
        stored_bytes,
    )
    from .residency.parts import Part, Task, part_of, parts_for, split_parts


_ROOMS = {
    "Adapter": "adapters.adapter_files",
    "Answer": "generation.answering",
    "CAPTION_STYLES": "inputs.prompting",
    "CUSTOM_STYLE": "inputs.prompting",
    "Caption": "captions.caption_files",
    "CaptionRequest": "inputs.caption_styles",
    "CaptionRun": "captions.caption_run",
    "CaptionTask": "captions.caption_run",
    "CaptionWatch": "captions.caption_run",
    "CarriedTokens": "inputs.carried_tokens",
    "Chat": "inputs.turns",
    "Checkpoint": "checkpoints.load",
    "CheckpointError": "errors",
    "Choice": "generation.choosing",
    "Compute": "options",
    "ConfigError": "errors",
    "Conversion": "converting.convert",
    "DownloadError": "errors",
    "DownloadPlan": "downloads.download",
    "DrawOptions": "options",
    "Drawn": "inputs.image_tokens",
    "Existing": "captions.caption_files",
    "FlowCheckpoint": "flow.flow_checkpoint",
    "FlowDrawn": "flow.latents",
    "FlowOptions": "flow.flow_options",
    "FlowRow": "flow.flow_prompts",
    "Guidance": "options",
    "ImageError": "errors",
    "ImageTokens": "inputs.image_tokens",
    "Janus": "janus",
    "JanusConfig": "model.config",
    "JanusError": "errors",
    "JanusFlow": "janus_flow",
    "JanusFlowConfig": "flow.flow_config",
    "JanusFlowModel": "flow.flow_model",
    "JanusModel": "model.model",
    "LayerRunner": "options",
    "Lora": "options",
    "LowRank": "adapters.changes",
    "OutputError": "errors",
    "PUBLISHED": "downloads.published",
    "Part": "residency.parts",
    "PreparedRows": "flow.velocity",
    "PromptError": "errors",
    "PromptTooLongError": "errors",
    "RedrawOptions": "generation.canvas",
    "SCALING": "flow.latents",
    "SCORE_QUESTION": "generation.scoring",
    "SOLVERS": "flow.solvers",
    "SYSTEM_TEXT": "inputs.prompting",
    "SamplingError": "errors",
    "Score": "generation.scoring",
    "Sidecars": "captions.caption_files",
    "Sketch": "generation.sketch",
    "Stack": "adapters.changes",
    "Survey": "captions.caption_run",
    "TOKENS_NOTE": "inputs.carried_tokens",
    "Task": "residency.parts",
    "TextOptions": "options",
    "TokenWatch": "generation.preview",
    "TransferPace": "downloads.pace",
    "Turn": "inputs.turns",
    "VQ_TOGETHER": "residency.memory",
    "Whole": "adapters.changes",
    "adapter_files": "adapters.adapter_files",
    "answer_bytes": "residency.memory",
    "assemble": "loading",
    "assemble_flow": "loading",
    "best_first": "generation.scoring",
    "build_flow_model": "flow.flow_model",
    "build_model": "model.model",
    "bundled_models": "checkpoints.folders",
    "caption_request": "inputs.prompting",
    "carried_by": "inputs.carried_tokens",
    "check_picture": "inputs.pictures",
    "convert": "converting.convert",
    "count_parameters": "residency.memory",
    "decode_bytes": "residency.memory",
    "described": "adapters.adapter_files",
    "draw_bytes": "residency.memory",
    "embed_rows": "flow.velocity",
    "find_pictures": "captions.finding",
    "fit_code_colours": "generation.preview",
    "flow_draw_bytes": "flow.flow_memory",
    "guided_away_from": "flow.flow_prompts",
    "has_model_text": "one_file",
    "is_complete_folder": "checkpoints.folders",
    "is_finished": "generation.endings",
    "is_janus_folder": "checkpoints.folders",
    "is_janusflow_folder": "checkpoints.folders",
    "is_unfinished": "downloads.record",
    "load_autoregressive": "loading",
    "load_janus": "loading",
    "merge_into": "adapters.changes",
    "models_in": "checkpoints.folders",
    "normal_noise": "flow.flow_noise",
    "part_of": "residency.parts",
    "parts_for": "residency.parts",
    "pixel_fingerprint": "inputs.carried_tokens",
    "plan_download": "downloads.download",
    "preview_image": "generation.preview",
    "prompt_row": "flow.flow_prompts",
    "read_adapter": "adapters.adapter_files",
    "read_adapters": "adapters.adapter_files",
    "read_checkpoint": "checkpoints.load",
    "read_flow_checkpoint": "flow.flow_checkpoint",
    "read_model_text": "one_file",
    "read_picture": "inputs.pictures",
    "read_presets": "inputs.caption_styles",
    "request_for": "inputs.caption_styles",
    "rows_of_one_length": "flow.velocity",
    "run_download": "downloads.download",
    "shapes_of": "loading",
    "split_parts": "residency.parts",
    "stored_bytes": "residency.memory",
    "style_names": "inputs.caption_styles",
    "survey": "captions.caption_run",
    "to_uint8": "inputs.preprocessing",
    "write_note": "inputs.carried_tokens",
}

__all__ = [
    "Adapter",
    "Answer",
    "CAPTION_STYLES",
    "CUSTOM_STYLE",
    "Caption",
    "CaptionRequest",
    "CaptionRun",
    "CaptionTask",
    "CaptionWatch",
    "CarriedTokens",
    "Chat",
    "Checkpoint",
    "CheckpointError",
    "Choice",
    "Compute",
    "ConfigError",
    "Conversion",
    "DownloadError",
    "DownloadPlan",
    "DrawOptions",
    "Drawn",
    "Existing",
    "FlowCheckpoint",
    "FlowDrawn",
    "FlowOptions",
    "FlowRow",
    "Guidance",
    "ImageError",
    "ImageTokens",
    "Janus",
    "JanusConfig",
    "JanusError",
    "JanusFlow",
    "JanusFlowConfig",
    "JanusFlowModel",
    "JanusModel",
    "LayerRunner",
    "Lora",
    "LowRank",
    "OutputError",
    "PUBLISHED",
    "Part",
    "PreparedRows",
    "PromptError",
    "PromptTooLongError",
    "RedrawOptions",
    "SCALING",
    "SCORE_QUESTION",
    "SOLVERS",
    "SYSTEM_TEXT",
    "SamplingError",
    "Score",
    "Sidecars",
    "Sketch",
    "Stack",
    "Survey",
    "TOKENS_NOTE",
    "Task",
    "TextOptions",
    "TokenWatch",
    "TransferPace",
    "Turn",
    "VQ_TOGETHER",
    "Whole",
    "adapter_files",
    "answer_bytes",
    "assemble",
    "assemble_flow",
    "best_first",
    "build_flow_model",
    "build_model",
    "bundled_models",
    "caption_request",
    "carried_by",
    "check_picture",
    "convert",
    "count_parameters",
    "decode_bytes",
    "described",
    "draw_bytes",
    "embed_rows",
    "find_pictures",
    "fit_code_colours",
    "flow_draw_bytes",
    "guided_away_from",
    "has_model_text",
    "is_complete_folder",
    "is_finished",
    "is_janus_folder",
    "is_janusflow_folder",
    "is_unfinished",
    "load_autoregressive",
    "load_janus",
    "merge_into",
    "models_in",
    "normal_noise",
    "part_of",
    "parts_for",
    "pixel_fingerprint",
    "plan_download",
    "preview_image",
    "prompt_row",
    "read_adapter",
    "read_adapters",
    "read_checkpoint",
    "read_flow_checkpoint",
    "read_model_text",
    "read_picture",
    "read_presets",
    "request_for",
    "rows_of_one_length",
    "run_download",
    "shapes_of",
    "split_parts",
    "stored_bytes",
    "style_names",
    "survey",
    "to_uint8",
    "write_note",
]


def __getattr__(name: str) -> object:
    """Import a public name from its room on first use."""
    if name not in _ROOMS:
        raise AttributeError(f"janus_core has no public name {name!r}")
    return getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
