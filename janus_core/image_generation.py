"""Drawing: prompts in, image tokens out, one cell of the grid after the other.

Every distinct prompt row is prefilled once and expanded over the pictures that share it. It knows nothing of
pixels or of the VQ tokenizer. Sources: the authors' generation_inference.py; classifier-free guidance, Ho and
Salimans 2022 (arXiv:2207.12598).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .model import Language
from .noise import gumbel_noise
from .options import DrawOptions, OnStep, OnTokens
from .prefill import Compute, Sequences, check_context, pad_left
from .prompting import PromptPlan
from .sampling import guide, next_tokens

_NOISE_BLOCK = 24  # grid cells whose noise is computed together


@dataclass(frozen=True, kw_only=True)
class DrawPlan:
    """One picture to draw: its prompt row, the row it is guided away from, and its seed."""

    cond: PromptPlan
    uncond: PromptPlan
    seed: int


def generate_image_tokens(
    language: Language,
    pictures: Sequence[DrawPlan],
    options: DrawOptions,
    *,
    num_image_tokens: int,
    pad: int,
    compute: Compute,
    on_step: OnStep | None = None,
    on_tokens: OnTokens | None = None,
) -> Tensor:
    """Draw pictures together.

    Args:
        language: ready on the device of `compute`.
        pictures: what to draw.
        options: guidance and sampling.
        num_image_tokens: cells of the grid.
        pad: id that fills shorter prompt rows.
        compute: device and dtype.
        on_step: receives each step.
        on_tokens: receives the tokens so far after each step.

    Returns: image tokens (b, n) int64 on the device of `compute`.

    Raises:
        PromptError: a prompt leaves no room for the picture in the context.
    """
    drawing = Drawing(
        language, pictures, options, num_image_tokens=num_image_tokens, pad=pad, compute=compute
    )
    seeds = [picture.seed for picture in pictures]
    codes = language.image_token_embedding.num_embeddings
    tokens = torch.empty(len(pictures), num_image_tokens, dtype=torch.int64, device=compute.device)
    noise = None
    for cell in range(num_image_tokens):
        if options.temperature > 0 and cell % _NOISE_BLOCK == 0:
            block = range(cell, min(cell + _NOISE_BLOCK, num_image_tokens))
            noise = gumbel_noise(seeds, block, codes, compute.device)
        tokens[:, cell] = next_tokens(
            drawing.logits(),
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            noise=None if noise is None else noise[:, cell % _NOISE_BLOCK],
        )
        if on_tokens is not None:
            on_tokens(tokens[:, : cell + 1])
        if on_step is not None:
            on_step(cell + 1, num_image_tokens)
        if cell + 1 < num_image_tokens:
            drawing.advance(tokens[:, cell])
    return tokens


class Drawing:
    """The decoder's side of a drawing: a row per picture, then the rows they are guided away from."""

    def __init__(
        self,
        language: Language,
        pictures: Sequence[DrawPlan],
        options: DrawOptions,
        *,
        num_image_tokens: int,
        pad: int,
        compute: Compute,
    ) -> None:
        self._language, self._compute, self._cfg_weight = language, compute, options.cfg_weight
        self._is_guided = options.cfg_weight != 1 and any(p.cond != p.uncond for p in pictures)
        rows = [p.cond for p in pictures] + ([p.uncond for p in pictures] if self._is_guided else [])
        check_context(rows, language.language_model.config, num_image_tokens)
        distinct = list(dict.fromkeys(rows))
        prompts = pad_left(distinct, pad, compute.device)
        self._sequences = Sequences(language, prompts, None, new_tokens=num_image_tokens, compute=compute)
        self._sequences.select([distinct.index(row) for row in rows])

    def logits(self) -> Tensor:
        """Return the guided image logits (b, v) float32 of the next cell."""
        logits: Tensor = self._language.generation_head(self._sequences.hidden).float()
        if not self._is_guided:
            return logits
        cond_logits, uncond_logits = logits.chunk(2)
        return guide(cond_logits, uncond_logits, self._cfg_weight)

    def advance(self, tokens: Tensor) -> None:
        """Feed the chosen tokens (b,) to every row of their picture and compute the next hidden state."""
        embeddings = self._language.embed_image_tokens(tokens, self._compute.dtype)
        self._sequences.feed(torch.cat((embeddings, embeddings)) if self._is_guided else embeddings)
