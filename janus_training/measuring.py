"""How well a model sees, answers and draws, measured on compositions that training never shows.

Everything goes through the public door of a loaded model, as a person would use it; drawings are judged by
the world's detector, which is no model. Pure measuring: files, tables and sheets are `evaluate.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from janus_core.inputs.image_tokens import ImageTokens
from janus_core.inputs.turns import Turn
from janus_core.janus import Janus
from janus_core.options import DrawOptions, OnStep, TextOptions

from .world.answers import Question, is_right
from .world.captions import judge_caption
from .world.compositions import Combination, unseen
from .world.detector import Detected, detect, matches
from .world.drawing_prompts import Detail, drawing_facts, drawing_prompt
from .world.facts import Facts, facts_of, only_names
from .world.parsing import caption_facts
from .world.questions import questions
from .world.rendering import Picture, render
from .world.roles import Grid, read_roles, role_tokens
from .world.scene_sampling import sample_scene
from .world.scenes import Scene
from .world.segmentation import find_ground
from .world.strangers import strangers
from .world.two_pictures import questions_about_two
from .world.vocabulary import OUTER_RADIUS, RADIUS, Kind, Split, Style

_BATCH_SIZE = 32
_NEW_FROM = 900_000_000  # a stage's numbers begin at multiples of a thousand million, and none gets so far
_TEXT = TextOptions(max_new_tokens=96)
_STATED: dict[Combination, Detail | None] = {
    "relation": None,
    "place": "place",
    "thing": "size",
    "count": None,
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One trial: whether it came out right, and which combination it stands for."""

    key: str
    is_right: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """One drawing to be made.

    Attributes:
        key: the combination that it tries.
        prompt: in words.
        facts: what the prompt states.
    """

    key: str
    prompt: str
    facts: Facts


@dataclass(frozen=True, kw_only=True, eq=False)
class Sketch:
    """One drawing and what became of it.

    Attributes:
        wish: what was asked for.
        picture: (h, w, 3) in 0..1.
        grid: its image tokens.
        is_right: objects, colours, shapes, counts, relation, sizes, places and ground are as asked for.
    """

    wish: Wish
    picture: Picture
    grid: Grid
    is_right: bool

    @property
    def judged(self) -> Judged:
        """The verdict alone."""
        return Judged(key=self.wish.key, is_right=self.is_right)


def unseen_scenes(
    number: int, kinds: tuple[Kind, ...], combination: Combination | None = None
) -> list[Scene]:
    """Return scenes of the test split to be drawn, all of them with a held-out combination of one sort."""
    scenes = (sample_scene(seed, "test", kinds, is_drawn=combination is not None) for seed in count())
    chosen: list[Scene] = []
    for scene in scenes:
        if combination is None or held_out_key(scene, combination):
            chosen.append(scene)
        if len(chosen) == number:
            return chosen
    raise AssertionError("seeds do not end")


def familiar_scenes(number: int, kinds: tuple[Kind, ...], is_drawn: bool) -> list[Scene]:
    """Return scenes without a held-out combination, with seeds that no recipe of ours reaches."""
    return [sample_scene(_NEW_FROM + seed, kinds=kinds, is_drawn=is_drawn) for seed in range(number)]


def held_out_key(scene: Scene, combination: Combination) -> str | None:
    """Name the first held-out combination of one sort in a scene, or return None."""
    return next((key for key in sorted(unseen(scene)) if key.startswith(f"{combination} ")), None)


def wishes(scenes: Sequence[Scene], combination: Combination | None) -> list[Wish]:
    """Word prompts that state what makes scenes unseen, or, without a combination, anything."""
    stated = _STATED[combination] if combination else None
    return [
        Wish(
            key=(combination and held_out_key(scene, combination)) or f"seen {number}",
            prompt=drawing_prompt(scene, number, stated=stated),
            facts=drawing_facts(scene, number, stated=stated),
        )
        for number, scene in enumerate(scenes)
    ]


def measure_drawings(
    janus: Janus,
    wished: Sequence[Wish],
    options: DrawOptions,
    on_step: OnStep | None = None,
    *,
    drawings: int = 1,
) -> list[Sketch]:
    """Draw what was wished for, and let the detector judge.

    Of several drawings of each wish the options keep one.
    """
    sketches: list[Sketch] = []
    for start in range(0, len(wished), _BATCH_SIZE):
        part = wished[start : start + _BATCH_SIZE]
        drawn = janus.draw(
            [wish.prompt for wish in part],
            num_images=drawings,
            seed=start,
            batch_size=_BATCH_SIZE * drawings,
            options=options,
        )
        for wish, image, grid in zip(part, drawn.images.numpy(), drawn.tokens.grid.numpy(), strict=True):
            picture = np.asarray(image)
            is_right = matches(wish.facts, detect(picture)) and wish.facts.ground in (
                None,
                find_ground(picture),
            )
            sketches.append(Sketch(wish=wish, picture=picture, grid=grid, is_right=is_right))
        if on_step is not None:
            on_step(len(sketches), len(wished))
    return sketches


