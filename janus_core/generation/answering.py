"""Answers: prompts in, text out, one token at a time for a batch of conversations.

Left-pads prompts of different length, prefills them together, then decodes; finished rows leave the batch. It
knows nothing of templates or pixels: prompts arrive as plans, pictures as embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..inputs.prompting import PromptPlan
from ..inputs.text_tokenizer import TextTokenizer
from ..model.language_model import LanguageModel
from ..model.model import TextLanguage
from ..options import Compute, OnStep, OnText, TextOptions
from .fixed_decoder import LayerWeights, merged
from .noise import gumbel_noise
from .prefill import Sequences, check_context, is_repeatable, pad_left, shared_words
from .repeats import Pace, Repeats, capture_for
from .sampling import next_tokens, penalise_repetition

_BLOCK = 16  # positions whose noise is computed together; on a GPU, tokens between two looks at the device
_ANY = 1.0  # of the rows: dropping one costs nothing but a copy of the cache
_WORTH_A_GRAPH = 0.75  # of the rows: dropping some means capturing the step again


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
    language: TextLanguage,
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
    shared = shared_words(prompts.plans)
    padded = pad_left(prompts.plans, tokenizer.special.pad, compute.device, shared=shared)
    room = [min(options.max_new_tokens, config.max_position_embeddings - len(plan)) for plan in prompts.plans]
    steps = max(room)
    sequences = Sequences(language, padded, prompts.image_embeddings, new_tokens=steps, compute=compute)
    batch = _Batch(room, tokenizer, options, on_text)
    noise = _TextNoise(options, seed, config.vocab_size, compute.device)
    if is_repeatable(model, compute):
        with merged(model) as weights:
            _write(RepeatedWriter(model, sequences, noise, options, weights), batch, steps, on_step)
    else:
        writer = PlainWriter(model, sequences, noise, options, block=_block(compute))
        _write(writer, batch, steps, on_step)
    return batch.answers(prompts.plans)


def _block(compute: Compute) -> int:
    """Return how many tokens to write between two looks: one where it takes long, for interruptions."""
    return _BLOCK if compute.is_resident and compute.device.type == "cuda" else 1


def _write(writer: Writer, batch: _Batch, steps: int, on_step: OnStep | None) -> None:
    """Write until all rows are finished, looking at the device once for each block of tokens."""
    done = 0
    while done < steps:
        tokens = writer.write(batch.rows, min(writer.block, steps - done))
        for column in tokens.T.tolist():
            done += 1
            batch.take(column)
            if on_step is not None:
                on_step(done, steps)
            if all(batch.finished):
                return
        kept = [index for index, is_done in enumerate(batch.finished) if not is_done]
        if len(kept) <= writer.worth_dropping * len(batch.finished):
            batch.keep(kept)
            writer.keep(kept)


class Writer(Protocol):
    """Writes further tokens of all rows.

    Attributes:
        block: how many tokens to ask for at once.
        worth_dropping: the share of unfinished rows from which on the others are dropped.
    """

    block: int
    worth_dropping: float

    def write(self, rows: Sequence[int], count: int) -> Tensor:
        """Return the next `count` tokens (b, count) of rows, given as the number of their answer."""

    def keep(self, rows: list[int]) -> None:
        """Go on with the rows at the given indices only."""


class PlainWriter:
    """Feeds tokens through the model's layers, wherever their weights may be."""

    worth_dropping = _ANY

    def __init__(
        self,
        model: LanguageModel,
        sequences: Sequences,
        noise: _TextNoise,
        options: TextOptions,
        *,
        block: int,
    ) -> None:
        self._model, self._sequences, self._noise = model, sequences, noise
        self._chooser = _Chooser(options)
        self._step = 0
        self._last: Tensor | None = None  # chosen and not yet fed
        self.block = block

    def write(self, rows: Sequence[int], count: int) -> Tensor:
        """Return the next `count` tokens (b, count)."""
        return torch.stack([self._next(rows) for _ in range(count)], dim=1)

    def _next(self, rows: Sequence[int]) -> Tensor:
        if self._last is not None:
            self._sequences.feed(self._model.embed_words(self._last, self._sequences.hidden.dtype))
        logits = self._model.lm_head(self._sequences.hidden).float()
        self._last = self._chooser.choose(logits, self._noise.at(self._step, rows))
        self._step += 1
        return self._last

    def keep(self, rows: list[int]) -> None:
        """Go on with the rows at the given indices only."""
        self._chooser.keep(rows)
        self._sequences.select(rows)
        self._last = None if self._last is None else self._last[rows]


