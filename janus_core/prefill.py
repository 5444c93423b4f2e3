"""The first pass over prompts: rows of different length side by side, their cache filled.

Shared by answering and drawing; it chooses no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import LanguageConfig
from .errors import PromptError
from .fixed_decoder import FixedDecoder, LayerWeights, is_plain
from .kv_cache import KVCache
from .language_model import LanguageModel
from .model import Language
from .prompting import PromptPlan


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where a model computes and in which dtype its embeddings, activations and cache are.

    Attributes:
        device: of all arithmetic.
        dtype: of seeing and language.
        is_resident: nothing moves weights during a call, so that a CUDA graph may hold their addresses.
    """

    device: torch.device
    dtype: torch.dtype
    is_resident: bool = False


@dataclass(frozen=True, kw_only=True)
class PaddedPrompts:
    """Prompts of different length side by side, the shorter ones padded on the left.

    Attributes:
        token_ids: (b, t) int64.
        is_image: (b, t) bool, True where an image feature stands.
        positions: (b, t) int64, counted over each row's own tokens.
        attended: (b, t) bool, False at padding; None if there is none.
    """

    token_ids: Tensor
    is_image: Tensor
    positions: Tensor
    attended: Tensor | None


def pad_left(plans: Sequence[PromptPlan], pad: int, device: torch.device) -> PaddedPrompts:
    """Bring prompts to one length with `pad` on the left."""
    length = max(len(plan) for plan in plans)
    gaps = [length - len(plan) for plan in plans]
    rows = zip(gaps, plans, strict=True)
    token_ids = torch.tensor([[pad] * gap + list(plan.token_ids) for gap, plan in rows], device=device)
    is_image = torch.tensor(
        [[False] * gap + list(plan.is_image) for gap, plan in zip(gaps, plans, strict=True)], device=device
    )
    positions = torch.arange(length, device=device)[None] - torch.tensor(gaps, device=device)[:, None]
    return PaddedPrompts(
        token_ids=token_ids,
        is_image=is_image,
        positions=positions.clamp(min=0),
        attended=positions >= 0 if any(gaps) else None,
    )


def check_context(plans: Sequence[PromptPlan], config: LanguageConfig, needed: int) -> None:
    """Raise PromptError where a prompt and `needed` further tokens exceed the model's context."""
    over = max(len(plan) for plan in plans) + needed - config.max_position_embeddings
    if over > 0:
        raise PromptError(
            f"The prompt is {over} tokens too long: with pictures and {needed} tokens to generate it must "
            f"fit into {config.max_position_embeddings}. Shorten the text or leave out pictures or earlier "
            "turns."
        )


def is_repeatable(model: LanguageModel, compute: Compute) -> bool:
    """Tell whether steps may be captured: on CUDA, with all weights there, in layers as built."""
    is_allowed = compute.is_resident and compute.device.type == "cuda"
    return is_allowed and is_plain(model, compute.device, compute.dtype)


class Sequences:
    """Sequences under way: what the decoder remembers of them and the hidden state the next token comes from.

    Attributes:
        hidden: (b, d), the last hidden state of each row.
    """

    def __init__(
        self,
        language: Language,
        prompts: PaddedPrompts,
        image_embeddings: Tensor | None,
        *,
        new_tokens: int,
        compute: Compute,
    ) -> None:
        """Prefill.

        Args:
            language: ready on the device of `compute`.
            prompts: the rows.
            image_embeddings: (pictures, n, d) of all rows in order, or None.
            new_tokens: how many tokens will follow at most.
            compute: device and dtype.
        """
        self._language, self._dtype = language, compute.dtype
        rows, length = prompts.token_ids.shape
        self._cache = KVCache(
            language.language_model.config,
            rows=rows,
            capacity=length + new_tokens,
            dtype=compute.dtype,
            device=compute.device,
        )
        embeddings = language.embed_prompt(
            prompts.token_ids, prompts.is_image, image_embeddings, compute.dtype
        )
        self._positions, self._attended = prompts.positions[:, -1:], _with_room(prompts.attended, new_tokens)
        self.hidden: Tensor = language.language_model(
            embeddings, prompts.positions, cache=self._cache, attended=prompts.attended
        )[:, -1]

    def select(self, rows: Sequence[int]) -> None:
        """Make row i continue what was row `rows[i]`: drop, reorder or repeat rows."""
        if list(rows) == list(range(self.hidden.shape[0])):
            return
        index = torch.tensor(rows, device=self.hidden.device)
        self.hidden, self._positions = self.hidden[index], self._positions[index]
        self._attended = None if self._attended is None else self._attended[index]
        self._cache = self._cache.select(index)

    def fixed(self, weights: Sequence[LayerWeights]) -> FixedDecoder:
        """Hand the sequences over to a decoder whose memory never moves; this object is then used up."""
        model = self._language.language_model
        attended = None if self._attended is None else self._attended[:, : self._cache.length]
        return FixedDecoder(model, weights, self._cache, self._positions[:, 0], attended)

    def feed(self, embeddings: Tensor) -> None:
        """Append one token's embedding (b, d) to every row and compute the next hidden state."""
        self._positions = self._positions + 1
        attended = None if self._attended is None else self._attended[:, : self._cache.length + 1]
        self.hidden = self._language.language_model(
            embeddings[:, None].to(self._dtype), self._positions, cache=self._cache, attended=attended
        )[:, -1]


def _with_room(attended: Tensor | None, new_tokens: int) -> Tensor | None:
    """Widen `attended` (b, t) by all the tokens to come, once, instead of by each."""
    if attended is None:
        return None
    return torch.cat((attended, attended.new_ones(len(attended), new_tokens)), dim=1)