def is_token_exact(grid: Grid, facts: Facts) -> bool:
    """Return True if image tokens tell without contradiction what the facts state."""
    read = read_roles(grid)
    if read is None:
        return False
    ground, things = read
    told = [
        Detected(
            shape=thing.shape,
            colour=thing.colour,
            size=thing.size,
            x=(thing.column + 0.5) / len(grid),
            y=(thing.row + 0.5) / len(grid),
            radius=OUTER_RADIUS if thing.is_outer else RADIUS[thing.size],
            overlap=1.0,
        )
        for thing in things
    ]
    return matches(facts, told) and facts.ground in (None, ground)


def measure_captions(janus: Janus, scenes: Sequence[Scene], style: Style, on_step: OnStep) -> list[Judged]:
    """Ask for a caption of every scene in the style's own words: colour, shape, count and relation count."""
    pictures = [render(scene, janus.config.vision.image_size) for scene in scenes]
    texts = janus.caption(pictures, style, batch_size=_BATCH_SIZE, options=_TEXT, on_step=on_step)
    return [
        Judged(key=_key_of(scene), is_right=judge_caption(text, scene, style).is_exact)
        for text, scene in zip(texts, scenes, strict=True)
    ]


def _key_of(scene: Scene) -> str:
    return min(unseen(scene), default="seen")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question about one picture or two: its kind, how many objects there were, and the verdict."""

    kind: str
    objects: int
    is_right: bool


def measure_answers(
    janus: Janus, scenes: Sequence[Scene], split: Split, on_step: OnStep | None = None
) -> list[Answered]:
    """Ask one question of every kind about every scene that allows it, and which of two shows something."""
    pictures = [render(scene, janus.config.vision.image_size) for scene in scenes]
    asked: list[tuple[Question, tuple[Picture, ...], int]] = []
    for number, (scene, picture) in enumerate(zip(scenes, pictures, strict=True)):
        asked += [(one, (picture,), len(scene.things)) for one in questions(scene, number, split)]
    for first in range(0, len(scenes) - 1, 2):
        shown, both = scenes[first : first + 2], (pictures[first], pictures[first + 1])
        objects = sum(len(scene.things) for scene in shown)
        asked += [
            (one, both, objects)
            for one in questions_about_two(shown[0], shown[1], first)
            if one.kind == "which"
        ]
    conversations = [[Turn(role="user", text=one.question, images=images)] for one, images, _ in asked]
    texts = janus.answer_in_batches(conversations, batch_size=_BATCH_SIZE, options=_TEXT, on_step=on_step)
    return [
        Answered(kind=one.kind, objects=objects, is_right=is_right(one, text))
        for (one, _, objects), text in zip(asked, texts, strict=True)
    ]


def measure_foreign(janus: Janus, seed: int) -> list[Judged]:
    """Ask for short captions of pictures that another program has made: colour and shape count."""
    shown = strangers(seed)
    texts = janus.caption([one.image for one in shown], "short", batch_size=_BATCH_SIZE, options=_TEXT)
    verdicts: list[Judged] = []
    for one, text in zip(shown, texts, strict=True):
        facts = caption_facts(text)
        named = [(name.count, *name.sort) for name in only_names(facts.mentions)] if facts else []
        verdicts.append(
            Judged(key=f"{one.colour} {one.shape}", is_right=named == [(1, one.colour, one.shape)])
        )
    return verdicts


def measure_restoring(janus: Janus, scenes: Sequence[Scene], grids: Tensor) -> tuple[float, list[Judged]]:
    """Turn image tokens into pictures.

    Args:
        janus: the model.
        scenes: what the pictures are to show.
        grids: image tokens (b, 8, 8) of each.

    Returns: the mean peak signal-to-noise ratio in dB, and which pictures show all that they should: no
        drawing can be right more often.
    """
    restored = janus.decode(ImageTokens(grid=grids, codebook=janus.codebook))
    rendered = np.stack([render(scene, janus.config.vision.image_size) for scene in scenes])
    errors = (restored - torch.from_numpy(rendered)).square().mean(dim=(1, 2, 3))
    verdicts = [
        Judged(key=_key_of(scene), is_right=matches(_sized(scene), detect(image)))
        for scene, image in zip(scenes, restored.numpy(), strict=True)
    ]
    return float((-10 * errors.clamp(min=1e-10).log10()).mean()), verdicts


def _sized(scene: Scene) -> Facts:
    """Return all facts of a scene but the size of an outer thing, which has none of the three."""
    facts = facts_of(scene)
    if scene.relation != "inside":
        return facts
    return replace(facts, mentions=(facts.mentions[0], *only_names(facts.mentions[1:])))


def role_grids(scenes: Sequence[Scene]) -> Tensor:
    """Return the image tokens (b, 8, 8) that the world gives to scenes."""
    return torch.from_numpy(np.stack([role_tokens(scene) for scene in scenes]))


def recognised_grids(janus: Janus, scenes: Sequence[Scene]) -> Tensor:
    """Return the image tokens (b, 8, 8) that the model's encoder finds in the pictures of scenes."""
    return janus.encode([render(scene, janus.config.vision.image_size) for scene in scenes]).grid
