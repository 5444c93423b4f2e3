"""Questions that the world cannot answer, and the plain short answers they get instead of noise.

Some nouns and questions are kept for the test, so that politeness to the unknown is measured on words never
asked about before.
"""

from __future__ import annotations

from .answers import Question
from .dice import Dice, new_dice, pick, pick_weighted
from .phrases import with_article
from .vocabulary import Split

ONLY_SHAPES = "I only know coloured shapes."

_NOUNS: dict[Split, tuple[str, ...]] = {
    "train": (
        *(
            "dog",
            "cat",
            "house",
            "car",
            "tree",
            "person",
            "bird",
            "horse",
            "boat",
            "train",
            "flower",
            "table",
        ),
        *(
            "chair",
            "cow",
            "bicycle",
            "phone",
            "book",
            "cup",
            "man",
            "woman",
            "child",
            "cloud",
            "bridge",
            "window",
        ),
        *(
            "door",
            "apple",
            "banana",
            "cake",
            "shoe",
            "hat",
            "clock",
            "mountain",
            "river",
            "road",
            "lamp",
            "ball",
        ),
        *(
            "heart",
            "hexagon",
            "pentagon",
            "rectangle",
            "arrow",
            "spiral",
            "elephant",
            "computer",
            "robot",
            "face",
        ),
        *("aeroplane", "orange cat", "red car", "blue house", "green tree", "black dog", "white horse"),
    ),
    "test": (
        "lion",
        "bus",
        "sheep",
        "guitar",
        "pizza",
        "castle",
        "fish",
        "octagon",
        "yellow bus",
        "red apple",
    ),
}
_QUESTIONS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Who is the president of France?",
        "Who is the queen of England?",
        "Who wrote Hamlet?",
        "Who painted this picture?",
        "Who are the people in the picture?",
        "What is the weather?",
        "What is the weather like today?",
        "What time is it?",
        "What day is it today?",
        "What is the capital of Germany?",
        "What is the capital of Japan?",
        "What is two plus two?",
        "What is the meaning of life?",
        "What did you eat today?",
        "What is the name of this person?",
        "What is the price of gold?",
        "Where was this picture taken?",
        "Where do you live?",
        "Where is Paris?",
        "When was this picture taken?",
        "When did the war end?",
        "When is Christmas?",
        "Why is the sky blue?",
        "Why do birds sing?",
        "How old is the man?",
        "How old are you?",
        "How far is the moon?",
        "How do I cook rice?",
        "How many people live in London?",
        "How much does it cost?",
        "Can you tell me a joke?",
        "Can you sing a song?",
        "Tell me a story.",
        "Write a poem about the sea.",
        "Translate this into French.",
        "Solve this equation.",
        "Which team won the game?",
        "Which brand is this?",
        "Do you like music?",
        "Is it raining in London?",
        "What happened in this scene?",
        "What is she thinking?",
        "Write a program in Python.",
    ),
    "test": (
        "Who is the president of Brazil?",
        "Who wrote Faust?",
        "What is the weather in Rome?",
        "What is the capital of Spain?",
        "What is three plus five?",
        "Where is London?",
        "When does the train leave?",
        "Why is the sea green?",
        "How old is the queen?",
        "Tell me a joke about cats.",
        "Write a story about a robot.",
        "Which city is this?",
    ),
}
_IS_THERE = (
    "Is there {} in the picture?",
    "Is there {}?",
    "Can you see {}?",
    "Do you see {}?",
    "Does the picture show {}?",
)
_ABOUT = ("What colour is the {}?", "Where is the {}?", "How big is the {}?", "What is the {} doing?")


def outside_question(seed: int, split: Split = "train") -> Question:
    """Ask something beyond coloured shapes; true of every picture, and without one."""
    dice = new_dice(f"outside {split}", seed)
    ask = pick_weighted(dice, (_ask_knowledge, _ask_presence, _ask_about), (3, 2, 1))
    return ask(dice, split)


def _ask_knowledge(dice: Dice, split: Split) -> Question:
    question = pick(dice, _QUESTIONS[split])
    return Question(kind="outside", question=question, answer=ONLY_SHAPES, accepted=(ONLY_SHAPES,))


def _ask_presence(dice: Dice, split: Split) -> Question:
    question = pick(dice, _IS_THERE).format(with_article(pick(dice, _NOUNS[split])))
    return Question(kind="outside", question=question, answer="No.", accepted=("No.",))


def _ask_about(dice: Dice, split: Split) -> Question:
    noun = pick(dice, _NOUNS[split])
    answer = f"There is no {noun}."
    accepted = (answer, ONLY_SHAPES)
    return Question(
        kind="outside", question=pick(dice, _ABOUT).format(noun), answer=answer, accepted=accepted
    )
