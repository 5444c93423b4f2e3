"""JanusFlow as a model that core's samplers run: KSampler and all that stand on it.

Core counts noise down from sigma 1 to 0 and asks for what the noise exceeds the picture by; JanusFlow counts
time up from 0 to 1000 and answers the opposite. A prompt arrives as conditioning: its embedded words, and the
position at which the time stands. Its keys and values are computed once a run and dropped at its end.
"""

from fractions import Fraction
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_sampling
import comfy.supported_models_base
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ...janus_core import (
    Compute,
    ImageError,
    JanusFlowModel,
    PreparedRows,
    PromptError,
    flow_draw_bytes,
    rows_of_one_length,
)

TIME_POSITION = "janus_time_position"
_KEPT = "janus_kept_prompts"
_WRAPPER = "janus_flow"
_TIMESTEPS = 1000
_LATEST = 999  # of the network's times; the last step of a schedule begins no later
_ROUNDING = 1.2e-7  # of a sigma near 1 in float32
_MOST_PARTS = 1000  # into which schedules divide the time evenly
_PROMPT_TOKENS = 128  # of a prompt that is longer than most


class FlowSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """The straight way from noise to picture.

    The smallest sigma counts as timestep 0, so that the even schedules of core (normal, sgm_uniform) end with
    the picture itself and their steps are those of Janus Flow Draw.
    """

    def timestep(self, sigma: Tensor) -> Tensor:
        """Return the timestep, 0 … 1000, of a sigma."""
        is_last = sigma <= self.sigma_min.to(sigma.device)
        return torch.where(is_last, torch.zeros_like(sigma), super().timestep(sigma))


class _Config(comfy.supported_models_base.BASE):
    """What core asks a model's configuration for."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - core's own attribute
    latent_format = comfy.latent_formats.SDXL


class KeptPrompts:
    """The prompts of one run of a sampler, each prefilled when first met."""

    def __init__(self) -> None:
        self._prepared: list[tuple[Tensor, int, PreparedRows]] = []

    def find(self, words: Tensor, time_position: int) -> PreparedRows | None:
        """Return rows prepared from the same words, if there are any."""
        for seen, position, prepared in self._prepared:
            if position == time_position and seen.shape == words.shape and torch.equal(seen, words):
                return prepared
        return None

    def keep(self, words: Tensor, time_position: int, prepared: PreparedRows) -> None:
        """Remember rows for the steps to come."""
        self._prepared.append((words, time_position, prepared))


class _Velocity(nn.Module):
    """What core calls at every step; its children are the weights that it needs on the device."""

    def __init__(self, model: JanusFlowModel, compute: Compute) -> None:
        super().__init__()
        self.layers = model.language.language_model.layers
        self.norm = model.language.language_model.norm
        self.flow = model.flow
        self.dtype = compute.dtype
        self._whole = (model,)  # in a tuple, so that words and seeing are no part of this module
        self._compute = compute

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        time_position: int,
        transformer_options: dict[str, Any],
        **_: Any,
    ) -> Tensor:
        """Return what the noise exceeds the picture by, for latents x (rows, 4, h, w)."""
        [model] = self._whole
        kept = transformer_options.get(_KEPT) or KeptPrompts()
        prepared = kept.find(context, time_position)
        if prepared is None:
            tokens = model.config.num_latent_tokens
            prompts = rows_of_one_length(context, time_position)
            prepared = PreparedRows(model, prompts, tokens, self._compute)
            kept.keep(context, time_position, prepared)
        encoded = model.flow.encode(x, network_times(timestep))
        return -prepared.velocities(encoded)


def network_times(timestep: Tensor) -> Tensor:
    """Return the network's times (rows,) float32 of core's timesteps (rows,).

    Core rounds sigma to float32, which near 1 is a thousand times coarser than what the network tells apart
    near its time 0. So where a sigma may stand for an even division of time, that is what it is taken for.
    """
    exact: dict[float, float] = {}
    values = timestep.tolist()
    for value in set(values):
        time = 1 - value / _TIMESTEPS
        even = Fraction(time).limit_denominator(_MOST_PARTS)
        is_even = abs(float(even) - time) <= _ROUNDING
        exact[value] = min(float(even) if is_even else time, _LATEST / _TIMESTEPS) * _TIMESTEPS
    return torch.tensor([exact[value] for value in values], dtype=torch.float32, device=timestep.device)


class FlowBaseModel(comfy.model_base.BaseModel):
    """The weights of a JanusFlow model that draw, with what core's samplers ask of a model."""

    def __init__(self, model: JanusFlowModel, compute: Compute) -> None:
        config = _Config({"disable_unet_model_creation": True})
        super().__init__(config, comfy.model_base.ModelType.FLOW)
        self.model_sampling = FlowSampling(config)
        self.diffusion_model = _Velocity(model, compute)
        self._flow_config = model.config
        self._compute = compute

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Pass on the words of a prompt, once they and the latents are known to be of this kind.

        Raises:
            PromptError: another model's conditioning. ImageError: latents of another shape.
        """
        words, noise, side = kwargs.get("cross_attn"), kwargs["noise"], self._flow_config.latent_side
        if TIME_POSITION not in kwargs or words is None:
            raise PromptError(
                "This conditioning was not made for JanusFlow. Connect positive and negative of Janus Flow "
                "Model; other text encoders do not fit."
            )
        if tuple(noise.shape[1:]) != (self._flow_config.flow.latent_channels, side, side):
            raise ImageError(
                f"The latents have shape {tuple(noise.shape)}; this JanusFlow model draws {side} × {side} of "
                f"{self._flow_config.flow.latent_channels} channels, a picture of {side * 8} × {side * 8}. "
                f"Use an empty latent or a picture of that size, and an SDXL VAE."
            )
        width = self._flow_config.language.hidden_size
        if words.shape[-1] != width:
            raise PromptError(
                f"This conditioning was made by another JanusFlow model: its words are {words.shape[-1]} "
                f"wide, this model's {width}. Connect positive and negative of one Janus Flow Model."
            )
        return {
            # core cuts and repeats other kinds of conditioning to bring prompts of different length together
            "c_crossattn": comfy.conds.CONDRegular(words),
            "time_position": comfy.conds.CONDConstant(kwargs[TIME_POSITION]),
        }

    def memory_required(self, input_shape: list[int], cond_shapes: Any = None) -> float:
        """Return the bytes that a step of so many rows takes beside the weights."""
        return flow_draw_bytes(self._flow_config, input_shape[0], _PROMPT_TOKENS, self._compute.dtype)


def keep_prompts(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a sampler with a memory for its prompts, and drop that whatever happens."""
    options = executor.class_obj.model_options["transformer_options"]
    options[_KEPT] = KeptPrompts()
    try:
        return executor(*args, **kwargs)
    finally:
        del options[_KEPT]


def for_samplers(patcher: Any) -> Any:
    """Return a MODEL for core's samplers that shares the weights of a patcher of a `FlowBaseModel`."""
    model = patcher.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _WRAPPER, keep_prompts)
    return model
