"""Which samples a stage learns from: pictures of the training split with words about them, by number.

Every sample is a pure function of its number, seeded through the world's own dice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values, to_vq_input
from janus_core.inputs.prompting import CAPTION_STYLES, plan_drawing, unconditional
from janus_core.inputs.text_tokenizer import TextTokenizer

from .conversations import Exchange, learn_all, write_conversation, write_document
from .language_task import DrawSample, Mixture, TextSample
from .recipe import ModelSizes, StageRecipe
from .world.answers import Question
from .world.captions import caption, caption_question
from .world.dice import chance, new_dice, pick_weighted, shuffled
from .world.drawing_prompts import drawing_prompt
from .world.near_misses import near_miss
from .world.passages import passage
from .world.patch_labels import patch_labels
from .world.questions import questions
from .world.rendering import render
from .world.scene_sampling import in_pure_colours, sample_scene
from .world.scenes import Scene
from .world.two_pictures import questions_about_two
from .world.vocabulary import KINDS, STYLES, Kind, Style

_STYLE_WEIGHTS = (0.35, 0.45, 0.15, 0.05)  # short, detailed, tags, text
_CAPTION_ALONE_SHARE = 0.45  # of conversations: later answers could be read off a caption
_CAPTION_FIRST_SHARE = 0.1  # of conversations that go on with questions
_OUTSIDE_SHARE = 0.3  # of conversations before stage III in which something outside the world may be asked
_CAPTION_PROMPT_SHARE = 0.1  # of drawings asked for by a detailed caption
_DOCUMENT_SHARE = 0.25  # of text samples without questions
_VISION_STYLES: tuple[Style, ...] = ("detailed", "tags", "short")
_VISION_WEIGHTS = (0.6, 0.2, 0.2)
_TWO_PICTURES_SHARE = 0.08  # of conversations
_OTHER_SCENE = 500_000_000  # from the number of a first picture to that of a second
_MET_FROM = 700_000_000  # numbers that no stage reaches
_SIMPLE: tuple[Kind, ...] = ("single",)
_MOST_EXCHANGES = 8  # of one conversation; its length ends most of them earlier
_PASSAGES = 4  # of one text sample, likewise


class Samples:
    """The samples of one stage."""

    def __init__(self, tokenizer: TextTokenizer, sizes: ModelSizes, stage: StageRecipe, offset: int) -> None:
        """Keep what the samples depend on; scenes are numbered from `offset`."""
        config = sizes.to_config()
        self._tokenizer, self._stage, self._offset = tokenizer, stage, offset
        self._preprocess, self._image_tokens = config.preprocess, config.vision.num_patches
        self._size_px, self._patch_px = sizes.image_size, sizes.patch_size
        bare = write_conversation([Exchange(question="?", answer="")], tokenizer, image_tokens=0, tokens=0)
        self._frame = len(bare.plan)  # system text and template of one exchange

    def captioned(self, n: int, device: torch.device) -> tuple[Tensor, list[list[int]], Tensor]:
        """Return one micro-batch of stage "vision".

        Every second scene is a near miss of the one before, so that matching takes a close look.

        Returns: pixel values (b, 3, h, w), the token ids of each picture's caption, and what each patch
            shows (b, n, 4), see `patch_labels`.
        """
        scenes: list[Scene] = []
        captions: list[list[int]] = []
        for number in self._numbers(n):
            dice = new_dice("vision", number)
            other = near_miss(scenes[-1], dice) if len(scenes) % 2 else None
            scenes.append(other or self._scene(number))
            style = pick_weighted(dice, _VISION_STYLES, _VISION_WEIGHTS)
            captions.append(self._tokenizer.encode(caption(scenes[-1], style)))
        pixels = torch.stack([self.seen(scene) for scene in scenes])
        labels = [torch.from_numpy(patch_labels(scene, self._size_px, self._patch_px)) for scene in scenes]
        return pixels.to(device), captions, torch.stack(labels).to(device)

    def mixture(self, n: int) -> Mixture:
        """Return one micro-batch of stages "language", I, II and III."""
        numbers = list(self._numbers(n))
        first, second, _ = split_batch(self._stage)
        return Mixture(
            understanding=[self._understanding(number) for number in numbers[:first]],
            text=[self._text(number) for number in numbers[first : first + second]],
            generation=[self._generation(number) for number in numbers[first + second :]],
        )

    def to_draw(self, n: int) -> Tensor:
        """Return 64 pictures (64, 3, h, w) in −1..1 of the kind that is drawn, the same in every stage."""
        numbers = range(_MET_FROM + n * 64, _MET_FROM + (n + 1) * 64)
        scenes = [sample_scene(number, is_plain=True) for number in numbers]
        return torch.stack([self._drawable(in_pure_colours(scene)) for scene in scenes])

    def _drawable(self, scene: Scene) -> Tensor:
        return to_vq_input(render(scene, self._size_px), self._size_px, "stretch")

    def seen(self, scene: Scene) -> Tensor:
        """Return the pixel values (3, h, w) of a scene as the vision tower gets them when asked."""
        return to_pixel_values(read_picture(render(scene, self._size_px)), self._preprocess)

    def _numbers(self, n: int) -> range:
        batch = self._stage.batch_size
        return range(self._offset + n * batch, self._offset + (n + 1) * batch)

    def _scene(self, number: int, is_plain: bool = False) -> Scene:
        """Return a scene of the training split; simple ones grow rarer as the stage goes on."""
        stage = self._stage
        done = (number - self._offset) / (stage.steps * stage.accumulation * stage.batch_size)
        is_simple = chance(new_dice("simple", number), stage.simple_share * (1 - done))
        return sample_scene(number, kinds=_SIMPLE if is_simple else KINDS, is_plain=is_plain)

    def _understanding(self, number: int) -> TextSample:
        scenes = [self._scene(number)]
        if chance(new_dice("how many pictures", number), _TWO_PICTURES_SHARE):
            scenes.append(sample_scene(number + _OTHER_SCENE))
            asked = questions_about_two(scenes[0], scenes[1], number)
            exchanges = [Exchange(question=one.question, answer=one.answer) for one in asked]
        else:
            exchanges = self._exchanges(scenes[0], number)
        lesson = write_conversation(
            exchanges,
            self._tokenizer,
            image_tokens=self._image_tokens,
            tokens=self._frame + len(scenes) * self._image_tokens + self._stage.turn_tokens,
            num_images=len(scenes),
        )
        pixel_values = torch.stack([self.seen(scene) for scene in scenes])
        return TextSample(plan=lesson.plan, is_learnt=lesson.is_learnt, pixel_values=pixel_values)

    def _exchanges(self, scene: Scene, number: int) -> list[Exchange]:
        """Ask for a caption alone, or choose questions in random order; some follow a caption."""
        dice = new_dice("conversation", number)
        style = pick_weighted(dice, STYLES, _STYLE_WEIGHTS)
        is_alone = chance(dice, _CAPTION_ALONE_SHARE)
        asked: list[Question] = []
        if is_alone or chance(dice, _CAPTION_FIRST_SHARE / (1 - _CAPTION_ALONE_SHARE)):
            asked.append(caption_question(scene, style, number, CAPTION_STYLES[style]))
        if not is_alone:
            *known, outside = questions(scene, number)
            if self._stage.stage == "III" or chance(dice, _OUTSIDE_SHARE):
                known.append(outside)
            asked += shuffled(dice, known)[:_MOST_EXCHANGES]
        return [Exchange(question=question.question, answer=question.answer) for question in asked]

    def _text(self, number: int) -> TextSample:
        """Read the world's text: several passages in one sequence, all of it learnt."""
        dice, tokens = new_dice("text", number), self._frame + self._stage.turn_tokens
        passages = [passage(number * _PASSAGES + index) for index in range(_PASSAGES)]
        told = [part.answer for part in passages if not part.prompt]
        asked = [Exchange(question=part.prompt, answer=part.answer) for part in passages if part.prompt]
        if told and (not asked or chance(dice, _DOCUMENT_SHARE)):
            lesson = write_document(told, self._tokenizer, tokens=tokens)
        else:
            lesson = learn_all(write_conversation(asked, self._tokenizer, image_tokens=0, tokens=tokens))
        return TextSample(plan=lesson.plan, is_learnt=lesson.is_learnt, pixel_values=None)

    def _generation(self, number: int) -> DrawSample:
        # prompts say nothing of a ground's marks
        dice, scene = new_dice("drawing", number), self._scene(number, is_plain=True)
        told = chance(dice, _CAPTION_PROMPT_SHARE)
        prompt = caption(scene, "detailed") if told else drawing_prompt(scene, number)
        plan = plan_drawing(prompt, self._tokenizer)
        if chance(dice, self._stage.drop_prompt):
            plan = unconditional(plan, self._tokenizer)
        drawn = in_pure_colours(scene) if self._stage.one_token_a_patch else scene
        return DrawSample(plan=plan, pixel_values=self._drawable(drawn))


def split_batch(stage: StageRecipe) -> tuple[int, int, int]:
    """Return how many samples of understanding, text and generation a micro-batch holds.

    The mix decides, rounded so that the counts add up; stage "language" reads text alone.
    """
    if stage.stage == "language":
        return 0, stage.batch_size, 0
    wanted = [share / sum(stage.mix) * stage.batch_size for share in stage.mix]
    counts = [int(count) for count in wanted]
    by_loss = sorted(range(3), key=lambda kind: counts[kind] - wanted[kind])
    for kind in by_loss[: stage.batch_size - sum(counts)]:
        counts[kind] += 1
    return counts[0], counts[1], counts[2]
