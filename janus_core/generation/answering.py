"""Answers: prompts in, text out, one token at a time for a batch of conversations.

Left-pads prompts of different length, prefills them together, then decodes; finished rows leave the batch. It
knows nothing of templates or pixels: prompts arrive as plans, pictures as embeddings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.prompting import PromptPlan
from ..inputs.text_tokenizer import TextTokenizer
from ..model.language_model import LanguageModel
from ..model.model import TextLanguage
from ..options import Compute, OnStep, OnText, TextOptions
from .capturing import Stepper
from .noise import NoiseBlocks
from .prefill import check_context, pad_left, prefill, shared_words
from .sampling import are_finite, next_tokens, not_finite, penalise_repetition
from .static_decoder import decoder_for
from .steps import Sequences

_BLOCK = 16  # positions whose noise is computed together; captured, tokens between two looks at the device
_ANY = 1.0  # of the rows: dropping one costs nothing but a copy of the cache
_WORTH_A_CAPTURE = 0.75  # of the rows: dropping some means capturing the step again


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
        SamplingError: the scores of an answer are no numbers; `rows` tells which.
    """
    model, config = language.language_model, language.language_model.config
    check_context(prompts.plans, config, 1)
    room = [min(options.max_new_tokens, config.max_position_embeddings - len(plan)) for plan in prompts.plans]
    padded = pad_left(
        prompts.plans, tokenizer.special.pad, compute.device, shared=shared_words(prompts.plans)
    )
    sequences = prefill(language, padded, prompts.image_embeddings, new_tokens=max(room), compute=compute)
    batch = _Batch(room, tokenizer, options, on_text)
    step = AnsweringStep(model, sequences, options, seed, compute)
    with Stepper(compute.device, captures=step.can_be_captured) as stepper:
        _write(Writer(step, stepper, max(room), looks_rarely=_looks_rarely(step, compute)), batch, on_step)
    if batch.broken:
        raise not_finite(sorted(batch.broken), compute.dtype)
    return batch.answers(prompts.plans)


def _looks_rarely(step: AnsweringStep, compute: Compute) -> bool:
    """Tell whether the host looks at a block of tokens at once, where each look would keep a GPU waiting."""
    return step.can_be_captured or (compute.is_resident and compute.device.type == "cuda")


