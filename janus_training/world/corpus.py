"""The sentences that a tokenizer is learnt from: everything that a model of the world will read or write."""

from __future__ import annotations

from collections.abc import Iterator

from janus_core.inputs.prompting import CAPTION_STYLES, SYSTEM_TEXT

from .captions import caption
from .drawing_prompts import drawing_prompt
from .passages import passage
from .questions import questions
from .scene_sampling import sample_scene
from .vocabulary import STYLES

_SCENES = 2000


def corpus(seed: int) -> Iterator[str]:
    """Yield sentences about scenes of the training split, and the texts that the templates bring in.

    Args:
        seed: of the first scene; from 0 upwards.
    """
    yield from (SYSTEM_TEXT, *CAPTION_STYLES.values())
    for number in range(seed, seed + _SCENES):
        scene = sample_scene(number)
        yield from (" " + caption(scene, style) for style in STYLES)
        yield drawing_prompt(scene, number)
        for question in questions(scene, number):
            yield from (question.question, " " + question.answer)
        told = passage(number)
        yield from (told.prompt, " " + told.answer)
