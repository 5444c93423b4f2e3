"""The velocity of latents at a time: the flow network round the decoder, the prompts computed once.

The keys and values of the prompts do not change from step to step, so they are kept; the authors recompute
them, with equal results. Steps through time are taken elsewhere.
Source: Ma et al. 2024 (arXiv:2411.07975); classifier-free guidance, Ho and Salimans 2022 (arXiv:2207.12598).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SamplingError
from ..model.kv_cache import KVCache, cache_dtype
from ..model.model import TextLanguage
from ..options import Compute
from .flow_model import JanusFlowModel
from .flow_network import Encoded
from .flow_prompts import FlowPlan, FlowRow, check_flow_context

TIMESTEPS = 1000  # the network counts time from 0, noise, to 1000, the picture


@dataclass(frozen=True, kw_only=True)
class EmbeddedRows:
    """Prompt rows as the decoder reads them, all of one length.

    Attributes:
        words: (rows, t, d).
        positions: (rows, t) int64, counted over each row's own words.
        attended: (rows, t) bool, False at what fills a shorter row; None if nothing does.
        time_positions: (rows, 1) int64.
    """

    words: Tensor
    positions: Tensor
    attended: Tensor | None
    time_positions: Tensor


def embed_rows(language: TextLanguage, rows: Sequence[FlowRow], compute: Compute) -> EmbeddedRows:
    """Look up the words of rows, shorter ones filled on the left."""
    device = compute.device
    length = max(len(row.token_ids) for row in rows)
    gaps = [length - len(row.token_ids) for row in rows]
    # (rows, t); the filling is never attended to, so any id will do
    ids = torch.tensor(
        [[0] * gap + list(row.token_ids) for gap, row in zip(gaps, rows, strict=True)], device=device
    )
    own = torch.arange(length, device=device)[None] - torch.tensor(gaps, device=device)[:, None]
    return EmbeddedRows(
        words=language.language_model.embed_words(ids, compute.dtype),  # (rows, t, d)
        positions=own.clamp(min=0),
        attended=own >= 0 if any(gaps) else None,  # without filling no mask is needed
        time_positions=torch.tensor([[row.time_position] for row in rows], device=device),
    )


def rows_of_one_length(words: Tensor, time_position: int) -> EmbeddedRows:
    """Return rows from their embedded words (rows, t, d), with nothing filled up."""
    rows, length, _ = words.shape
    positions = torch.arange(length, device=words.device).expand(rows, length)  # (rows, t)
    times = torch.full((rows, 1), time_position, device=words.device)  # (rows, 1)
    return EmbeddedRows(words=words, positions=positions, attended=None, time_positions=times)


class PreparedRows:
    """Prompt rows in the decoder's memory, ready to be looked back at by latents at any time."""

    def __init__(
        self,
        model: JanusFlowModel,
        prompts: EmbeddedRows,
        latent_tokens: int,
        compute: Compute,
        *,
        order: Sequence[int] | None = None,
    ) -> None:
        """Prefill.

        Args:
            model: ready on the device of `compute`.
            prompts: each row once.
            latent_tokens: of one picture.
            compute: device and dtype.
            order: which row each row of latents looks back at; None if there are as many, in order.
        """
        decoder = model.language.language_model
        rows, self._prompt_length, _ = prompts.words.shape
        new = 1 + latent_tokens  # the time, then the latents
        self._model = model
        self._cache = KVCache(
            decoder.config,
            rows=rows,
            capacity=self._prompt_length + new,
            dtype=cache_dtype(compute.dtype, compute.device),
            device=compute.device,
        )
        decoder(prompts.words, prompts.positions, cache=self._cache, attended=prompts.attended)
        self._positions = prompts.time_positions + torch.arange(new, device=compute.device)  # (rows, new)
        self._attended = prompts.attended
        if prompts.attended is not None:
            latents_seen = prompts.attended.new_ones(rows, new)
            self._attended = torch.cat((prompts.attended, latents_seen), dim=1)  # (rows, t + new)
        if order is not None and list(order) != list(range(rows)):
            self._select(torch.tensor(order, device=compute.device))

    def _select(self, order: Tensor) -> None:
        self._cache = self._cache.select(order)
        self._positions = self._positions[order]
        self._attended = None if self._attended is None else self._attended[order]

    def hidden(self, encoded: Encoded) -> Tensor:
        """Return the decoder's states (rows, n, d) at the places of the latent tokens."""
        states: Tensor = self._model.language.language_model(
            encoded.embeddings, self._positions, cache=self._cache, attended=self._attended
        )
        self._cache.length = self._prompt_length  # the next time begins behind the prompt again
        return states[:, 1:]  # (rows, n, d), without the time's

    def velocities(self, encoded: Encoded) -> Tensor:
        """Return the velocity (rows, 4, h, w) float32 of every row."""
        return self._model.flow.decode(self.hidden(encoded), encoded).float()


def prepare_rows(
    model: JanusFlowModel, rows: Sequence[FlowRow], latent_tokens: int, compute: Compute
) -> PreparedRows:
    """Prefill rows, every distinct one once.

    Raises:
        PromptError: a row leaves no room for the picture in the context.
    """
    check_flow_context(rows, model.language.language_model.config, latent_tokens)
    distinct = list(dict.fromkeys(rows))  # pictures of one prompt share its row
    prompts = embed_rows(model.language, distinct, compute)
    return PreparedRows(model, prompts, latent_tokens, compute, order=[distinct.index(row) for row in rows])


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
        self._model = model
        self._dtype = compute.dtype
        self._cfg_weight = cfg_weight
        self._is_guided = cfg_weight != 1 and any(plan.cond != plan.uncond for plan in pictures)
        rows = [plan.cond for plan in pictures]
        if self._is_guided:
            rows += [plan.uncond for plan in pictures]  # behind all conditional rows: chunk(2) parts them
        self._rows = prepare_rows(model, rows, latent_tokens, compute)

    def __call__(self, latents: Tensor, t: float) -> Tensor:
        """Return the velocity (b, 4, h, w) float32 of latents (b, 4, h, w) float32 at time t in 0..1.

        Raises:
            SamplingError: it is not finite.
        """
        cond, uncond = self.both(latents, t)
        velocity = cond if uncond is None else uncond + self._cfg_weight * (cond - uncond)
        if not bool(velocity.isfinite().all()):  # waits for the device, once a step of many milliseconds
            name = str(self._dtype).removeprefix("torch.")
            raise SamplingError(
                f"The flow network gave numbers that are not finite, computing in {name}. Choose the dtype "
                "bfloat16 or float32."
            )
        return velocity

    def both(self, latents: Tensor, t: float) -> tuple[Tensor, Tensor | None]:
        """Return the velocity with the prompt and the one it is guided away from, None without guidance."""
        timesteps = torch.full((len(latents),), t * TIMESTEPS, dtype=torch.float32, device=latents.device)
        encoded = self._model.flow.encode(latents.to(self._dtype), timesteps)  # once, for both rows
        if not self._is_guided:
            return self._rows.velocities(encoded), None
        cond, uncond = self._rows.velocities(encoded.repeated(2)).chunk(2)  # (b, 4, h, w) each
        return cond, uncond
