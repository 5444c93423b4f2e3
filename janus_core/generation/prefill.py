"""The first pass over prompts: rows of different length side by side, their cache filled.

Shared by answering and drawing; it chooses no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PromptError
from ..inputs.prompting import PromptPlan
from ..model.config import LanguageConfig
from ..model.kv_cache import KVCache, cache_dtype
from ..model.language_model import LanguageModel
from ..model.model import TextLanguage
from ..options import Compute
from .fixed_decoder import FixedDecoder, LayerWeights, is_plain

_WORTH_SHARING = 16  # tokens; a prompt in two passes needs a mask, which costs about as much as a few tokens


@dataclass(frozen=True, kw_only=True)
class PaddedPrompts:
    """Prompts of different length side by side: what they share, then padding for the shorter ones, the rest.

    Attributes:
        token_ids: (b, t) int64.
        is_image: (b, t) bool, True where an image feature stands.
        positions: (b, t) int64, counted over each row's own tokens.
        attended: (b, t) bool, False at padding; None if there is none.
        shared: how many tokens, all of them words, all rows begin with and are computed once.
    """

    token_ids: Tensor
    is_image: Tensor
    positions: Tensor
    attended: Tensor | None
    shared: int = 0


def pad_left(
    plans: Sequence[PromptPlan], pad: int, device: torch.device, *, shared: int = 0
) -> PaddedPrompts:
    """Bring prompts to one length with `pad`, behind the words that all share, on the left of all else."""
    length = max(len(plan) for plan in plans)
    rows: list[list[int]] = []
    marks: list[list[bool]] = []
    gaps = [length - len(plan) for plan in plans]
    for gap, plan in zip(gaps, plans, strict=True):
        rows.append([*plan.token_ids[:shared], *[pad] * gap, *plan.token_ids[shared:]])
        marks.append([*plan.is_image[:shared], *[False] * gap, *plan.is_image[shared:]])
    columns = torch.arange(length, device=device)[None]
    moved = columns - torch.tensor(gaps, device=device)[:, None]
    positions = torch.where(columns < shared, columns, moved.clamp(min=shared))
    return PaddedPrompts(
        token_ids=torch.tensor(rows, device=device),
        is_image=torch.tensor(marks, device=device),
        positions=positions,
        attended=(columns < shared) | (moved >= shared) if any(gaps) else None,
        shared=shared,
    )


def shared_words(plans: Sequence[PromptPlan]) -> int:
    """Return how many words all prompts begin with, one left for each alone; 0 if too few to matter."""
    most = min(len(plan) for plan in plans) - 1
    first, others = plans[0], plans[1:]
    shared = 0
    while shared < most and not first.is_image[shared]:
        if any(plan.is_image[shared] or plan.token_ids[shared] != first.token_ids[shared] for plan in others):
            break
        shared += 1
    return shared if others and shared >= _WORTH_SHARING else 0


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
        language: TextLanguage,
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
        model, shared = language.language_model, prompts.shared
        rows, length = prompts.token_ids.shape
        self._cache = KVCache(
            model.config,
            rows=rows,
            capacity=length + new_tokens,
            dtype=cache_dtype(compute.dtype, compute.device),
            device=compute.device,
        )
        embeddings = language.embed_prompt(
            prompts.token_ids, prompts.is_image, image_embeddings, compute.dtype
        )
        if shared:
            once = KVCache(
                model.config,
                rows=1,
                capacity=shared,
                dtype=self._cache.keys.dtype,
                device=compute.device,
            )
            model(embeddings[:1, :shared], prompts.positions[:1, :shared], cache=once)
            self._cache.begin_with(once)
        self._positions, self._attended = prompts.positions[:, -1:], _with_room(prompts.attended, new_tokens)
        self.hidden: Tensor = model(
            embeddings[:, shared:],
            prompts.positions[:, shared:],
            cache=self._cache,
            attended=prompts.attended,
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
        return FixedDecoder(model, weights, self._cache, self._positions[:, 0], attended, self._dtype)

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
