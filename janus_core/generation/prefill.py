"""Prefill: prompts of different length padded to one batch, and the pass that fills their KV cache.

Shared by answering and drawing; it chooses no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PromptTooLongError
from ..inputs.prompting import PromptPlan
from ..model.config import LanguageConfig
from ..model.kv_cache import KVCache, cache_dtype
from ..model.model import TextLanguage
from ..options import Compute
from .steps import Sequences

_WORTH_SHARING = 16  # tokens; a second pass needs a mask, which costs about as much as a few tokens


@dataclass(frozen=True, kw_only=True)
class PaddedPrompts:
    """A batch of prompts, left-padded. The prefix that all share stands before the padding.

    Attributes:
        token_ids: (b, t) int64.
        is_image: (b, t) bool, True where an image feature stands.
        positions: (b, t) int64, counted over each row's own tokens.
        attended: (b, t) bool, False at padding; None if there is none.
        shared: length of the common prefix, which is computed once; it holds no picture.
    """

    token_ids: Tensor
    is_image: Tensor
    positions: Tensor
    attended: Tensor | None
    shared: int = 0


def pad_left(
    plans: Sequence[PromptPlan], pad: int, device: torch.device, *, shared: int = 0
) -> PaddedPrompts:
    """Pad prompts to one length with `pad`, inserted between the common prefix and the rest."""
    length = max(len(plan) for plan in plans)
    rows: list[list[int]] = []
    marks: list[list[bool]] = []
    gaps = [length - len(plan) for plan in plans]
    for gap, plan in zip(gaps, plans, strict=True):
        rows.append([*plan.token_ids[:shared], *[pad] * gap, *plan.token_ids[shared:]])
        marks.append([*plan.is_image[:shared], *[False] * gap, *plan.is_image[shared:]])
    columns = torch.arange(length, device=device)[None]  # (1, t)
    moved = columns - torch.tensor(gaps, device=device)[:, None]  # (b, t), each token's place without padding
    # padding gets the position of the row's first own token: any valid one will do, since it is masked
    positions = torch.where(columns < shared, columns, moved.clamp(min=shared))
    return PaddedPrompts(
        token_ids=torch.tensor(rows, device=device),
        is_image=torch.tensor(marks, device=device),
        positions=positions,
        attended=(columns < shared) | (moved >= shared) if any(gaps) else None,  # None: plain causal kernels
        shared=shared,
    )


def shared_words(plans: Sequence[PromptPlan]) -> int:
    """Return the length of the prompts' common prefix without pictures; 0 if too short to pay."""
    most = min(len(plan) for plan in plans) - 1  # each row needs a token of its own, whose state is returned
    first, others = plans[0], plans[1:]
    shared = 0
    while shared < most and not first.is_image[shared]:
        if any(plan.is_image[shared] or plan.token_ids[shared] != first.token_ids[shared] for plan in others):
            break
        shared += 1
    return shared if others and shared >= _WORTH_SHARING else 0


def check_context(plans: Sequence[PromptPlan], config: LanguageConfig, needed: int) -> None:
    """Raise PromptTooLongError where a prompt and `needed` further tokens exceed the model's context."""
    over = max(len(plan) for plan in plans) + needed - config.max_position_embeddings
    if over > 0:
        raise PromptTooLongError(
            f"The prompt is {over} tokens too long: with pictures and {needed} tokens to generate it must "
            f"fit into {config.max_position_embeddings}. Shorten the text or leave out pictures or earlier "
            "turns."
        )


def prefill(
    language: TextLanguage,
    prompts: PaddedPrompts,
    image_embeddings: Tensor | None,
    *,
    new_tokens: int,
    compute: Compute,
) -> Sequences:
    """Compute the hidden states and the KV cache of prompts; return them as sequences to decode.

    Args:
        language: ready on the device of `compute`.
        prompts: the rows.
        image_embeddings: (pictures, n, d) of all rows in order, or None.
        new_tokens: at most so many tokens will be appended; the cache has room for them.
        compute: device and dtype.
    """
    model, shared = language.language_model, prompts.shared
    rows, length = prompts.token_ids.shape

    def new_cache(rows: int, capacity: int) -> KVCache:
        dtype = cache_dtype(compute.dtype, compute.device)
        return KVCache(model.config, rows=rows, capacity=capacity, dtype=dtype, device=compute.device)

    cache = new_cache(rows, length + new_tokens)
    embeddings = language.embed_prompt(
        prompts.token_ids, prompts.is_image, image_embeddings, compute.dtype
    )  # (b, t, d)
    if shared:  # the prefix as one row, then copied to all; the second pass attends to it through the cache
        once = new_cache(1, shared)
        model(embeddings[:1, :shared], prompts.positions[:1, :shared], cache=once)
        cache.begin_with(once)
    hidden = model(
        embeddings[:, shared:], prompts.positions[:, shared:], cache=cache, attended=prompts.attended
    )  # (b, t - shared, d)
    return Sequences(
        # The last token of every row, as padding stands on the left; a view would keep the whole output.
        hidden=hidden[:, -1].clone(),  # (b, d)
        cache=cache,
        positions=prompts.positions[:, -1],
        attended=prompts.attended,
    )
