"""Questions that the world cannot answer, and the plain short answers they get instead of noise.

Some nouns and names are kept for the test, so that politeness to the unknown is measured on words never asked
about before.
"""

from __future__ import annotations

from .answers import Question, decide
from .dice import Dice, chance, new_dice, pick, pick_weighted
from .phrases import with_article
from .vocabulary import Split

ONLY_SHAPES = "I only know coloured shapes."

_NOUNS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("dog", "cat", "house", "car", "tree", "person", "bird", "horse", "boat", "train", "flower"),
        *("table", "chair", "cow", "bicycle", "phone", "book", "cup", "man", "woman", "child", "cloud"),
        *("bridge", "window", "door", "apple", "banana", "cake", "shoe", "hat", "clock", "mountain"),
        *("river", "road", "lamp", "ball", "heart", "hexagon", "pentagon", "rectangle", "arrow", "spiral"),
        *("elephant", "computer", "robot", "face", "aeroplane", "mouse", "tiger", "snake", "spoon", "fork"),
        *("knife", "piano", "violin", "sofa", "bed", "garden", "church", "tower", "ship", "truck"),
        *("rocket", "monkey", "rabbit", "duck", "frog", "bear", "wolf", "fox", "leaf", "stone", "key"),
        *("letter", "coin", "bottle"),
        *("orange cat", "red car", "blue house", "green tree", "black dog", "white horse", "pink hat"),
        *("yellow flower", "purple door", "small boat", "big ship", "old man", "grey mouse", "brown bear"),
    ),
    "test": (
        *("lion", "bus", "sheep", "guitar", "pizza", "castle", "fish", "octagon"),
        *("yellow bus", "red apple"),
    ),
}
_NAMES: dict[Split, dict[str, tuple[str, ...]]] = {
    "train": {
        "land": ("France", "Germany", "Japan", "Italy", "India", "China", "Egypt", "Canada", "Peru", "Kenya"),
        "town": ("Paris", "Berlin", "Tokyo", "Oslo", "Vienna", "Cairo", "Lima", "Boston", "Dublin", "Madrid"),
        "work": ("Hamlet", "Don Quixote", "the Odyssey", "Carmen", "Dracula", "this song", "the Bible"),
        "ruler": ("president", "king", "mayor", "prime minister", "chancellor", "emperor"),
        "someone": ("man", "king", "child", "woman", "president", "dog", "teacher"),
        "animal": ("dogs", "birds", "horses", "bears", "mice", "elephants", "cows"),
        "number": ("one", "two", "four", "six", "seven", "eight", "nine", "ten"),
        "start": ("war", "film", "game", "concert", "school", "party", "show"),
        "nature": ("sky", "grass", "snow", "moon", "sun", "desert", "night"),
        "look": ("blue", "white", "dark", "cold", "hot", "wet", "bright"),
        "kind": ("brand", "team", "book", "country", "street", "month", "language"),
    },
    "test": {
        "land": ("Brazil", "Spain"),
        "town": ("London", "Rome"),
        "work": ("Faust",),
        "ruler": ("queen",),
        "someone": ("queen",),
        "animal": ("cats",),
        "number": ("three", "five"),
        "start": ("train",),
        "nature": ("sea",),
        "look": ("green",),
        "kind": ("city",),
    },
}
_KNOWLEDGE = (
    "Who is the {ruler} of {land}?",
    "What is the name of the {ruler} of {land}?",
    "Who wrote {work}?",
    "What is the weather in {town}?",
    "Is it raining in {town}?",
    "What is the capital of {land}?",
    "What is {number} plus {number}?",
    "What is {number} times {number}?",
    "Where is {town}?",
    "How far is {town}?",
    "How many people live in {town}?",
    "When does the {start} begin?",
    "When did the {start} end?",
    "Why is the {nature} {look}?",
    "How old is the {someone}?",
    "What is the {someone} thinking?",
    "Tell me a joke about {animal}.",
    "Tell me a story about {animal}.",
    "Write a poem about {animal}.",
    "Why do {animal} sleep?",
    "Which {kind} is this?",
    "What {kind} is it?",
)
_SET_QUESTIONS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Who painted this picture?",
        "Who are the people in the picture?",
        "Who are you?",
        "What time is it?",
        "What day is it today?",
        "What is the meaning of life?",
        "What did you eat today?",
        "What is the price of gold?",
        "What happened in this scene?",
        "Where was this picture taken?",
        "Where do you live?",
        "When was this picture taken?",
        "When is Christmas?",
        "How old are you?",
        "How do I cook rice?",
        "How much does it cost?",
        "Can you sing a song?",
        "Translate this into French.",
        "Solve this equation.",
        "Do you like music?",
        "Write a program in Python.",
    ),
    "test": (
        "When does the train leave?",
        "What did the man say?",
        "How do I bake bread?",
        "Can you count to a hundred?",
        "Who took this photograph?",
        "Write a letter to the king.",
    ),
}
_SET_SHARE = 0.25  # of questions about the world at large
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
    if chance(dice, _SET_SHARE):
        question = pick(dice, _SET_QUESTIONS[split])
    else:
        names = {slot: pick(dice, words) for slot, words in _NAMES[split].items()}
        question = pick(dice, _KNOWLEDGE).format(**names)
    return Question(kind="outside", question=question, answer=ONLY_SHAPES, accepted=(ONLY_SHAPES,))


def _ask_presence(dice: Dice, split: Split) -> Question:
    noun = pick(dice, _NOUNS[split])
    return decide("outside", pick(dice, _IS_THERE).format(with_article(noun)), f"there is no {noun}", False)


def _ask_about(dice: Dice, split: Split) -> Question:
    noun = pick(dice, _NOUNS[split])
    answer = f"There is no {noun}."
    accepted = (answer, ONLY_SHAPES)
    return Question(
        kind="outside", question=pick(dice, _ABOUT).format(noun), answer=answer, accepted=accepted
    )
