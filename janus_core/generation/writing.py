"""Writing answers: the step that makes every row a token longer, and the writer that runs it block by block.

It knows rows of tokens and when to read them from the device; texts, and whether a row is finished, are the
business of `answering`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.language_model import LanguageModel
from ..options import Compute, TextOptions
from .capturing import Stepper
from .noise import NoiseBlocks, block_words
from .sampling import are_finite, next_tokens, penalise_repetition
from .static_decoder import decoder_for
from .steps import Sequences

_BLOCK = 16  # tokens of a row that are read at once from a GPU
# The largest share of unfinished rows at which finished ones are dropped.
_DROP_AT_ONCE = 1.0  # dropping one costs no more than a copy of the cache
_DROP_FOR_A_CAPTURE = 0.75  # dropping some means capturing the step again


def reads_in_blocks(step: AnsweringStep, compute: Compute) -> bool:
    """Tell whether the host reads tokens in blocks: on a GPU that each single read would keep waiting."""
    return step.can_be_captured or (compute.is_resident and compute.device.type == "cuda")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Tokens that the host has read.

    Attributes:
        tokens: one list of new tokens for each row.
        is_finite: likewise, whether the logits that each token was chosen from were finite.
    """

    tokens: list[list[int]]
    is_finite: list[list[bool]]


class Writer:
    """Runs the step for blocks of tokens and reads each block from the device.

    On a GPU that holds the whole model a block is long, since each read waits for the device, and the next
    block is queued before a read. Elsewhere a block is one token, so that the caller can interrupt at once.
    Captured steps drop rows only when enough have finished to pay for a new capture.

    Attributes:
        steps: tokens to write at most.
        worth_dropping: finished rows are dropped once the unfinished ones are at most this share.
    """

    def __init__(self, step: AnsweringStep, stepper: Stepper, steps: int, *, in_blocks: bool) -> None:
        self._step = step
        self._stepper = stepper
        self.steps = steps
        self.worth_dropping = _DROP_FOR_A_CAPTURE if step.can_be_captured else _DROP_AT_ONCE
        self._length = _BLOCK if in_blocks else 1
        self._reads_ahead = in_blocks  # queue the next block before reading this one
        self._done = 0  # steps queued
        self._queued: deque[tuple[Tensor, Tensor, torch.cuda.Event | None]] = deque()

    def read(self) -> Block | None:
        """Return the next block of all rows, or None behind the last one."""
        is_first = self._done == 0
        if not self._queued:
            self._queue()
        if not self._queued:
            return None
        if self._reads_ahead and not is_first:  # many answers are short, and the first text should come soon
            self._queue()
        tokens, is_finite, is_there = self._queued.popleft()
        if is_there is not None:
            is_there.synchronize()  # waits for this block's copy only, not for the block behind it
        return Block(tokens=tokens.tolist(), is_finite=is_finite.tolist())

    def stop_reading_ahead(self) -> bool:
        """Queue no further block of these rows; return whether none is left, so that rows can be dropped."""
        self._reads_ahead = False
        return not self._queued

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but those at the given indices."""
        self._stepper.restart()  # first: graphs hold addresses of the buffers that are replaced now
        self._step.keep(rows)
        self._reads_ahead = self._length > 1

    def _queue(self) -> None:
        """Queue the steps of a block and the copy of their tokens to the host."""
        count = min(self._length, self.steps - self._done)
        if count <= 0:
            return
        step = self._step
        step.begin_block()
        for done in range(self._done, self._done + count):
            if done == 0:  # the first token comes from the prefill, without a step
                step.choose(step.first)
            else:
                self._stepper.run(step, step.prepare(done))
        self._done += count
        # An asynchronous copy: the stream orders it before the next block, which overwrites the buffers.
        is_async = step.tokens.is_cuda
        tokens = step.tokens[:, :count].to("cpu", non_blocking=is_async, copy=True)
        is_finite = step.is_finite[:, :count].to("cpu", non_blocking=is_async, copy=True)
        is_there = None
        if is_async:
            is_there = torch.cuda.Event(blocking=True)
            is_there.record(torch.cuda.current_stream(step.tokens.device))
        self._queued.append((tokens, is_finite, is_there))


class AnsweringStep:
    """One step of answering: embed the tokens chosen last, decode, score, pick, write.

    Every step does the same work on the same buffers until rows are dropped, so that it can be captured.

    Attributes:
        first: (b, d), the hidden states that the first token is chosen from.
        tokens: (b, block) int64, filled from the left.
        is_finite: (b, block) bool, whether the logits that each token was chosen from were finite.
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
        together = block_words(rows)  # positions
        self._noise = NoiseBlocks(seeds, words, device, length=together) if options.temperature > 0 else None
        is_penalised = options.repetition_penalty != 1
        # (b, v) bool, tokens that a row's answer already has
        self._used = torch.zeros(rows, words, dtype=torch.bool, device=device) if is_penalised else None
        self.is_finite = torch.ones(rows, _BLOCK, dtype=torch.bool, device=device)
        self.tokens = torch.zeros(rows, _BLOCK, dtype=torch.int64, device=device)
        self._last = torch.zeros(rows, dtype=torch.int64, device=device)  # the tokens chosen last
        self._column = torch.zeros(1, dtype=torch.int64, device=device)  # where the next ones are written

    def prepare(self, position: int) -> int:
        """Prepare the step that chooses the token at a position; return the number its shapes depend on."""
        if self._noise is not None:
            self._noise.prepare(position)
        return self._decoder.prepare(position - 1)  # the first token took no step

    def begin_block(self) -> None:
        """Write from the left again."""
        self._column.zero_()  # queued like a step, so the copy of the last block comes before it

    def __call__(self) -> None:
        """Take one step."""
        self.choose(self._decoder.step(self._model.embed_words(self._last, self._dtype)))

    def choose(self, hidden: Tensor) -> None:
        """Choose the next token of each row from hidden states (b, d), and write it."""
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
        )  # (b,)
        if self._used is not None:
            self._used.scatter_(1, chosen[:, None], True)
        self.is_finite.index_copy_(1, self._column, are_finite(logits, chosen)[:, None])
        self._last.copy_(chosen)
        self.tokens.index_copy_(1, self._column, chosen[:, None])
        self._column.add_(1)

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but those at the given indices; the others move to new buffers."""
        index = torch.tensor(rows, device=self._last.device)
        self._decoder = self._decoder.select(rows)
        if self._noise is not None:
            self._noise.select(rows)
        self._used = None if self._used is None else self._used[index]
        self.is_finite = self.is_finite[index]
        self.tokens = self.tokens[index]
        self._last = self._last[index]
