"""The velocity of latents at a time: the flow network round the decoder, the prompts computed once.

The keys and values of the prompts do not change from step to step, so they are kept; the authors recompute
them, with equal results. Steps through time are taken elsewhere.
Source: Ma et al. 2024 (arXiv:2411.07975); classifier-free guidance, Ho and Salimans 2022 (arXiv:2207.12598).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import SamplingError
from ..model.kv_cache import KVCache, cache_dtype
from ..options import Compute
from .flow_model import JanusFlowModel
from .flow_network import Encoded
from .flow_prompts import FlowPlan, FlowRow, check_flow_context, pad_rows

TIMESTEPS = 1000  # the network counts time from 0, noise, to 1000, the picture


class PreparedRows:
    """Prompt rows in the decoder's memory, ready to be looked back at by latents at any time."""

    def __init__(
        self, model: JanusFlowModel, rows: Sequence[FlowRow], latent_tokens: int, compute: Compute
    ) -> None:
        """Prefill, every distinct row once.

        Args:
            model: ready on the device of `compute`.
            rows: one per row of latents to come.
            latent_tokens: of one picture.
            compute: device and dtype.

        Raises:
            PromptError: a row leaves no room for the picture in the context.
        """
        decoder = model.language.language_model
        check_flow_context(rows, decoder.config, latent_tokens)
        self._model, self._compute = model, compute
        distinct = list(dict.fromkeys(rows))
        padded = pad_rows(distinct, compute.device)
        length = padded.token_ids.shape[1]
        new = 1 + latent_tokens  # the time, then the latents
        cache = KVCache(
            decoder.config,
            rows=len(distinct),
            capacity=length + new,
            dtype=cache_dtype(compute.dtype, compute.device),
            device=compute.device,
        )
        words = decoder.embed_words(padded.token_ids, compute.dtype)
        decoder(words, padded.positions, cache=cache, attended=padded.attended)
        index = torch.tensor([distinct.index(row) for row in rows], device=compute.device)
        self._cache = cache if len(distinct) == len(rows) else cache.select(index)
        self._prompt_length = length
        steps = torch.arange(new, device=compute.device)
        self._positions = padded.time_positions[index] + steps
        self._attended = None
        if padded.attended is not None:
            seen = padded.attended[index]
            self._attended = torch.cat((seen, seen.new_ones(len(rows), new)), dim=1)

    def hidden(self, encoded: Encoded) -> Tensor:
        """Return the decoder's states (rows, n, d) at the places of the latent tokens."""
        states: Tensor = self._model.language.language_model(
            encoded.embeddings, self._positions, cache=self._cache, attended=self._attended
        )
        self._cache.length = self._prompt_length  # the next time begins behind the prompt again
        return states[:, 1:]

    def velocities(self, encoded: Encoded) -> Tensor:
        """Return the velocity (rows, 4, h, w) float32 of every row."""
        return self._model.flow.decode(self.hidden(encoded), encoded).float()


class GuidedVelocity:
    """The velocity of pictures being drawn, guided by their prompts."""

    def __init__(
        self,
        model: JanusFlowModel,
        pictures: Sequence[FlowPlan],
        cfg_weight: float,
        *,
        latent_tokens: int,
        compute: Compute,
    ) -> None:
        """Prefill the prompts.

        Args:
            model: ready on the device of `compute`.
            pictures: what is drawn together.
            cfg_weight: how strongly the prompt guides; 1 is off and needs half the rows.
            latent_tokens: of one picture.
            compute: device and dtype.
        """
        self._model, self._dtype, self._cfg_weight = model, compute.dtype, cfg_weight
        self._is_guided = cfg_weight != 1 and any(plan.cond != plan.uncond for plan in pictures)
        rows = [plan.cond for plan in pictures]
        if self._is_guided:
            rows += [plan.uncond for plan in pictures]
        self._rows = PreparedRows(model, rows, latent_tokens, compute)

    def __call__(self, latents: Tensor, t: float) -> Tensor:
        """Return the velocity (b, 4, h, w) float32 of latents (b, 4, h, w) float32 at time t in 0..1.

        Raises:
            SamplingError: it is not finite.
        """
        cond, uncond = self.both(latents, t)
        velocity = cond if uncond is None else uncond + self._cfg_weight * (cond - uncond)
        if not bool(velocity.isfinite().all()):
            name = str(self._dtype).removeprefix("torch.")
            raise SamplingError(
                f"The flow network gave numbers that are not finite, computing in {name}. Choose the dtype "
                "bfloat16 or float32."
            )
        return velocity

    def both(self, latents: Tensor, t: float) -> tuple[Tensor, Tensor | None]:
        """Return the velocity with the prompt and the one it is guided away from, None without guidance."""
        timesteps = torch.full((len(latents),), t * TIMESTEPS, dtype=torch.float32, device=latents.device)
        encoded = self._model.flow.encode(latents.to(self._dtype), timesteps)
        if not self._is_guided:
            return self._rows.velocities(encoded), None
        cond, uncond = self._rows.velocities(encoded.repeated(2)).chunk(2)
        return cond, uncond