class RepeatedWriter:
    """Writes by a step that is the same work on the same memory each time, captured where possible."""

    block = _BLOCK
    worth_dropping = _WORTH_A_GRAPH

    def __init__(
        self,
        model: LanguageModel,
        sequences: Sequences,
        noise: _TextNoise,
        options: TextOptions,
        weights: Sequence[LayerWeights],
    ) -> None:
        self._model, self._source, self._hidden = model, noise, sequences.hidden
        self._decoder, self._chooser, self._step = sequences.fixed(weights), _Chooser(options), 0
        self._pace = Pace(self._hidden.device)
        self._last = torch.zeros(len(self._hidden), dtype=torch.int64, device=self._hidden.device)
        self._reserve()

    def _reserve(self) -> None:
        """Set aside what the step writes to, and forget graphs that wrote elsewhere."""
        self._tokens = self._last.new_zeros(len(self._last), _BLOCK)
        self._column = self._last.new_zeros(1)
        self._noise: Tensor | None = None
        self._repeats = Repeats(self._run, capture_for(self._last.device))

    def write(self, rows: Sequence[int], count: int) -> Tensor:
        """Return the next `count` tokens (b, count), at most a block and less only at the end."""
        fresh = self._source.block(self._step, rows)
        self._noise = fresh if self._noise is None or fresh is None else self._noise.copy_(fresh)
        self._column.zero_()
        try:
            for step in range(self._step, self._step + count):
                if step == 0:
                    self._choose(self._hidden)
                else:
                    self._repeats(self._decoder.reach(step - 1))
                    self._pace.step()
        finally:
            self._pace.finish()
        self._step += count
        return self._tokens[:, :count]

    def _run(self, reach: int) -> None:
        """Do one step; nothing it does depends on which."""
        embeddings = self._model.embed_words(self._last, self._hidden.dtype)
        self._choose(self._decoder.step(embeddings, reach))

    def _choose(self, hidden: Tensor) -> None:
        noise = None if self._noise is None else self._noise.index_select(1, self._column)[:, 0]
        self._last.copy_(self._chooser.choose(self._model.lm_head(hidden).float(), noise))
        self._tokens.index_copy_(1, self._column, self._last[:, None])
        self._column.add_(1)

    def keep(self, rows: list[int]) -> None:
        """Go on with the rows at the given indices only."""
        self._chooser.keep(rows)
        self._last = self._last[rows]
        self._decoder = self._decoder.select(rows)
        self._reserve()


class _TextNoise:
    """Gumbel noise of the rows still being written, computed a block of positions at a time."""

    def __init__(self, options: TextOptions, seed: int, num_codes: int, device: torch.device) -> None:
        self.active, self.seed, self.num_codes, self.device = options.temperature > 0, seed, num_codes, device
        self.latest: Tensor | None = None
        self.rows: list[int] = []

    def block(self, step: int, rows: Sequence[int]) -> Tensor | None:
        """Return noise (rows, block, v) for the block around a position, or None where nothing is random."""
        if not self.active:
            return None
        start = step - step % _BLOCK
        seeds = [self.seed + row for row in rows]
        return gumbel_noise(seeds, range(start, start + _BLOCK), self.num_codes, self.device)

    def at(self, step: int, rows: Sequence[int]) -> Tensor | None:
        """Return noise (rows, v) for one position, or None where nothing is random."""
        if self.latest is None or step % _BLOCK == 0 or list(rows) != self.rows:
            self.rows, self.latest = list(rows), self.block(step, rows)
        return None if self.latest is None else self.latest[:, step % _BLOCK]


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
        self.finished = [False] * len(room)
        self.token_ids: list[list[int]] = [[] for _ in room]

    def take(self, tokens: Sequence[int]) -> None:
        """Append one token to each unfinished row and note which rows it finishes."""
        for index, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if self.finished[index]:
                continue
            self.token_ids[row].append(token)
            done = token == self.tokenizer.special.eos or len(self.token_ids[row]) == self.room[row]
            if self.on_text is not None or self.stop:
                text, stopped = self._text(row)
                done = done or stopped
                if self.on_text is not None:
                    self.on_text(row, (text if done else self._settled(text)).strip())
            self.finished[index] = done

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with the rows at the given indices only."""
        self.rows = [self.rows[index] for index in indices]
        self.finished = [self.finished[index] for index in indices]

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
