"""How well a model sees, answers and draws, measured on compositions that training never shows.

Everything goes through the public door of a loaded model, as a person would use it; drawings are judged by
the world's detector, which is no model. Pure measuring: files, tables and sheets are `evaluate.py`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from janus_core.inputs.turns import Turn
from janus_core.janus import Janus
from janus_core.options import DrawOptions, OnStep, TextOptions

from .world.answers import Question, is_right
from .world.captions import judge_caption
from .world.compositions import is_held_out, is_unseen_by_size_alone, relation_key, unseen
from .world.detector import detect, matches
from .world.drawing_prompts import drawing_facts, drawing_prompt
from .world.facts import Facts, judge, only_names
from .world.parsing import caption_facts
from .world.questions import questions
from .world.rendering import Picture, render
from .world.scene_sampling import sample_scene
from .world.scenes import Scene
from .world.segmentation import find_ground
from .world.two_pictures import questions_about_two
from .world.vocabulary import Kind, Style

_BATCH_SIZE = 32
_NEW_FROM = 900_000_000  # a stage's numbers begin at multiples of a thousand million, and none gets so far
_TEXT = TextOptions(max_new_tokens=96)
STYLES: tuple[Style, ...] = ("short", "detailed", "tags")


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of some were right."""

    right: int
    of: int

    @property
    def percent(self) -> float:
        """Return the share in per cent; none of none is none."""
        return 100 * self.right / self.of if self.of else 0.0


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Captions of one style.

    Attributes:
        exact: all of colour, shape, count and relation are right.
        details: so is every size, place and ground that is stated.
        unseen_sorts: exact ones of scenes whose colours, shapes, counts or relation make them unseen: in the
            others a size alone does, of which `exact` takes no account.
    """

    exact: Share
    details: Share
    unseen_sorts: Share


@dataclass(frozen=True, kw_only=True, eq=False)
class Sketch:
    """One drawing and what became of it.

    Attributes:
        prompt: what was asked for.
        facts: what the prompt states.
        picture: (h, w, 3) in 0..1.
        has_things: objects, colours, shapes, counts and relation are as stated.
        is_right: so are stated sizes, places and the ground.
        is_unseen_relation: a relation of colours and shapes is what training never shows, not a size alone.
    """

    prompt: str
    facts: Facts
    picture: Picture
    has_things: bool
    is_right: bool
    is_unseen_relation: bool


def share(verdicts: Sequence[bool]) -> Share:
    """Count the right ones."""
    return Share(right=sum(verdicts), of=len(verdicts))


def unseen_scenes(count: int, kinds: tuple[Kind, ...] | None = None) -> list[Scene]:
    """Return scenes of the test split."""
    if kinds is None:
        return [sample_scene(number, "test") for number in range(count)]
    return [sample_scene(number, "test", kinds=kinds) for number in range(count)]


def familiar_scenes(count: int, kind: Kind) -> list[Scene]:
    """Return scenes without a held-out combination, with seeds that no recipe of ours reaches."""
    return [sample_scene(_NEW_FROM + number, kinds=(kind,)) for number in range(count)]


def count_unseen(scenes: Sequence[Scene]) -> int:
    """Return how many different combinations that training never shows are among scenes."""
    return len(frozenset().union(*map(unseen, scenes)))


def pictures_of(janus: Janus, scenes: Sequence[Scene]) -> list[Picture]:
    """Render scenes at the model's size."""
    return [render(scene, janus.config.vision.image_size) for scene in scenes]


def measure_captions(janus: Janus, scenes: Sequence[Scene], style: Style, on_step: OnStep) -> Captions:
    """Ask for a caption of every scene in the style's own words."""
    pictures = pictures_of(janus, scenes)
    texts = janus.caption(pictures, style, batch_size=_BATCH_SIZE, options=_TEXT, on_step=on_step)
    verdicts = [judge_caption(text, scene, style) for text, scene in zip(texts, scenes, strict=True)]
    return Captions(
        exact=share([verdict.is_exact for verdict in verdicts]),
        details=share([verdict.is_exact and verdict.details for verdict in verdicts]),
        unseen_sorts=share(
            [
                verdict.is_exact
                for verdict, scene in zip(verdicts, scenes, strict=True)
                if not is_unseen_by_size_alone(scene)
            ]
        ),
    )


