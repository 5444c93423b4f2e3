"""Which samples a stage learns from: pictures of the training split with words about them, by number.

Every sample is a pure function of its number, seeded through the world's own dice.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values, to_vq_input
from janus_core.inputs.prompting import plan_drawing, unconditional
from janus_core.inputs.text_tokenizer import TextTokenizer

from .conversations import (
    Exchange,
    Lesson,
    learn_all,
    split_behind_pictures,
    write_conversation,
    write_document,
)
from .language_task import DrawSample, Mixture, Shown
from .recipe import ModelSizes, StageName, StageRecipe
from .world.answers import Question
from .world.captions import caption
from .world.dice import chance, new_dice
from .world.drawing_prompts import drawing_prompt
from .world.foreign import Sight
from .world.lessons import lessons_about_one, lessons_about_two
from .world.passages import passage
from .world.patch_labels import patch_labels
from .world.rendering import render
from .world.roles import role_tokens
from .world.scene_sampling import sample_scene
from .world.scenes import Scene
from .world.sights import sight
from .world.vocabulary import KINDS, Kind

_TWO_PICTURES_SHARE = 0.22  # of conversations, so that 15 % of questions are about two
_QUESTIONS_ABOUT_TWO = 0.6  # as many as about one, so that rows are equally long
_CAPTION_PROMPT_SHARE = 0.1  # of drawings asked for by a detailed caption
_DOCUMENT_SHARE = 0.25  # of text samples without questions
_OTHER_SCENE = 500_000_000  # from the number of a first picture to that of a second
_SIMPLE: tuple[Kind, ...] = ("single",)
_SEVERAL: tuple[Kind, ...] = ("pair", "mixed")
# Of pictures in stage "questions": what one is called tells which one is meant. They grow rarer at the end:
# counting and comparing want things of one kind, too.
_VARIED_SHARES = (0.7, 0.3)
_FEWER_VARIED_FROM = 0.65  # of the stage
_LOOKUPS_SHARE = 0.5  # of its questions
_MANY: tuple[Kind, ...] = ("mixed", "count")
_MANY_SHARE = 0.1  # of its drawings, beside those that come by themselves
_PASSAGES = 4  # of one text sample
_PASSAGE_TOKENS = 140
_ONE_INSIDE_IN = 3  # pictures to restore: the hardest
_UNTIL_ALL_KINDS = 0.5  # share of a stage in which simple scenes grow rarer


Batch: TypeAlias = Mixture | tuple[Tensor, Tensor]


class Samples:
    """The samples of one stage."""

    def __init__(self, tokenizer: TextTokenizer, sizes: ModelSizes, stage: StageRecipe, offset: int) -> None:
        """Keep what the samples depend on; scenes are numbered from `offset`."""
        config = sizes.to_config()
        self._tokenizer = tokenizer
        self._stage = stage
        self._offset = offset
        self._preprocess = config.preprocess
        self._image_tokens = config.vision.num_patches
        self._size_px = sizes.image_size

    def batch(self, n: int) -> Batch:
        """Return what this stage learns from in its micro-batch n."""
        makers: dict[StageName, Callable[[int], Batch]] = {
            "vq_decoder": self.to_restore,
            "vq_encoder": self.to_recognise,
            "vision": self.to_see,
        }
        return makers.get(self._stage.stage, self.mixture)(n)

    def to_restore(self, n: int) -> tuple[Tensor, Tensor]:
        """Return image tokens (b, 8, 8) and pixel values (b, 3, h, w) of pictures to be drawn."""
        scenes = [_restored_scene(number) for number in self._numbers(n)]
        return _grids(scenes), torch.stack([self._drawable(scene) for scene in scenes])

    def to_recognise(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the like of pictures to be drawn and, every third, of any other."""
        scenes: list[Scene] = []
        pixels: list[Tensor] = []
        for number in self._numbers(n):
            if number % 3:
                scenes.append(_restored_scene(number))
                pixels.append(self._drawable(scenes[-1]))
            else:
                seen = sight(number, self._size_px)
                scenes.append(seen.scene)
                pixels.append(to_vq_input(seen.picture, self._size_px, "stretch"))
        return _grids(scenes), torch.stack(pixels)

    def to_see(self, n: int) -> tuple[Tensor, Tensor]:
        """Return pixel values (b, 3, h, w) and what each patch shows (b, n, 8), see `patch_labels`."""
        sights = [sight(number, self._size_px) for number in self._numbers(n)]
        return self._seen(sights)

    def mixture(self, n: int) -> Mixture:
        """Return one micro-batch of stages "drawing", "questions" and "mix"."""
        numbers = list(self._numbers(n))
        first, second, _ = split_batch(self._stage)
        return Mixture(
            understanding=[self._shown(number) for number in numbers[:first]],
            text=[self._text(number) for number in numbers[first : first + second]],
            generation=[self._generation(number) for number in numbers[first + second :]],
        )

    def _drawable(self, scene: Scene) -> Tensor:
        return to_vq_input(render(scene, self._size_px), self._size_px, "stretch")

    def _seen(self, sights: list[Sight]) -> tuple[Tensor, Tensor]:
        """Return pixel values as the vision tower gets them when asked, and labels."""
        pixels = [to_pixel_values(read_picture(one.picture), self._preprocess) for one in sights]
        labels = [patch_labels(one.scene, self._size_px, one.has_named_ground) for one in sights]
        return torch.stack(pixels), torch.from_numpy(np.stack(labels))

    def _numbers(self, n: int) -> range:
        batch = self._stage.batch_size
        return range(self._offset + n * batch, self._offset + (n + 1) * batch)

    def _kinds(self, number: int) -> tuple[Kind, ...]:
        """Return which scenes may come; simple ones grow rarer in the first half of the stage."""
        share = self._stage.simple_share * max(1 - self._done(number) / _UNTIL_ALL_KINDS, 0)
        return _SIMPLE if chance(new_dice("simple", number), share) else KINDS

    def _done(self, number: int) -> float:
        """Return which share of the stage lies before a sample."""
        stage = self._stage
        return (number - self._offset) / (stage.steps * stage.accumulation * stage.batch_size)

    def asked_about(self, number: int) -> Sight:
        """Return the picture of this number to be asked about."""
        share = _VARIED_SHARES[self._done(number) >= _FEWER_VARIED_FROM]
        is_varied = self._binds() and chance(new_dice("varied", number), share)
        kinds = _SEVERAL if is_varied else self._kinds(number)
        return sight(number, self._size_px, kinds, is_varied)

    def _binds(self) -> bool:
        return self._stage.stage == "questions"

    def _shown(self, number: int) -> Shown:
        """Ask several questions about one picture, or about two."""
        sights = [self.asked_about(number)]
        if chance(new_dice("how many pictures", number), _TWO_PICTURES_SHARE):
            sights.append(sight(number + _OTHER_SCENE, self._size_px, self._kinds(number)))
            few = max(round(_QUESTIONS_ABOUT_TWO * self._stage.questions), 1)
            asked = lessons_about_two(sights[0], sights[1], number, few)
        else:
            lookups = _LOOKUPS_SHARE if self._binds() else 0.0
            asked = lessons_about_one(sights[0], number, self._stage.questions, lookups)
        split = [split_behind_pictures(self._write(questions, len(sights))) for questions in asked]
        pixels, labels = self._seen(sights)
        return Shown(
            start=split[0][0],
            pixel_values=pixels,
            labels=labels,
            asked=[continuation for _, continuation in split],
        )

    def _write(self, questions: list[Question], num_images: int) -> Lesson:
        return write_conversation(
            [Exchange(question=one.question, answer=one.answer) for one in questions],
            self._tokenizer,
            image_tokens=self._image_tokens,
            num_images=num_images,
        )

    def _text(self, number: int) -> Lesson:
        """Read the world's text: several passages in one sequence, all of it learnt."""
        dice = new_dice("text", number)
        passages = [passage(number * _PASSAGES + index) for index in range(_PASSAGES)]
        told = [part.answer for part in passages if not part.prompt]
        asked = [Exchange(question=part.prompt, answer=part.answer) for part in passages if part.prompt]
        if told and (not asked or chance(dice, _DOCUMENT_SHARE)):
            return write_document(told, self._tokenizer, tokens=_PASSAGE_TOKENS)
        return learn_all(write_conversation(asked, self._tokenizer, image_tokens=0, tokens=_PASSAGE_TOKENS))

    def _generation(self, number: int) -> DrawSample:
        dice = new_dice("drawing", number)
        many = self._binds() and chance(new_dice("many", number), _MANY_SHARE)
        scene = sample_scene(number, kinds=_MANY if many else self._kinds(number), is_drawn=True)
        told = chance(dice, _CAPTION_PROMPT_SHARE)
        prompt = caption(scene, "detailed") if told else drawing_prompt(scene, number)
        plan = plan_drawing(prompt, self._tokenizer)
        if chance(dice, self._stage.drop_prompt):
            plan = unconditional(plan, self._tokenizer)
        return DrawSample(plan=plan, tokens=torch.from_numpy(role_tokens(scene)))


def _grids(scenes: list[Scene]) -> Tensor:
    return torch.from_numpy(np.stack([role_tokens(scene) for scene in scenes]))


def _restored_scene(number: int) -> Scene:
    """Return a scene to be drawn; in every third a thing lies inside another."""
    if number % _ONE_INSIDE_IN:
        return sample_scene(number, is_drawn=True)
    pairs = (sample_scene(number + _OTHER_SCENE + ahead, kinds=("pair",), is_drawn=True) for ahead in count())
    return next(scene for scene in pairs if scene.relation == "inside")


def split_batch(stage: StageRecipe) -> tuple[int, int, int]:
    """Return how many samples of understanding, text and generation a micro-batch holds.

    The mix decides, rounded so that the counts add up.
    """
    wanted = [share / sum(stage.mix) * stage.batch_size for share in stage.mix]
    counts = [int(each) for each in wanted]
    by_loss = sorted(range(3), key=lambda kind: counts[kind] - wanted[kind])
    for kind in by_loss[: stage.batch_size - sum(counts)]:
        counts[kind] += 1
    return counts[0], counts[1], counts[2]
