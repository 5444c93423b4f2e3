"""Scoring: how probable a yes is, against a no, as the answer to a question about each picture.

A published model answers at once, so its first token tells. One that states the fact first ("It is blue, so
no.") is read where it comes to its verdict. Prompts arrive as plans, pictures as embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PromptError
from ..inputs.text_tokenizer import TextTokenizer
from ..model.model import TextLanguage
from ..options import Compute, check_text, check_whole
from .answering import Prompts
from .canvas import extended
from .prefill import check_context, pad_left, prefill, shared_words
from .sampling import not_finite
from .spelling import SpellingTree, spellings
from .steps import Sequences

SCORE_QUESTION = "Does this picture show {prompt}?"
SCORE_TOKENS = 40  # of an answer are looked through for its verdict

_MARK = "{prompt}"
_WORDS = (("yes", "Yes", "YES"), ("no", "No", "NO"))
_MOST = 0.5  # of the probability


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a picture fits.

    Attributes:
        probability: of yes, where yes and no are all that counts.
        share: of the probability, what yes and no have together there.
        position: of the token of the answer that was read, from 0.
    """

    probability: float
    share: float
    position: int

    @property
    def is_verdict(self) -> bool:
        """Whether the model was about to say yes or no; otherwise its first token was read all the same."""
        return self.share > _MOST


def score_question(prompt: str, question: str = SCORE_QUESTION) -> str:
    """Return the question to ask.

    Args:
        prompt: what the picture should show; a full stop at its end is left out.
        question: `{prompt}` marks its place.

    Raises:
        PromptError: there is no question, or a prompt without a place in it, or a place without a prompt.
    """
    check_text("The prompt", prompt)
    check_text("The question", question)
    said = prompt.strip().removesuffix(".")
    if not question.strip():
        raise PromptError(f'The question is empty. Ask something, such as "{SCORE_QUESTION}".')
    if _MARK in question and not said:
        raise PromptError(
            "There is no prompt to score by. Say what the picture should show, or write a question without "
            f"{_MARK}."
        )
    if _MARK not in question and said:
        raise PromptError(
            f'The question "{question.strip()}" has no place for the prompt. Write {_MARK} where it belongs, '
            "or leave the prompt empty."
        )
    return question.replace(_MARK, said)


def best_first(scores: Sequence[Score], keep_best: int = 0) -> list[int]:
    """Return which pictures have the highest scores, the best first; equals in their own order.

    Args:
        scores: of all pictures.
        keep_best: how many; 0, or more than there are, are all.

    Raises:
        SamplingError: `keep_best` is no whole number from 0 upwards.
    """
    check_whole("keep_best", keep_best, 0, 1_000_000)
    ranked = sorted(range(len(scores)), key=lambda row: -scores[row].probability)
    return ranked[: keep_best or None]


def verdict_tree(tokenizer: TextTokenizer) -> SpellingTree:
    """Return the tree of yes and no, in small and capital letters."""
    return SpellingTree([[one for word in words for one in spellings(word, tokenizer)] for words in _WORDS])


def read_scores(
    language: TextLanguage,
    prompts: Prompts,
    tokenizer: TextTokenizer,
    *,
    compute: Compute,
    on_token: Callable[[], None] | None = None,
) -> list[Score]:
    """Answer each prompt greedily until yes and no together have most of the probability; read both there.

    Where that never comes, the first token is read.

    Args:
        language: ready on the device of `compute`.
        prompts: one per answer.
        tokenizer: the model's.
        compute: device and dtype.
        on_token: called after each token; may raise to interrupt.

    Raises:
        PromptError: a prompt leaves no room in the context. SamplingError: scores are no numbers.
    """
    tree, plans = verdict_tree(tokenizer), prompts.plans
    config = language.language_model.config
    check_context(plans, config, tree.depth)
    padded = pad_left(plans, tokenizer.special.pad, compute.device, shared=shared_words(plans))
    sequences = prefill(
        language,
        padded,
        prompts.image_embeddings,
        new_tokens=SCORE_TOKENS + len(tree.tokens),
        compute=compute,
    )
    reader = _Reader(language, tree, tokenizer.special.eos, sequences, compute)
    # the context ends the search early rather than refuse a prompt that leaves little of it
    most, context = SCORE_TOKENS - 1, config.max_position_embeddings - tree.depth
    room = [min(most, context - len(plan)) for plan in plans]  # tokens that may be written before the verdict
    for position in range(SCORE_TOKENS):
        reader.read(position)
        if on_token is not None:
            on_token()
        if not reader.go_on([row for row, tokens in enumerate(room) if position < tokens]):
            break
    return [reader.found[row] for row in range(len(plans))]


class _Reader:
    """Rows whose verdict is still to come, and what was found.

    Attributes:
        found: a score by row; a first one of every row from the start.
    """

    def __init__(
        self, language: TextLanguage, tree: SpellingTree, eos: int, sequences: Sequences, compute: Compute
    ) -> None:
        self._model = language.language_model
        self._tree = tree
        self._eos = eos
        self._sequences = sequences
        self._compute = compute
        self._rows = list(range(len(sequences.hidden)))  # of the prompts, those that are still computed
        self._next = torch.empty(0, dtype=torch.int64)  # (rows,), the likeliest tokens
        self.found: dict[int, Score] = {}

    def read(self, position: int) -> None:
        """Look at the next token of every row."""
        logits = self._model.lm_head(self._sequences.hidden).float()  # (rows, v)
        self._next = logits.argmax(dim=-1)
        self._check(logits.gather(1, self._next[:, None]))
        # no spelling is more probable than its first token, so most positions need no look at the rest
        at_most = logits.softmax(dim=-1)[:, self._tree.firsts].sum(dim=-1)  # (rows,)
        if position > 0 and not bool((at_most > _MOST).any()):
            return
        both = self._tree.read(self._model, self._sequences, self._compute)  # (rows, 2)
        self._check(both)
        for row, (yes, no) in zip(self._rows, both.tolist(), strict=True):
            score = Score(
                probability=1 / (1 + math.exp(min(no - yes, 700))),  # a larger exponent would overflow
                share=math.exp(yes) + math.exp(no),
                position=position,
            )
            if position == 0 or score.is_verdict:
                self.found[row] = score

    def go_on(self, wanted: Sequence[int]) -> bool:
        """Append the likeliest token to the wanted rows without a verdict; return whether there are any."""
        tokens = self._next.tolist()
        kept = [
            index
            for index, row in enumerate(self._rows)
            if row in wanted and not self.found[row].is_verdict and tokens[index] != self._eos
        ]
        if not kept:
            return False
        self._rows = [self._rows[index] for index in kept]
        chosen = self._next[kept]
        self._sequences, _ = extended(
            self._model,
            self._sequences.select(kept),
            self._model.embed_words(chosen, self._compute.dtype)[:, None],
        )
        return True

    def _check(self, values: Tensor) -> None:
        """Raise SamplingError where values (rows, n) are no numbers, with the rows of the prompts."""
        is_whole = values.isfinite().all(dim=1).tolist()
        broken = [row for row, is_fine in zip(self._rows, is_whole, strict=True) if not is_fine]
        if broken:
            raise not_finite(broken, self._compute.dtype)
