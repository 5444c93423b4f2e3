"""Answers: prompts in, text out, one token at a time for a batch of conversations.

Left-pads prompts of different length, prefills them together, then decodes; finished rows are dropped from
the batch. Nothing here knows of templates or pixels: prompts arrive as plans, pictures as embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..inputs.prompting import PromptPlan
from ..inputs.text_tokenizer import TextTokenizer
from ..model.model import TextLanguage
from ..options import Compute, OnStep, OnText, TextOptions
from .capturing import Stepper
from .prefill import check_context, pad_left, prefill, shared_words
from .sampling import not_finite
from .writing import AnsweringStep, Writer, reads_in_blocks


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
        text: without special tokens and surrounding blanks, cut before the first stop text.
        token_ids: all generated tokens, EOS included.
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
    """Answer a batch of prompts; row i uses the noise of seed + i.

    Args:
        language: ready on the device of `compute`.
        prompts: one per answer.
        tokenizer: the model's.
        options: how to choose tokens and when to stop.
        seed: any integer; unused at temperature 0.
        compute: device and dtype.
        on_text: called with each answer as it grows.
        on_step: called after each step.

    Raises:
        PromptError: a prompt leaves no room in the context.
        SamplingError: the logits of an answer are not finite; `rows` tells which.
    """
    model, config = language.language_model, language.language_model.config
    check_context(prompts.plans, config, 1)
    # the context ends an answer early rather than refuse a prompt that leaves little of it
    room = [min(options.max_new_tokens, config.max_position_embeddings - len(plan)) for plan in prompts.plans]
    padded = pad_left(
        prompts.plans, tokenizer.special.pad, compute.device, shared=shared_words(prompts.plans)
    )
    sequences = prefill(language, padded, prompts.image_embeddings, new_tokens=max(room), compute=compute)
    batch = _Batch(room, tokenizer, options, on_text)
    step = AnsweringStep(model, sequences, options, seed, compute)
    del sequences  # the step owns their cache, and leaves it behind when rows are dropped
    with Stepper(compute.device, captures=step.can_be_captured) as stepper:
        writer = Writer(step, stepper, max(room), in_blocks=reads_in_blocks(step, compute))
        _write(writer, batch, on_step)
    if batch.broken:
        raise not_finite(sorted(batch.broken), compute.dtype)
    return batch.answers(prompts.plans)


def _write(writer: Writer, batch: _Batch, on_step: OnStep | None) -> None:
    """Write until all rows are finished, reading from the device once for each block of tokens."""
    done = 0
    while not all(batch.finished) and (block := writer.read()) is not None:
        # a block is (rows, length) on both counts; its columns are the steps
        columns = zip(zip(*block.tokens, strict=True), zip(*block.is_finite, strict=True), strict=True)
        for tokens, is_finite in columns:
            done += 1
            batch.take(tokens, is_finite)
            if on_step is not None:
                on_step(done, writer.steps)
            if all(batch.finished):
                break  # the rest of the block was computed in vain and is dropped
        kept = [index for index, is_done in enumerate(batch.finished) if not is_done]
        worth_it = len(kept) <= writer.worth_dropping * len(batch.finished)  # of the rows still computed
        if 0 < len(kept) < len(batch.finished) and worth_it and writer.stop_reading_ahead():
            batch.keep(kept)
            writer.keep(kept)


class _Batch:
    """The text side of a batch: each answer so far and whether it is finished."""

    def __init__(
        self, room: Sequence[int], tokenizer: TextTokenizer, options: TextOptions, on_text: OnText | None
    ) -> None:
        self.room = room
        self.tokenizer = tokenizer
        self.stop = options.stop
        self.on_text = on_text
        self.rows = list(range(len(room)))  # which answer each row of the decoder belongs to
        self.broken: set[int] = set()  # answers whose logits were not finite
        self.finished = [False] * len(room)  # by row of the decoder; shrinks with `rows`
        self.token_ids: list[list[int]] = [[] for _ in room]  # by answer

    def take(self, tokens: Sequence[int], is_finite: Sequence[bool]) -> None:
        """Append one token to each unfinished row; note which rows are finished by it, or are not finite."""
        for index, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if self.finished[index]:
                continue  # still computed with the others, but said nothing of
            if not is_finite[index]:
                self.broken.add(row)
                self.finished[index] = True
                continue
            self.token_ids[row].append(token)
            done = token == self.tokenizer.special.eos or len(self.token_ids[row]) == self.room[row]
            if self.on_text is not None or self.stop:  # else decoding all tokens anew each time is spared
                text, stopped = self._text(row)
                done = done or stopped
                if self.on_text is not None:
                    self.on_text(row, (text if done else self._settled(text)).strip())
            self.finished[index] = done

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all rows but those at the given indices."""
        self.rows = [self.rows[index] for index in indices]
        self.finished = [self.finished[index] for index in indices]

    def _text(self, row: int) -> tuple[str, bool]:
        """Return a row's text, cut before the first stop text, and whether one was there."""
        text = self.tokenizer.decode(self.token_ids[row])
        cuts = [text.find(stop) for stop in self.stop if stop in text]
        return (text[: min(cuts)] if cuts else text), bool(cuts)

    def _settled(self, text: str) -> str:
        """Return the text that later tokens cannot change: no half character, no beginning of a stop text."""
        text = text.rstrip("\ufffd")  # bytes of a character whose last ones are still to come
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