def _write(writer: Writer, batch: _Batch, on_step: OnStep | None) -> None:
    """Write until all rows are finished, looking at the device once for each block of tokens."""
    done = 0
    while not all(batch.finished) and (block := writer.read()) is not None:
        batch.note_broken(block.is_finite)
        for column in zip(*block.tokens, strict=True):
            done += 1
            batch.take(column)
            if on_step is not None:
                on_step(done, writer.steps)
            if all(batch.finished):
                break
        kept = [index for index, is_done in enumerate(batch.finished) if not is_done]
        worth_it = len(kept) <= writer.worth_dropping * len(batch.finished)
        if 0 < len(kept) < len(batch.finished) and worth_it and writer.can_drop():
            batch.keep(kept)
            writer.keep(kept)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Tokens that the host has read.

    Attributes:
        tokens: one list of new tokens for each row.
        is_finite: for each row, whether all its scores were numbers so far.
    """

    tokens: list[list[int]]
    is_finite: list[bool]


class Writer:
    """Runs the step for blocks of tokens, and reads a block once it is there.

    On a GPU with the whole model a block is long, since each look waits for the device, and the block behind
    it is queued before the look. Elsewhere every token is looked at, so that an interruption is felt.
    Captured steps drop rows only where enough have finished to pay for a new capture.

    Attributes:
        steps: tokens to write at most.
        worth_dropping: the share of unfinished rows from which on the others are dropped.
    """

    def __init__(self, step: AnsweringStep, stepper: Stepper, steps: int, *, looks_rarely: bool) -> None:
        self._step = step
        self._stepper = stepper
        self.steps = steps
        self.worth_dropping = _WORTH_A_CAPTURE if step.can_be_captured else _ANY
        self._length = _BLOCK if looks_rarely else 1
        self._looks_ahead = looks_rarely
        self._done = 0  # steps queued
        self._queued: deque[tuple[Tensor, Tensor, torch.cuda.Event | None]] = deque()

    def read(self) -> Block | None:
        """Return the next block of all rows, or None behind the last one."""
        if not self._queued:
            self._queue()
        if not self._queued:
            return None
        if self._looks_ahead:
            self._queue()
        tokens, is_finite, is_there = self._queued.popleft()
        if is_there is not None:
            is_there.synchronize()
        return Block(tokens=tokens.tolist(), is_finite=is_finite.tolist())

    def can_drop(self) -> bool:
        """Tell whether rows can be dropped now: a block under way holds all rows, and is read first."""
        self._looks_ahead = self._length > 1 and not self._queued
        return not self._queued

    def keep(self, rows: list[int]) -> None:
        """Go on with the rows at the given indices only."""
        self._stepper.restart()
        self._step.keep(rows)
        self._looks_ahead = self._length > 1

    def _queue(self) -> None:
        """Queue the steps of a block, and the copy of what they write."""
        count = min(self._length, self.steps - self._done)
        if count <= 0:
            return
        step = self._step
        step.begin_block()
        for done in range(self._done, self._done + count):
            if done == 0:
                step.choose(step.first)
            else:
                self._stepper.run(step, step.prepare(done))
        self._done += count
        # A copy that the host does not wait for, and steps behind it overwrite nothing before it is done.
        runs_ahead = step.tokens.is_cuda
        tokens = step.tokens[:, :count].to("cpu", non_blocking=runs_ahead, copy=True)
        is_finite = step.is_finite.to("cpu", non_blocking=runs_ahead, copy=True)
        is_there = None
        if runs_ahead:
            is_there = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            is_there.record(torch.cuda.current_stream(step.tokens.device))
        self._queued.append((tokens, is_finite, is_there))


class AnsweringStep:
    """One step of answers: embed the tokens chosen last, run the decoder, score, pick, write.

    Nothing that it does depends on which step it is, and all it touches keeps its address until rows are
    dropped, so that it can be captured.

    Attributes:
        first: (b, d), the hidden states that the first token comes from.
        tokens: (b, block) int64, filled from the left.
        is_finite: (b,) bool, whether all scores of a row were numbers so far.
        can_be_captured: whether the step may be captured.
    """

    def __init__(
        self, model: LanguageModel, sequences: Sequences, options: TextOptions, seed: int, compute: Compute
    ) -> None:
        self._model = model
        self._options = options
        self._dtype = compute.dtype
        self.first = sequences.hidden
        rows, device, words = len(self.first), compute.device, model.config.vocab_size
        self._decoder = decoder_for(model, sequences, compute)
        self.can_be_captured = self._decoder.can_be_captured
        seeds = range(seed, seed + rows)
        self._noise = NoiseBlocks(seeds, words, device, length=_BLOCK) if options.temperature > 0 else None
        is_penalised = options.repetition_penalty != 1
        self._used = torch.zeros(rows, words, dtype=torch.bool, device=device) if is_penalised else None
        self.is_finite = torch.ones(rows, dtype=torch.bool, device=device)
        self.tokens = torch.zeros(rows, _BLOCK, dtype=torch.int64, device=device)
        self._last = torch.zeros(rows, dtype=torch.int64, device=device)
        self._column = torch.zeros(1, dtype=torch.int64, device=device)

    def prepare(self, position: int) -> int:
        """Get ready for the step that chooses the token at a position; return what the shapes depend on."""
        if self._noise is not None:
            self._noise.prepare(position)
        return self._decoder.prepare(position - 1)

    def begin_block(self) -> None:
        """Write from the left again."""
        self._column.zero_()

    def __call__(self) -> None:
        """Do the step."""
        self.choose(self._decoder.step(self._model.embed_words(self._last, self._dtype)))

    def choose(self, hidden: Tensor) -> None:
        """Choose the next token of each row from hidden states (b, d), and write it down."""
        options = self._options
        logits = self._model.lm_head(hidden).float()  # (b, v)
        if self._used is not None:
            logits = penalise_repetition(logits, self._used, options.repetition_penalty)
        chosen = next_tokens(
            logits,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            noise=None if self._noise is None else self._noise.next(),
        )
        if self._used is not None:
            self._used.scatter_(1, chosen[:, None], True)
        self.is_finite.logical_and_(are_finite(logits, chosen))
        self._last.copy_(chosen)
        self.tokens.index_copy_(1, self._column, chosen[:, None])
        self._column.add_(1)

    def keep(self, rows: list[int]) -> None:
        """Go on with the rows at the given indices only, in memory of their own."""
        index = torch.tensor(rows, device=self._last.device)
        self._decoder = self._decoder.select(rows)
        if self._noise is not None:
            self._noise.select(rows)
        self._used = None if self._used is None else self._used[index]
        self.is_finite = self.is_finite[index]
        self.tokens = self.tokens[index]
        self._last = self._last[index]


class _Batch:
    """The text side of a batch: what each answer says so far and whether it is finished."""

    def __init__(
        self, room: Sequence[int], tokenizer: TextTokenizer, options: TextOptions, on_text: OnText | None
    ) -> None:
        self.room = room
        self.tokenizer = tokenizer
        self.stop = options.stop
        self.on_text = on_text
        self.rows = list(range(len(room)))
        self.broken: set[int] = set()
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

    def note_broken(self, is_finite: Sequence[bool]) -> None:
        """End the rows whose scores are no numbers."""
        for index, row in enumerate(self.rows):
            if not is_finite[index]:
                self.broken.add(row)
                self.finished[index] = True

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
