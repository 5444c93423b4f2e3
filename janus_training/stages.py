"""Puts recipe, world, model and losses together: what a run learns in each of its stages.

Every batch is a pure function of its number, which is what lets a killed run go on exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from janus_core.inputs.text_tokenizer import TextTokenizer
from janus_core.model.model import JanusModel

from .language_task import LanguageTask
from .loop import Task
from .patch_tokens import PatchTokens
from .recipe import Recipe, StageRecipe
from .samples import Samples
from .vision_task import TextTower, VisionTask
from .vq_task import VQTask
from .weights import fill, new_model
from .words import learn_tokenizer
from .world.corpus import corpus
from .world.rendering import render
from .world.scene_sampling import sample_scene
from .world.scenes import Scene

_CAPTION_CONTEXT = 96  # tokens of the longest caption that the text tower reads
_ONE_INSIDE_IN = 4  # pictures of stage "vq"
_PATCH_BATCHES = 125  # of 64 pictures, whose patches get one image token each
_STRIDE = 1_000_000_000  # sample numbers of one stage; stages never share a picture


class Workshop:
    """One recipe's model and world, from which the task of every stage is made.

    Attributes:
        modules: everything that learns in any stage: "model" and "text_tower".
        tokenizer_json: content of the tokenizer's file.
    """

    def __init__(self, recipe: Recipe, device: torch.device, tokenizer_json: str | None = None) -> None:
        """Make the model with its first weights, and its tokenizer unless a run has one already."""
        self.recipe, self.device = recipe, device
        self.tokenizer_json = tokenizer_json or learn_tokenizer(corpus(recipe.seed), recipe.model.vocabulary)
        self.tokenizer = TextTokenizer(self.tokenizer_json, source="the recipe's tokenizer")
        self.model = new_model(recipe.model.to_config(), recipe.seed)
        self.model.vq_tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.device("meta"):
            text_tower = TextTower(
                recipe.model.vocabulary,
                recipe.model.vision_width,
                _CAPTION_CONTEXT,
                self.tokenizer.special.pad,
            )
        fill(text_tower, recipe.seed)
        self.modules = nn.ModuleDict({"model": self.model, "text_tower": text_tower}).to(device)

    def make_task(self, stage: StageRecipe, modules: nn.ModuleDict) -> Task:
        """Return what a stage learns."""
        offset = _STRIDE * self.recipe.stages.index(stage)
        if stage.stage == "vq":
            pictures = self._pictures(stage, offset)
            return VQTask(self.model.vq_tokenizer, pictures, stage.steps * stage.accumulation)
        samples = Samples(self.tokenizer, self.recipe.model, stage, offset)
        if stage.stage == "vision":
            text_tower = modules["text_tower"]
            assert isinstance(text_tower, TextTower)  # made above
            return VisionTask(
                self.model.seeing.vision_tower, text_tower, lambda n: samples.captioned(n, self.device)
            )
        tokens_of = None
        if stage.one_token_a_patch:
            drawn = (samples.to_draw(n) for n in range(_PATCH_BATCHES))
            tokens_of = PatchTokens(self.model.vq_tokenizer, drawn)
        return LanguageTask(self.model, stage, samples.mixture, self.tokenizer.special.pad, tokens_of)

    def _pictures(self, stage: StageRecipe, offset: int) -> Callable[[int], Tensor]:
        size_px = self.recipe.model.image_size

        def pictures(sample: int) -> Tensor:
            numbers = range(offset + sample * stage.batch_size, offset + (sample + 1) * stage.batch_size)
            rendered = np.stack([render(_restored_scene(number), size_px) for number in numbers])
            pixels = torch.from_numpy(rendered).permute(0, 3, 1, 2) * 2 - 1
            return pixels.contiguous(memory_format=torch.channels_last).to(self.device)

        return pictures


def _restored_scene(number: int) -> Scene:
    """Return a scene for stage "vq"; in every fourth a thing lies inside another, the hardest to keep."""
    if number % _ONE_INSIDE_IN:
        return sample_scene(number)
    pairs = (sample_scene(number + ahead, kinds=("pair",)) for ahead in count())
    return next(scene for scene in pairs if scene.relation == "inside")


def model_of(modules: nn.ModuleDict) -> JanusModel:
    """Return the model among everything that learns."""
    model = modules["model"]
    assert isinstance(model, JanusModel)
    return model
