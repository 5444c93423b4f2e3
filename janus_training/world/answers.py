"""A question with its answer, and whether another answer means the same."""

from __future__ import annotations

from dataclasses import dataclass

from .facts import judge
from .parsing import caption_facts, normalise


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something to ask about a picture.

    Attributes:
        kind: what it asks for; accuracy is counted per kind.
        question: as a person would write it.
        answer: the canonical answer, the one to train on.
        accepted: all wordings that count as right, among them `answer`.
    """

    kind: str
    question: str
    answer: str
    accepted: tuple[str, ...]


def is_right(question: Question, text: str) -> bool:
    """Return True if `text` is an accepted answer, or a description that states the very same facts."""
    if normalise(text) in map(normalise, question.accepted):
        return True
    true = caption_facts(question.answer)
    return true is not None and judge(caption_facts(text), true).is_exact


def ask(kind: str, question: str, answer: str, *others: str) -> Question:
    """Build a question whose accepted answers are `answer` and `others`."""
    return Question(kind=kind, question=question, answer=answer, accepted=(answer, *others))
