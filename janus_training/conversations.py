"""Conversations and drawing prompts as token sequences, in the very layout in which the model is asked.

The template is `prompting`'s; this file appends answers, and says which tokens are to be learnt. It knows
nothing of the world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from janus_core.inputs.prompting import PromptPlan, TurnText, plan_conversation
from janus_core.inputs.text_tokenizer import TextTokenizer


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a person asks and what the model is to answer."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A token sequence with what is to be learnt of it.

    Attributes:
        plan: all tokens, pictures expanded.
        is_learnt: for each token, True where the model is to predict it.
    """

    plan: PromptPlan
    is_learnt: tuple[bool, ...]


def write_conversation(
    exchanges: Sequence[Exchange],
    tokenizer: TextTokenizer,
    *,
    image_tokens: int,
    tokens: float = math.inf,
    num_images: int = 1,
) -> Lesson:
    """Write a conversation of which the answers with their end marks are learnt.

    Args:
        exchanges: one or more, in order.
        tokenizer: the model's.
        image_tokens: features of each picture that comes with the first question; 0 for no picture.
        tokens: the most that the conversation may have; it is cut behind an answer, not before the first.
        num_images: pictures, if any.
    """
    shown = num_images if image_tokens else 0
    turns = [TurnText(role="user", text=exchanges[0].question, num_images=shown)]
    for before, after in pairwise(exchanges):
        turns += [
            TurnText(role="assistant", text=before.answer),
            TurnText(role="user", text=after.question),
        ]
    prompt = plan_conversation(turns, tokenizer, image_tokens=image_tokens)
    last = (*tokenizer.encode(f" {exchanges[-1].answer}"), tokenizer.special.eos)
    token_ids = prompt.token_ids + last
    ends = [index + 1 for index, token in enumerate(token_ids) if token == tokenizer.special.eos]
    end = max([place for place in ends if place <= tokens], default=ends[0])
    plan = PromptPlan(
        token_ids=token_ids[:end],
        is_image=(prompt.is_image + (False,) * len(last))[:end],
        num_images=prompt.num_images,
    )
    return Lesson(plan=plan, is_learnt=_answers(plan.token_ids, tokenizer))


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """What follows the last picture of a conversation.

    Attributes:
        token_ids: words alone.
        is_learnt: for each token, True where the model is to predict it.
    """

    token_ids: tuple[int, ...]
    is_learnt: tuple[bool, ...]


def split_behind_pictures(lesson: Lesson) -> tuple[PromptPlan, Continuation]:
    """Split a conversation behind the end mark of its last picture.

    Returns: what all questions about the same pictures begin with, and what follows here.
    """
    end = max(index for index, is_image in enumerate(lesson.plan.is_image) if is_image) + 2
    plan = lesson.plan
    start = PromptPlan(
        token_ids=plan.token_ids[:end], is_image=plan.is_image[:end], num_images=plan.num_images
    )
    return start, Continuation(token_ids=plan.token_ids[end:], is_learnt=lesson.is_learnt[end:])


def write_document(texts: Sequence[str], tokenizer: TextTokenizer, *, tokens: int) -> Lesson:
    """Write texts one after the other, each with its end mark; everything behind BOS is learnt.

    Args:
        texts: one or more.
        tokenizer: the model's.
        tokens: as for `write_conversation`.
    """
    parts = [(*tokenizer.encode(text), tokenizer.special.eos) for text in texts]
    ends = list(accumulate(map(len, parts), initial=1))[1:]
    kept = max(sum(end <= tokens for end in ends), 1)
    ids = (tokenizer.special.bos, *(token for part in parts[:kept] for token in part))
    plan = PromptPlan(token_ids=ids, is_image=(False,) * len(ids), num_images=0)
    return learn_all(Lesson(plan=plan, is_learnt=()))


def learn_all(lesson: Lesson) -> Lesson:
    """Return the sequence with every token learnt but the first, which nothing predicts."""
    return Lesson(plan=lesson.plan, is_learnt=(False,) + (True,) * (len(lesson.plan) - 1))


def _answers(token_ids: Sequence[int], tokenizer: TextTokenizer) -> tuple[bool, ...]:
    """Mark the tokens behind each "assistant:" up to and with the next end mark."""
    special, colon = tokenizer.special, len(tokenizer.encode(":"))
    marks: list[bool] = []
    since_role: int | None = None
    for token in token_ids:
        if since_role is not None:
            since_role += 1
        marks.append(since_role is not None and since_role > colon)
        if token == special.assistant:
            since_role = 0
        elif token == special.eos:
            since_role = None
    return tuple(marks)