def measure_answers(janus: Janus, scenes: Sequence[Scene], on_step: OnStep) -> dict[str, Share]:
    """Ask one question of every kind about every scene that allows it; return the shares by kind."""
    asked: list[tuple[Question, Picture]] = []
    for number, (scene, picture) in enumerate(zip(scenes, pictures_of(janus, scenes), strict=True)):
        asked += [(question, picture) for question in questions(scene, number, "test")]
    conversations = [
        [Turn(role="user", text=question.question, images=(picture,))] for question, picture in asked
    ]
    texts = janus.answer_in_batches(conversations, batch_size=_BATCH_SIZE, options=_TEXT, on_step=on_step)
    total, right = Counter[str](), Counter[str]()
    for (question, _), text in zip(asked, texts, strict=True):
        total[question.kind] += 1
        right[question.kind] += is_right(question, text)
    return {kind: Share(right=right[kind], of=total[kind]) for kind in total}


def measure_two_pictures(janus: Janus, scenes: Sequence[Scene], on_step: OnStep) -> Share:
    """Show pictures in twos and ask which of them has something."""
    pictures = pictures_of(janus, scenes)
    asked: list[tuple[Question, list[Turn]]] = []
    for first in range(0, len(scenes) - 1, 2):
        both = (pictures[first], pictures[first + 1])
        for question in questions_about_two(scenes[first], scenes[first + 1], first):
            if question.kind == "which":
                asked.append((question, [Turn(role="user", text=question.question, images=both)]))
    texts = janus.answer_in_batches(
        [turns for _, turns in asked], batch_size=_BATCH_SIZE, options=_TEXT, on_step=on_step
    )
    return share([is_right(question, text) for (question, _), text in zip(asked, texts, strict=True)])


def measure_drawings(
    janus: Janus, scenes: Sequence[Scene], cfg_weight: float, on_step: OnStep
) -> list[Sketch]:
    """Draw what a prompt for each scene states, and let the detector judge."""
    wished = [unseen_prompt(scene, number) for number, scene in enumerate(scenes)]
    sketches: list[Sketch] = []
    for start in range(0, len(wished), _BATCH_SIZE):
        part = wished[start : start + _BATCH_SIZE]
        drawn = janus.draw(
            [prompt for prompt, _ in part],
            seed=start,
            batch_size=_BATCH_SIZE,
            options=DrawOptions(cfg_weight=cfg_weight),
        )
        pictures = [np.asarray(image) for image in drawn.images.numpy()]
        shown = scenes[start : start + _BATCH_SIZE]
        sketches += [
            _judge(scene, *wish, picture) for scene, wish, picture in zip(shown, part, pictures, strict=True)
        ]
        on_step(len(sketches), len(wished))
    return sketches


def unseen_prompt(scene: Scene, number: int) -> tuple[str, Facts]:
    """Word a prompt that states a held-out combination: sizes are named where only they make it one."""
    with_sizes: bool | None = True
    if scene.relation is not None:
        first, second = ((thing.colour, thing.shape) for thing in scene.things)
        with_sizes = None if is_held_out(relation_key(first, scene.relation, second)) else True
    return drawing_prompt(scene, number, with_sizes), drawing_facts(scene, number, with_sizes)


def _judge(scene: Scene, prompt: str, facts: Facts, picture: Picture) -> Sketch:
    detected = detect(picture)
    return Sketch(
        prompt=prompt,
        facts=facts,
        picture=picture,
        has_things=matches(replace(facts, mentions=only_names(facts.mentions)), detected),
        is_right=matches(facts, detected) and facts.ground in (None, find_ground(picture)),
        is_unseen_relation=not is_unseen_by_size_alone(scene),
    )


def measure_round_trip(janus: Janus, sketches: Sequence[Sketch], on_step: OnStep) -> Share:
    """Let the model caption its own drawings, and compare with what was asked for."""
    pictures = [sketch.picture for sketch in sketches]
    texts = janus.caption(pictures, "short", batch_size=_BATCH_SIZE, options=_TEXT, on_step=on_step)
    return share(
        [
            judge(caption_facts(text), sketch.facts).is_exact
            for text, sketch in zip(texts, sketches, strict=True)
        ]
    )


def measure_vq(janus: Janus, scenes: Sequence[Scene]) -> tuple[float, Share]:
    """Send pictures through the VQ tokenizer and back.

    Returns: the mean peak signal-to-noise ratio in dB, and how many still show what they did: no drawing can
        be right more often.
    """
    pictures = pictures_of(janus, scenes)
    restored = janus.decode(janus.encode(pictures))
    errors = (restored - torch.from_numpy(np.stack(pictures))).square().mean(dim=(1, 2, 3))
    wished = [unseen_prompt(scene, number) for number, scene in enumerate(scenes)]
    sketches = [
        _judge(scene, *wish, image)
        for scene, wish, image in zip(scenes, wished, restored.numpy(), strict=True)
    ]
    psnr_db = float((-10 * errors.clamp(min=1e-10).log10()).mean())
    return psnr_db, share([sketch.is_right for sketch in sketches])
