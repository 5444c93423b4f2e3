"""How far two models of the same tokens are apart: their scores along one's greedy text and picture.

The first model writes greedily, behind a question and behind a drawing's prompt; then both score what it
wrote. Up to the first position where their likeliest tokens differ, the second would have written the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .inputs.prompting import plan_drawing
from .inputs.turns import Turn
from .janus import Janus
from .model.kv_cache import KVCache, cache_dtype
from .model.model import Language
from .residency.loaded import LoadedModel

TOKENS = 32
QUESTION, PROMPT = "What is a picture?", "a red circle above a blue square"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How alike the scores of two models are.

    Attributes:
        cosine: of their logits, the smallest over all positions.
        same: greedy tokens before the first that differs.
        tokens: greedy tokens in all.
    """

    cosine: float
    same: int
    tokens: int


@torch.inference_mode()
def compare(
    first: LoadedModel,
    second: LoadedModel,
    tokens: int = TOKENS,
    prompts: tuple[str, str] = (QUESTION, PROMPT),
) -> dict[str, Agreement]:
    """Return the agreement of two models, for text and, where both draw image tokens, for pictures.

    Args:
        first: writes.
        second: of the same sizes and words.
        tokens: how many are written.
        prompts: a question and what to draw.
    """
    found = {"text": _agreement(first, second, prompts[0], tokens, _Text)}
    if isinstance(first, Janus) and isinstance(second, Janus):
        found["picture"] = _agreement(first, second, prompts[1], tokens, _Picture)
    return found


def _agreement(
    first: LoadedModel, second: LoadedModel, prompt: str, count: int, side: type[_Text]
) -> Agreement:
    written = side(first, prompt).write(count)  # (1, count)
    ours, theirs = (side(model, prompt).score(written).float().cpu() for model in (first, second))
    cosine = torch.cosine_similarity(ours, theirs, dim=-1).min()  # over positions, (count, v) each
    differs = (ours.argmax(dim=-1) != theirs.argmax(dim=-1)).nonzero()
    return Agreement(cosine=float(cosine), same=int(differs[0]) if len(differs) else count, tokens=count)


class _Text:
    """One model behind a question, to write and score words."""

    def __init__(self, model: LoadedModel, prompt: str) -> None:
        self.compute = model.ready("answer", "draw", memory_required=0)
        self.language = model.model.language
        plan = self.plan(model, prompt)
        self.ids = torch.tensor([plan], device=self.compute.device)  # (1, t)

    def plan(self, model: LoadedModel, prompt: str) -> list[int]:
        return list(model.plan_conversation([Turn(role="user", text=prompt)]).token_ids)

    def write(self, count: int) -> Tensor:
        """Return greedy tokens (1, count)."""
        prompt = self._words(self.ids)
        dtype = cache_dtype(self.compute.dtype, self.compute.device)
        cache = KVCache(
            self.language.language_model.config,
            rows=1,
            capacity=prompt.shape[1] + count,
            dtype=dtype,
            device=self.compute.device,
        )
        new, written = prompt, torch.empty(1, 0, dtype=torch.int64, device=self.compute.device)
        for _ in range(count):
            positions = torch.arange(cache.length, cache.length + new.shape[1], device=new.device)[None]
            hidden = self.language.language_model(new, positions, cache=cache)[:, -1:]  # (1, 1, d)
            token = self.logits(hidden).argmax(dim=-1)  # (1, 1)
            new, written = self.embed(token), torch.cat((written, token), dim=1)
        return written

    def score(self, written: Tensor) -> Tensor:
        """Return the logits (count, v) at the positions of tokens (1, count)."""
        prompt = self._words(self.ids)
        embeddings = torch.cat((prompt, self.embed(written[:, :-1].to(prompt.device))), dim=1)
        positions = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
        hidden = self.language.language_model(embeddings, positions)
        return self.logits(hidden[0, prompt.shape[1] - 1 :])

    def embed(self, tokens: Tensor) -> Tensor:
        return self._words(tokens)

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.language.language_model.lm_head(hidden)
        return logits

    def _words(self, ids: Tensor) -> Tensor:
        return self.language.language_model.embed_words(ids, self.compute.dtype)


class _Picture(_Text):
    """One model behind a drawing's prompt, to write and score image tokens."""

    def plan(self, model: LoadedModel, prompt: str) -> list[int]:
        return list(plan_drawing(prompt, model.tokenizer, old_roles=model.config.old_roles).token_ids)

    def embed(self, tokens: Tensor) -> Tensor:
        assert isinstance(self.language, Language)
        return self.language.embed_image_tokens(tokens, self.compute.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        assert isinstance(self.language, Language)
        logits: Tensor = self.language.generation_head(hidden)
        return logits
