"""Captions: one wording for every scene and style, so that exactness can be measured, and requests for them.

The instruction texts of the styles are the caller's; this file adds paraphrases and answers.
"""

from __future__ import annotations

from .answers import Question
from .dice import chance, new_dice, pick
from .facts import Facts, Verdict, facts_of, judge, only_names
from .parsing import caption_facts, normalise
from .phrases import counted, listed, name, sentence
from .scenes import Scene
from .vocabulary import Relation, Style

NO_TEXT = "There is no text in the picture."

_PARAPHRASES: dict[Style, tuple[str, ...]] = {
    "short": (
        "Describe the picture briefly.",
        "Describe this picture in one sentence.",
        "Give a short caption for this image.",
        "Caption this image.",
        "Describe the image in a few words.",
        "Write a short caption.",
    ),
    "detailed": (
        "Describe the picture in detail.",
        "Describe everything in this picture.",
        "Give a detailed description of this image.",
        "Describe this image as exactly as you can.",
        "Write a long caption.",
    ),
    "tags": (
        "List the tags of this image.",
        "Tag this picture.",
        "Give comma-separated tags for this image.",
        "Write tags for the picture.",
    ),
    "text": (
        "What does the text in the picture say?",
        "Read the writing in this picture.",
        "What is written in this image?",
        "Is there any writing? What does it say?",
    ),
}
_INSTRUCTION_SHARE = 0.5


def caption(scene: Scene, style: Style) -> str:
    """Describe a scene in the one canonical wording of a style.

    "short": "A red circle above a blue square."; "detailed": sizes, places, relation and ground in sentences;
    "tags": "large red circle, small blue square, white background"; "text": there is none.
    """
    facts = facts_of(scene)
    if style == "short":
        return short_caption(facts)
    if style == "detailed":
        return _detailed_caption(facts)
    return _tags(facts) if style == "tags" else NO_TEXT


def short_caption(facts: Facts) -> str:
    """Word things and relation: "Two red circles and a blue square."."""
    phrases = [counted(mention) for mention in only_names(facts.mentions)]
    return sentence(listed(phrases) if facts.relation is None else f" {facts.relation} ".join(phrases))


def _detailed_caption(facts: Facts) -> str:
    verb = "is" if facts.mentions[0].count == 1 else "are"
    sentences = [f"There {verb} {listed([counted(mention) for mention in facts.mentions])}."]
    if facts.relation is not None:
        sentences.append(relation_sentence(facts, facts.relation))
    return " ".join([*sentences, f"The background is {facts.ground}."])


def relation_sentence(facts: Facts, relation: Relation) -> str:
    """Word a relation: "The red circle is above the blue square."."""
    first, second = (name(mention) for mention in only_names(facts.mentions))
    return f"The {first} is {relation} the {second}."


def _tags(facts: Facts) -> str:
    names = [counted(mention) if mention.count > 1 else name(mention) for mention in facts.mentions]
    return ", ".join([*names, f"{facts.ground} background"])


def caption_question(scene: Scene, style: Style, seed: int, instruction: str) -> Question:
    """Ask for a caption, half the time in the very words of `instruction`, otherwise in a paraphrase.

    Args:
        scene: what to describe.
        style: how.
        seed: which wording of the request.
        instruction: the style's own instruction text.
    """
    dice = new_dice(f"request {style}", seed)
    request = instruction if chance(dice, _INSTRUCTION_SHARE) else pick(dice, _PARAPHRASES[style])
    answer = caption(scene, style)
    return Question(kind=f"caption {style}", question=request, answer=answer, accepted=(answer,))


def judge_caption(text: str, scene: Scene, style: Style) -> Verdict:
    """Say which parts of a caption are right; tags need not state a relation."""
    if style == "text":
        said = normalise(text) == normalise(NO_TEXT)
        return Verdict(things=said, relation=said, details=said)
    return judge(caption_facts(text), facts_of(scene), is_relation_due=style != "tags")
