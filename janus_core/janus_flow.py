"""JanusFlow, what a person holds of the sibling that draws by rectified flow.

It converses as the others do. A drawing ends in latents, of which a VAE makes pictures. Public methods run
under `torch.inference_mode()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .conversing import Conversing
from .flow.flow_config import JanusFlowConfig
from .flow.flow_memory import flow_draw_bytes
from .flow.flow_model import JanusFlowModel
from .flow.flow_noise import normal_noise
from .flow.flow_options import FLOW_CFG_WEIGHT, FlowOptions
from .flow.flow_prompts import FlowPlan, plan_flow_pictures
from .flow.latents import SCALING, FlowDrawn, check_latents
from .flow.solvers import integrate
from .flow.velocity import GuidedVelocity
from .generation.batches import batched
from .options import Compute, check_count, seed_range


class OnLatents(Protocol):
    """Called after each step; may raise to interrupt."""

    def __call__(self, done: int, total: int, latents: Tensor) -> None:
        """Receive how far a drawing is.

        Args:
            done: steps done.
            total: steps of all batches.
            latents: (b, 4, h, w) of the batch being drawn, as the model has them, not to be changed; a VAE
                decodes them divided by `SCALING`.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class JanusFlow(Conversing):
    """A loaded JanusFlow model with everything needed to use it.

    Attributes:
        model: as in `LoadedModel`, which has further attributes.
        cfg_weight: the guidance that the model's makers recommend; taken where a caller asks for none.
    """

    model: JanusFlowModel
    cfg_weight: float = FLOW_CFG_WEIGHT

    @property
    def config(self) -> JanusFlowConfig:
        """The architecture."""
        return self.model.config

    def latent_shape(self, pictures: int) -> tuple[int, int, int, int]:
        """Return the shape (b, c, h, w) of the latents of so many pictures."""
        side = self.config.latent_side
        return pictures, self.config.flow.latent_channels, side, side

    @torch.inference_mode()
    def draw(
        self,
        prompt: str | Sequence[str],
        *,
        num_images: int = 1,
        seed: int = 0,
        negative_prompt: str = "",
        options: FlowOptions | None = None,
        batch_size: int = 4,
        noise: Tensor | None = None,
        on_latents: OnLatents | None = None,
    ) -> FlowDrawn:
        """Draw the latents of pictures from one or several prompts.

        Args:
            prompt: what to draw; empty draws unconditionally. Several prompts are drawn together.
            num_images: pictures of each prompt; picture i of a prompt uses seed + i.
            seed: any integer.
            negative_prompt: what to draw away from; empty is the reference's guidance.
            options: steps, solver and guidance.
            batch_size: pictures drawn together.
            noise: (pictures, 4, h, w) standard normal, to begin with instead of the seeds' own.
            on_latents: receives each step.

        Raises:
            SamplingError: num_images or batch_size below 1. PromptError: a prompt exceeds the context.
            ImageError: the noise has another shape.
        """
        check_count("num_images", num_images)
        check_count("batch_size", batch_size)
        plans = plan_flow_pictures(
            [prompt] if isinstance(prompt, str) else prompt,
            negative_prompt,
            seed_range(seed, num_images),
            self.tokenizer,
        )
        if noise is None:
            noise = normal_noise([plan.seed for plan in plans], self.latent_shape(1)[1:])
        check_latents(noise, self.latent_shape(len(plans)), "The noise")
        options = (options or FlowOptions()).decided(self.cfg_weight)
        compute = self._ready_to_draw(plans, min(batch_size, len(plans)))
        batches = list(zip(batched(plans, batch_size), torch.split(noise.float(), batch_size), strict=True))
        drawn: list[Tensor] = []
        for index, (batch, start) in enumerate(batches):

            def report(done: int, latents: Tensor, before: int = index * options.steps) -> None:
                if on_latents is not None:
                    on_latents(before + done, len(batches) * options.steps, latents)

            drawn.append(self._draw_batch(batch, start, options, compute, report))
        with torch.inference_mode(False):  # latents that their owner may change
            latents = torch.cat(drawn) / SCALING
        return FlowDrawn(latents=latents, seeds=tuple(plan.seed % 2**64 for plan in plans))

    def _ready_to_draw(self, plans: Sequence[FlowPlan], together: int) -> Compute:
        """Have in place what drawing plans needs, `together` at a time."""
        longest = max(max(len(plan.cond.token_ids), len(plan.uncond.token_ids)) for plan in plans)
        need = flow_draw_bytes(self.config, 2 * together, longest, self.compute.dtype)
        return self.ready("draw", memory_required=need)

    def _draw_batch(
        self,
        batch: Sequence[FlowPlan],
        noise: Tensor,
        options: FlowOptions,
        compute: Compute,
        on_latents: Callable[[int, Tensor], None],
    ) -> Tensor:
        """Return the latents (b, 4, h, w) of pictures drawn together, on the CPU."""
        assert options.cfg_weight is not None
        velocity = GuidedVelocity(
            self.model,
            batch,
            options.cfg_weight,
            latent_tokens=self.config.num_latent_tokens,
            compute=compute,
        )
        return integrate(
            velocity,
            noise.to(compute.device),
            steps=options.steps,
            solver=options.solver,
            on_latents=on_latents,
        ).cpu()
