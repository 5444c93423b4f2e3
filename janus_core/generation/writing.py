"""Writing answers: the step that makes every row a token longer, and the writer that runs it block by block.

It knows rows of tokens and when to look at the device; what a row says, and whether it is finished, is known
in `answering`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.language_model import LanguageModel
from ..options import Compute, TextOptions
from .capturing import Stepper
from .noise import NoiseBlocks
from .sampling import are_finite, next_tokens, penalise_repetition
from .static_decoder import decoder_for
from .steps import Sequences

_BLOCK = 16  # positions whose noise is computed together; captured, tokens between two looks at the device
_ANY = 1.0  # of the rows: dropping one costs nothing but a copy of the cache
_WORTH_A_CAPTURE = 0.75  # of the rows: dropping some means capturing the step again


def looks_rarely(step: AnsweringStep, compute: Compute) -> bool:
    """Tell whether the host looks at a block of tokens at once, where each look would keep a GPU waiting."""
    return step.can_be_captured or (compute.is_resident and compute.device.type == "cuda")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Tokens that the host has read.

    Attributes:
        tokens: one list of new tokens for each row.
        is_finite: likewise, whether the scores that each token was chosen from were numbers.
    """

    tokens: list[list[int]]
    is_finite: list[list[bool]]


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
        is_finite = step.is_finite[:, :count].to("cpu", non_blocking=runs_ahead, copy=True)
        is_there = None
        if runs_ahead:
            is_there = torch.cuda.Event(blocking=True)
            is_there.record(torch.cuda.current_stream(step.tokens.device))
        self._queued.append((tokens, is_finite, is_there))


class AnsweringStep:
    """One step of answers: embed the tokens chosen last, run the decoder, score, pick, write.

    Nothing that it does depends on which step it is, and all it touches keeps its address until rows are
    dropped, so that it can be captured.

    Attributes:
        first: (b, d), the hidden states that the first token comes from.
        tokens: (b, block) int64, filled from the left.
        is_finite: (b, block) bool, whether the scores that each token was chosen from were numbers.
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
        self.is_finite = torch.ones(rows, _BLOCK, dtype=torch.bool, device=device)
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
        self.is_finite.index_copy_(1, self._column, are_finite(logits, chosen)[:, None])
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
