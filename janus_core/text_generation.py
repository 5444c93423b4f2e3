"""Answers: prompts in, text out, one token at a time for a batch of conversations.

Left-pads prompts of different length, prefills them together, then decodes; finished rows leave the batch. It
knows nothing of templates or pixels: prompts arrive as plans, pictures as embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .model import Language
from .noise import gumbel_noise
from .options import OnStep, OnText, TextOptions
from .prefill import Compute, Sequences, check_context, pad_left
from .prompting import PromptPlan
from .sampling import next_tokens, penalise_repetition
from .text_tokenizer import TextTokenizer

_NOISE_BLOCK = 16  # positions whose noise is computed together


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What to answer.

    Attributes:
        plans: one per answer.
        image_embeddings: (pictures, n, d) of all plans in order, or None where no plan has a picture.
    """

    plans: Sequence[PromptPlan]
    image_embeddings: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer.

    Attributes:
        text: without special tokens and surrounding blanks, cut before a stop text.
        token_ids: what was generated, the end mark included.
        prompt_tokens: length of the prompt.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int


def generate_text(
    language: Language,
    prompts: Prompts,
    tokenizer: TextTokenizer,
    options: TextOptions,
    *,
    seed: int,
    compute: Compute,
    on_text: OnText | None = None,
    on_step: OnStep | None = None,
) -> list[Answer]:
    """Answer a batch of prompts; row i draws its noise from seed + i.

    Args:
        language: ready on the device of `compute`.
        prompts: one per answer.
        tokenizer: the model's.
        options: how to choose tokens and when to stop.
        seed: any integer; unused at temperature 0.
        compute: device and dtype.
        on_text: receives each answer as it grows.
        on_step: receives each step.

    Raises:
        PromptError: a prompt leaves no room in the context.
    """
    model, config = language.language_model, language.language_model.config
    check_context(prompts.plans, config, 1)
    padded = pad_left(prompts.plans, tokenizer.special.pad, compute.device)
    room = [min(options.max_new_tokens, config.max_position_embeddings - len(plan)) for plan in prompts.plans]
    steps = max(room)
    sequences = Sequences(language, padded, prompts.image_embeddings, new_tokens=steps, compute=compute)
    batch, chooser = _Batch(room, tokenizer, options, on_text), _Chooser(options)
    noise = _TextNoise(options, seed, config.vocab_size, compute.device)
    for step in range(steps):
        chosen = chooser.choose(model.lm_head(sequences.hidden).float(), noise.at(step, batch.rows))
        finished = batch.take(chosen.tolist())
        if on_step is not None:
            on_step(step + 1, steps)
        kept = [index for index, is_done in enumerate(finished) if not is_done]
        if not kept:
            break
        batch.keep(kept)
        chooser.keep(kept)
        sequences.select(kept)
        sequences.feed(model.embed_tokens(chosen[kept]))
    return batch.answers(prompts.plans)


class _TextNoise:
    """Gumbel noise of the rows still being written, computed a block of positions at a time."""

    def __init__(self, options: TextOptions, seed: int, num_codes: int, device: torch.device) -> None:
        self.active, self.seed, self.num_codes, self.device = options.temperature > 0, seed, num_codes, device
        self.block: Tensor | None = None
        self.rows: list[int] = []

    def at(self, step: int, rows: list[int]) -> Tensor | None:
        """Return noise (rows, v) for one position, or None where nothing is random."""
        if not self.active:
            return None
        if self.block is None or step % _NOISE_BLOCK == 0 or rows != self.rows:
            start = step - step % _NOISE_BLOCK
            seeds = [self.seed + row for row in rows]
            self.rows = list(rows)
            positions = range(start, start + _NOISE_BLOCK)
            self.block = gumbel_noise(seeds, positions, self.num_codes, self.device)
        return self.block[:, step % _NOISE_BLOCK]


class _Chooser:
    """Picks the next token of every row and remembers, if a penalty needs it, which ones a row has used."""

    def __init__(self, options: TextOptions) -> None:
        self.options = options
        self.used: Tensor | None = None

    def choose(self, logits: Tensor, noise: Tensor | None) -> Tensor:
        """Return the next token (b,) int64 of logits (b, v)."""
        options = self.options
        if options.repetition_penalty != 1:
            self.used = torch.zeros_like(logits, dtype=torch.bool) if self.used is None else self.used
            logits = penalise_repetition(logits, self.used, options.repetition_penalty)
        chosen = next_tokens(
            logits,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            noise=noise,
        )
        if self.used is not None:
            self.used.scatter_(1, chosen[:, None], True)
        return chosen

    def keep(self, rows: list[int]) -> None:
        """Forget all rows but those at the given indices."""
        self.used = None if self.used is None else self.used[rows]


class _Batch:
    """The text side of a batch: what each answer says so far and whether it is finished."""

    def __init__(
        self, room: Sequence[int], tokenizer: TextTokenizer, options: TextOptions, on_text: OnText | None
    ) -> None:
        self.room, self.tokenizer, self.stop, self.on_text = room, tokenizer, options.stop, on_text
        self.rows = list(range(len(room)))
        self.token_ids: list[list[int]] = [[] for _ in room]

    def take(self, tokens: Sequence[int]) -> list[bool]:
        """Append one token to each unfinished row and tell which rows it finishes."""
        finished = []
        for row, token in zip(self.rows, tokens, strict=True):
            self.token_ids[row].append(token)
            done = token == self.tokenizer.special.eos or len(self.token_ids[row]) == self.room[row]
            if self.on_text is not None or self.stop:
                text, stopped = self._text(row)
                done = done or stopped
                if self.on_text is not None:
                    self.on_text(row, (text if done else self._settled(text)).strip())
            finished.append(done)
        return finished

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with the unfinished rows at the given indices only."""
        self.rows = [self.rows[index] for index in indices]

    def _text(self, row: int) -> tuple[str, bool]:
        """Return a row's text, cut before the first stop text, and whether one was there."""
        text = self.tokenizer.decode(self.token_ids[row])
        cuts = [text.find(stop) for stop in self.stop if stop in text]
        return (text[: min(cuts)] if cuts else text), bool(cuts)

    def _settled(self, text: str) -> str:
        """Return what no later token can take back: neither half a character nor the beginning of a stop."""
        text = text.rstrip("\ufffd")
        begun = [
            length for stop in self.stop for length in range(1, len(stop)) if text.endswith(stop[:length])
        ]
        return text[: len(text) - max(begun, default=0)]

    def answers(self, plans: Sequence[PromptPlan]) -> list[Answer]:
        """Return all answers in the order of their prompts."""
        return [
            Answer(text=self._text(row)[0].strip(), token_ids=tuple(ids), prompt_tokens=len(plan))
            for row, (ids, plan) in enumerate(zip(self.token_ids, plans, strict=True))
        ]
