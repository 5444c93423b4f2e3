"""Texts that an answer may go on with, each spelt in tokens, and how probable they are: one pass for all.

Spellings that begin alike share those tokens, so all of them stand in one tree behind the prompt: every token
sees the prompt and what leads to it, and none of the other branches. Nothing here samples, or knows what the
texts are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..inputs.text_tokenizer import TextTokenizer
from ..model.language_model import LanguageModel
from ..options import Compute
from .steps import Sequences

Spelling: TypeAlias = tuple[int, ...]  # token ids, at least one

SCORED_TOGETHER = 8  # places of each row whose scores over the vocabulary are computed at once


def spellings(text: str, tokenizer: TextTokenizer) -> tuple[Spelling, ...]:
    """Return how an answer may begin with a text: behind a blank, as models are trained to, or without."""
    return tuple(dict.fromkeys(tuple(tokenizer.encode(lead + text)) for lead in (" ", "")))


@dataclass(frozen=True, kw_only=True)
class _Branch:
    """One token behind one place.

    Attributes:
        place: 0 where the answer begins, i + 1 behind the tree's token i.
        token: that may come there.
    """

    place: int
    token: int


class SpellingTree:
    """All spellings of some texts.

    Attributes:
        tokens: those that further ones follow; each stands behind the one that leads to it.
        depth: tokens of the longest spelling.
        firsts: with which tokens the spellings begin.
    """

    def __init__(self, texts: Sequence[Sequence[Spelling]]) -> None:
        """Take the spellings of each text; no two texts share one."""
        places: dict[Spelling, int] = {(): 0}  # of each beginning that goes on, numbered as they come
        branches: dict[Spelling, int] = {}
        for spelling in (spelling for text in texts for spelling in text):
            for end in range(1, len(spelling) + 1):
                branches.setdefault(spelling[:end], len(branches))
                if end < len(spelling):
                    places.setdefault(spelling[:end], len(places))
        self._beginnings = list(places)[1:]
        self._places = places
        self._branches = [_Branch(place=places[path[:-1]], token=path[-1]) for path in branches]
        # of each text, of each of its spellings, the branches on the way
        self._ways = [
            [[branches[spelling[:end]] for end in range(1, len(spelling) + 1)] for spelling in text]
            for text in texts
        ]
        self.tokens = [beginning[-1] for beginning in self._beginnings]
        self.depth = max(len(path) for path in branches)
        self.firsts = [branch.token for branch in self._branches if branch.place == 0]

    def read(self, model: LanguageModel, sequences: Sequences, compute: Compute) -> Tensor:
        """Return how probable each text is as what comes next.

        Args:
            model: the language model.
            sequences: rows, with room in their cache for the tree's tokens. They can go on afterwards: what
                is appended here is forgotten.
            compute: device and dtype.

        Returns: logarithms of probabilities (b, texts) float64 on the CPU, a text's spellings added up; not
            finite where the model's scores are not.
        """
        steps = self._steps(self._hidden(model, sequences, compute), model)
        texts = [
            torch.stack([steps[:, way].sum(dim=1) for way in ways], dim=1).logsumexp(dim=1)  # (b,)
            for ways in self._ways
        ]
        return torch.stack(texts, dim=1)

    def _hidden(self, model: LanguageModel, sequences: Sequences, compute: Compute) -> Tensor:
        """Return the hidden states (b, places, d) that what comes at each place is scored from."""
        first = sequences.hidden[:, None]  # (b, 1, d)
        if not self.tokens:
            return first
        device, rows = compute.device, len(first)
        tokens = torch.tensor(self.tokens, device=device)
        depths = torch.tensor([len(beginning) for beginning in self._beginnings], device=device)
        attended = sequences.attended
        if attended is not None:
            attended = torch.cat((attended, attended.new_ones(rows, len(tokens))), dim=1)
        hidden: Tensor = model(
            model.embed_words(tokens, compute.dtype).expand(rows, -1, -1),
            sequences.positions[:, None] + depths,
            cache=sequences.cache.fork(),
            attended=attended,
            among=self._sees().to(device),
        )  # (b, t, d)
        return torch.cat((first, hidden), dim=1)

    def _sees(self) -> Tensor:
        """Return (t, t) bool, which of the tree's tokens each of them sees: those that lead to it, and it."""
        sees = torch.zeros(len(self.tokens), len(self.tokens), dtype=torch.bool)
        for row, beginning in enumerate(self._beginnings):
            sees[row, [self._places[beginning[: end + 1]] - 1 for end in range(len(beginning))]] = True
        return sees

    def _steps(self, hidden: Tensor, model: LanguageModel) -> Tensor:
        """Return the logarithms (b, branches) float64 of each branch's probability at its place."""
        steps = torch.empty(len(hidden), len(self._branches), dtype=torch.float64)
        for start, mine in self._scored_together():
            logits = model.lm_head(hidden[:, start : start + SCORED_TOGETHER]).float()  # (b, places, v)
            places = [self._branches[index].place - start for index in mine]
            tokens = [self._branches[index].token for index in mine]
            steps[:, mine] = logits.log_softmax(dim=-1)[:, places, tokens].cpu().double()
        return steps

    def _scored_together(self) -> Iterator[tuple[int, list[int]]]:
        """Yield the first place of each part of the tree, and the branches at its places."""
        for start in range(0, len(self._places), SCORED_TOGETHER):
            span = range(start, start + SCORED_TOGETHER)
            yield start, [index for index, branch in enumerate(self._branches) if branch.place in span]
