"""Text without pictures, for a first reading: facts of the world, scenes told in words, small talk.

A passage is a prompt with an answer, or an answer alone where the prompt is empty. No held-out combination
occurs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .answers import Question
from .captions import caption, relation_sentence
from .dice import Dice, new_dice, pick, pick_weighted
from .drawing_prompts import drawing_prompt
from .facts import facts_of
from .outside import ONLY_SHAPES, outside_question
from .phrases import listed, sentence, with_article
from .questions import one_question
from .referring import short_name
from .scene_sampling import sample_scene
from .vocabulary import COLOURS, NUMBER_WORDS, OPPOSITE, PLURAL, SHAPES, SIZES, Shape

# Kinds of questions that a detailed caption answers by its words alone, for scenes of every kind.
_ANSWERED_BY_WORDS = (
    "colour",
    "shape",
    "size",
    "count",
    "where",
    "compare",
    "content",
    "ground",
    "absent",
    "outside",
)
_SCENE_NUMBERS = 2**40

_SIDES: dict[Shape, str] = {
    "square": "four",
    "triangle": "three",
    "diamond": "four",
    "cross": "twelve",
    "star": "ten",
}
_LOOKS: dict[Shape, str] = {
    "circle": "A circle is round.",
    "square": "A square has four equal sides.",
    "triangle": "A triangle has three corners.",
    "diamond": "A diamond stands on its corner.",
    "star": "A star has five points.",
    "cross": "A cross has four arms.",
}
_KNOWN: tuple[tuple[str, str], ...] = (
    ("Which colours do you know?", sentence(listed(COLOURS))),
    ("Which shapes do you know?", sentence(listed([PLURAL[shape] for shape in SHAPES]))),
    ("Which sizes do you know?", sentence(listed(SIZES))),
    ("Who are you?", "I am a small Janus. I know coloured shapes."),
    ("What are you?", "I am a small Janus. I know coloured shapes."),
    ("What can you do?", "I draw coloured shapes and answer questions about them."),
    ("What do you know?", ONLY_SHAPES),
    ("Hello.", "Hello."),
    ("Hi.", "Hello."),
    ("Good morning.", "Hello."),
    ("How are you?", ONLY_SHAPES),
    ("Thank you.", "You are welcome."),
    ("Goodbye.", "Goodbye."),
)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of text: what is asked, if anything, and what follows."""

    prompt: str
    answer: str


def passage(seed: int) -> Passage:
    """Return the passage with this seed, from the training side of the split."""
    dice = new_dice("passage", seed)
    tellers: tuple[Callable[[Dice], Passage], ...] = (_tell, _answer_about, _turn_round, _know, _decline)
    return pick_weighted(dice, tellers, (3, 5, 1.5, 1, 1))(dice)


def _scene_number(dice: Dice) -> int:
    return int(dice.random() * _SCENE_NUMBERS)


def _tell(dice: Dice) -> Passage:
    """Describe a scene, or wish for one."""
    scene = sample_scene(_scene_number(dice))
    texts = (caption(scene, "short"), caption(scene, "detailed"), drawing_prompt(scene, _scene_number(dice)))
    return Passage(prompt="", answer=pick(dice, texts))


def _answer_about(dice: Dice) -> Passage:
    """Answer a question about a scene told in words."""
    scene = sample_scene(_scene_number(dice))
    question: Question | None = None
    while question is None or not (scene.kind != "mixed" or question.kind in _ANSWERED_BY_WORDS):
        question = one_question(scene, _scene_number(dice))
    return Passage(prompt=f"{caption(scene, 'detailed')} {question.question}", answer=question.answer)


def _turn_round(dice: Dice) -> Passage:
    """Say a relation from the other side."""
    scene = sample_scene(_scene_number(dice), kinds=("pair",))
    facts = facts_of(scene)
    first, second = (short_name(mention) for mention in facts.mentions)
    relation = facts.relation or "above"
    told = relation_sentence(facts, relation)
    if relation == "inside":
        return Passage(prompt=f"{told} What is inside the {second}?", answer=sentence(with_article(first)))
    answer = sentence(f"{OPPOSITE[relation]} the {first}")
    return Passage(prompt=f"{told} Where is the {second} relative to the {first}?", answer=answer)


def _know(dice: Dice) -> Passage:
    """Tell what every shape is like, and who is speaking."""
    shape, number = pick(dice, SHAPES), pick(dice, range(1, 4))
    options = [
        *(Passage(prompt=prompt, answer=answer) for prompt, answer in _KNOWN),
        Passage(prompt="", answer=_LOOKS[shape]),
        Passage(prompt=f"What is {with_article(shape)}?", answer=_LOOKS[shape]),
        Passage(
            prompt=f"What comes after {NUMBER_WORDS[number]}?", answer=sentence(NUMBER_WORDS[number + 1])
        ),
    ]
    if shape in _SIDES:
        question = f"How many sides does {with_article(shape)} have?"
        options.append(Passage(prompt=question, answer=sentence(_SIDES[shape])))
    return pick(dice, options)


def _decline(dice: Dice) -> Passage:
    """Answer something outside the world; without a picture there is nothing to see either."""
    question = outside_question(_scene_number(dice))
    return Passage(prompt=question.question, answer=question.answer)
