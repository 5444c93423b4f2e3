"""janus-shapes means what it says, on compositions that its training never saw.

The shares asserted lie a little below those reached, since fifty pictures scatter.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from janus_core import DrawOptions, Janus, TextOptions, Turn, load_janus
from janus_core.checkpoints.folders import bundled_models
from janus_training.measuring import (
    measure_answers,
    measure_captions,
    measure_drawings,
    measure_foreign,
    unseen_scenes,
    wishes,
)
from janus_training.world.captions import caption
from janus_training.world.compositions import Combination
from janus_training.world.detector import detect, matches
from janus_training.world.drawing_prompts import drawing_prompt
from janus_training.world.facts import judge
from janus_training.world.parsing import caption_facts
from janus_training.world.phrases import with_article
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.segmentation import find_ground
from janus_training.world.vocabulary import COLOURS, KINDS, SHAPES, Kind, Style

PICTURES = 50
CAPTIONS, ANSWERS, FOREIGN = 86, 91, 95  # per cent; 95, 95 and 100 are reached
PLACED, PAIRED = 93, 88  # 98 and 97
COLOURS_ASKED_FOR = 95  # per cent; all are right
SEEN = 15  # of 16, all of which are reached
SHOWN, NAMED, COLOURED = 46, 46, 46  # of 48, all of which are reached
SHORT = TextOptions(max_new_tokens=32)
SPOKEN: tuple[Style, ...] = ("short", "detailed", "tags")


def nothing(done: int, total: int) -> None:
    """Take progress and do nothing with it."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return bundled_models()["janus-shapes"]


@pytest.fixture(scope="module")
def shapes() -> Janus:
    return load_janus("janus-shapes", device="cpu", dtype="float32")


def test_the_model_and_its_card_fit_into_twelve_megabytes(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12e6
    assert "licence" in (folder / "README.md").read_text(encoding="utf-8").lower()


def percent(verdicts: list[bool]) -> float:
    return 100 * sum(verdicts) / len(verdicts)


def test_captions_of_fifty_unseen_pictures_are_exact(shapes: Janus) -> None:
    captions = measure_captions(shapes, unseen_scenes(PICTURES, KINDS), "short", nothing)
    assert percent([one.is_right for one in captions]) >= CAPTIONS


def test_answers_about_unseen_pictures_are_right(shapes: Janus) -> None:
    answers = measure_answers(shapes, unseen_scenes(PICTURES, KINDS), "test", nothing)
    assert len(answers) > 8 * PICTURES
    assert percent([one.is_right for one in answers]) >= ANSWERS
    bound = [one.is_right for one in answers if one.kind == "colour" and one.objects > 1]
    assert len(bound) > PICTURES / 2
    assert percent(bound) >= COLOURS_ASKED_FOR


@pytest.mark.parametrize(
    ("kind", "combination", "least"), [("single", "place", PLACED), ("pair", "relation", PAIRED)]
)
def test_what_was_never_seen_is_drawn(
    shapes: Janus, kind: Kind, combination: Combination, least: float
) -> None:
    wished = wishes(unseen_scenes(PICTURES, (kind,), combination), combination)
    sketches = measure_drawings(shapes, wished, DrawOptions(), nothing)
    assert percent([sketch.is_right for sketch in sketches]) >= least


def test_things_drawn_by_another_program_are_named(shapes: Janus) -> None:
    assert percent([one.is_right for one in measure_foreign(shapes, 1)]) >= FOREIGN


def test_a_drawing_is_seen_as_what_it_was_drawn_from(shapes: Janus) -> None:
    prompts = ("a red circle", "a green square", "a yellow diamond", "a blue triangle")
    drawn = shapes.draw(prompts, num_images=4, batch_size=16)
    texts = shapes.caption([image.numpy() for image in drawn.images], "short", options=SHORT)
    asked = [prompt for prompt in prompts for _ in range(4)]
    seen = [text.lower().rstrip(".") == prompt for text, prompt in zip(texts, asked, strict=True)]
    assert sum(seen) >= SEEN


def test_every_colour_and_shape_is_drawn_and_then_recognised(shapes: Janus) -> None:
    """One picture of each with the next seed, judged by the detector, and two questions about it."""
    sorts = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    drawn = shapes.draw([with_article(f"{colour} {shape}") for colour, shape in sorts], batch_size=len(sorts))
    asked = [
        [Turn(role="user", text=question, images=(image.numpy(),))]
        for image, (_, shape) in zip(drawn.images, sorts, strict=True)
        for question in ("What is in the picture?", f"What colour is the {shape}?")
    ]
    texts = [text.lower() for text in shapes.answer_in_batches(asked, batch_size=32, options=SHORT)]
    contents, colours = texts[::2], texts[1::2]
    wished = [caption_facts(with_article(f"{colour} {shape}")) for colour, shape in sorts]
    shown = [matches(facts, detect(image.numpy())) for facts, image in zip(wished, drawn.images, strict=True)]
    named = [judge(caption_facts(text), facts).is_exact for text, facts in zip(contents, wished, strict=True)]
    coloured = [text.rstrip(".") == colour for text, (colour, _) in zip(colours, sorts, strict=True)]
    assert sum(shown) >= SHOWN
    assert sum(named) >= NAMED
    assert sum(coloured) >= COLOURED


def test_drawings_name_no_ground_but_the_one_asked_for(shapes: Janus) -> None:
    drawn = shapes.draw("a red circle on a black background", num_images=8)
    grounds = [find_ground(image.numpy()) for image in drawn.images]
    assert grounds.count("black") >= 7


def test_its_folder_lists_the_words_of_its_drawing_prompts(folder: Path) -> None:
    words = set()
    for number in range(1500):
        scene = sample_scene(number)
        texts = [
            drawing_prompt(scene, number),
            *(caption(scene, style) for style in ("short", "detailed", "tags")),
        ]
        words |= {word for text in texts for word in re.findall(r"[^\W_]+", text.lower())}
    world = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    assert set(world["words"]) == words
