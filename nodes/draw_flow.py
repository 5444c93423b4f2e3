"""Janus Flow Draw draws latents with a JanusFlow model; Janus Flow Model hands one to core's samplers."""

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..janus_core import (
    SOLVERS,
    Compute,
    FlowDrawn,
    FlowOptions,
    FlowRow,
    JanusFlow,
    SamplingError,
    embed_rows,
    guided_away_from,
    prompt_row,
)
from .bridge.batching import in_batches
from .bridge.flow_sampling import TIME_POSITION, for_samplers
from .bridge.hosting import HostedJanus
from .bridge.images import to_latent
from .bridge.progress import FlowProgress
from .compat import schema, widget
from .types import JanusSocket
from .widgets import negative_prompt as negative_prompt_input
from .widgets import prompt as prompt_input
from .widgets import seed as seed_input

_OWN_NOISE, _CORE_NOISE = "per picture", "as KSampler"


def _prompt_inputs() -> list[Any]:
    return [
        JanusSocket.Input("model", tooltip="A JanusFlow model, from Load Janus."),
        prompt_input(),
        negative_prompt_input(),
    ]


class JanusFlowDraw(io.ComfyNode):
    """Draw latents from a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusFlowDraw",
            display_name="Janus Flow Draw (Text to Latent)",
            category="Janus",
            description="Draws with a JanusFlow model. The latents are those of SDXL: decode them with VAE "
            "Decode and an SDXL VAE, or go on with any node for latents.",
            search_aliases=[
                "text to image", "txt2img", "text to latent", "generate", "draw", "janusflow",
                "rectified flow", "janus", "deepseek",
            ],
            inputs=[
                *_prompt_inputs(),
                seed_input(),
                widget(
                    io.Int.Input, "batch_size", default=1, min=1, max=64,
                    tooltip="How many pictures.",
                ),
                widget(
                    io.Int.Input, "steps", default=30, min=1, max=1000,
                    tooltip="From noise to picture. More take longer and err less.",
                ),
                widget(
                    io.Combo.Input, "solver", options=list(SOLVERS), default="euler",
                    tooltip="euler is how the authors draw. midpoint and heun take twice the time a step and "
                    "come nearer to the exact path.",
                ),
                widget(
                    io.Float.Input, "cfg_weight", default=0.0, min=0.0, max=20.0, step=0.1, round=0.001,

                    tooltip="How strongly the prompt guides. 0 is what the model recommends: 2. 1 is off, "
                    "and twice as fast.",
                ),
                widget(
                    io.Combo.Input, "noise", options=[_OWN_NOISE, _CORE_NOISE], default=_OWN_NOISE,
                    advanced=True,
                    tooltip="per picture: picture k of a batch is the first picture of seed + k. as "
                    "KSampler: the noise that core's KSampler makes of the same seed.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latents", display_name="LATENT", tooltip="The pictures, for VAE Decode with an SDXL VAE."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: HostedJanus,
        prompt: str,
        negative_prompt: str = "",
        seed: int = 0,
        batch_size: int = 1,
        steps: int = 30,
        solver: str = "euler",
        cfg_weight: float = 0.0,
        noise: str = _OWN_NOISE,
    ) -> io.NodeOutput:
        """Draw the batch."""
        janus = model.flow("Janus Flow Draw")
        options = FlowOptions.from_numbers(steps=steps, solver=solver, cfg_weight=cfg_weight)
        begun = _noise(noise, seed, janus.latent_shape(batch_size))

        def attempt(together: int) -> FlowDrawn:
            progress = FlowProgress(cls.hidden.unique_id, janus.compute.device)
            return janus.draw(
                prompt, num_images=batch_size, seed=seed, negative_prompt=negative_prompt, options=options,
                batch_size=together, noise=begun, on_latents=progress.on_latents,
            )  # fmt: skip

        return io.NodeOutput({"samples": to_latent(in_batches(attempt, batch_size).latents)})


def _noise(kind: str, seed: int, shape: tuple[int, ...]) -> Tensor | None:
    """Return the noise to begin with, None for the engine's own.

    Raises:
        SamplingError: there is no such noise.
    """
    if kind == _OWN_NOISE:
        return None
    if kind != _CORE_NOISE:
        raise SamplingError(f'There is no noise "{kind}". Choose one of {_OWN_NOISE}, {_CORE_NOISE}.')
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


class JanusFlowModel(io.ComfyNode):
    """Hand a JanusFlow model and its prompts to core's samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusFlowModel",
            display_name="Janus Flow Model (for KSampler)",
            category="Janus",
            description="Makes a JanusFlow model a MODEL for KSampler and other samplers of core, with its "
            "prompts. The latents are those of SDXL, 48 × 48 for a picture of 384 × 384.",
            search_aliases=[
                "ksampler", "sampler", "text to image", "image to image", "janusflow", "rectified flow",
                "janus", "deepseek",
            ],
            inputs=_prompt_inputs(),
            outputs=[
                io.Model.Output(
                    "flow_model", display_name="MODEL", tooltip="For KSampler: cfg 2, scheduler normal."
                ),
                io.Conditioning.Output("positive", display_name="positive", tooltip="The prompt."),
                io.Conditioning.Output(
                    "negative", display_name="negative", tooltip="What the prompt is guided away from."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: HostedJanus, prompt: str, negative_prompt: str = "") -> io.NodeOutput:
        """Look up the words of both prompts."""
        janus = model.flow("Janus Flow Model")
        row = prompt_row(prompt, janus.tokenizer)
        away = guided_away_from(row, negative_prompt, janus.tokenizer)
        return io.NodeOutput(
            for_samplers(model.patcher), _conditioning(janus, row), _conditioning(janus, away)
        )


def _conditioning(janus: JanusFlow, row: FlowRow) -> list[Any]:
    """Return a row as core's conditioning: its embedded words, and where the time stands."""
    on_cpu = Compute(device=torch.device("cpu"), dtype=torch.float32)
    words = embed_rows(janus.model.language, [row], on_cpu).words
    return [[words, {TIME_POSITION: row.time_position}]]
