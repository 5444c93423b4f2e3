"""A question with its answer, and whether another answer means the same."""

from __future__ import annotations

from dataclasses import dataclass

from .facts import judge
from .parsing import caption_facts, normalise

_BEFORE_VERDICT = (", so ", ": ")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something to ask about a picture.

    Attributes:
        kind: what it asks for; accuracy is counted per kind.
        question: as a person would write it.
        answer: the canonical answer, the one to train on; a verdict comes behind the fact it rests on.
        accepted: all wordings that count as right, verdicts without their facts among them.
    """

    kind: str
    question: str
    answer: str
    accepted: tuple[str, ...]


def is_right(question: Question, text: str) -> bool:
    """Return True if `text` or the verdict at its end is accepted, or if it states the very same facts."""
    accepted = set(map(normalise, question.accepted))
    if normalise(text) in accepted or normalise(verdict(text)) in accepted:
        return True
    true = caption_facts(question.answer)
    return true is not None and judge(caption_facts(text), true).is_exact


def verdict(text: str) -> str:
    """Return what a text comes to: "It is blue, so no." is "no."."""
    for mark in _BEFORE_VERDICT:
        text = text.rsplit(mark, 1)[-1]
    return text


def ask(kind: str, question: str, answer: str, *others: str) -> Question:
    """Build a question whose accepted answers are `answer` and `others`."""
    return Question(kind=kind, question=question, answer=answer, accepted=(answer, *others))


def decide(kind: str, question: str, fact: str, is_yes: bool) -> Question:
    """Build a yes-or-no question; the answer begins with the fact, or nothing would lead to the verdict."""
    word = "yes" if is_yes else "no"
    return ask(kind, question, f"{fact[0].upper()}{fact[1:]}, so {word}.", word)
