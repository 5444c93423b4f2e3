"""Puts recipe, world, model and losses together: what a run learns in each of its stages.

Every batch is a pure function of its number, which is what lets a killed run go on exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn

from janus_core.errors import ConfigError
from janus_core.inputs.text_tokenizer import TextTokenizer

from .ahead import Ahead
from .language_task import LanguageTask, Mixture
from .loop import Task
from .recipe import Recipe, StageName, StageRecipe
from .samples import Batch, Samples
from .vision_task import VisionTask
from .vq_task import RecognisingTask, RestoringTask
from .weights import initialise, new_model
from .words import learn_tokenizer
from .world.corpus import corpus
from .world.patch_labels import CLASSES
from .world.roles import role_codes

_STRIDE = 1_000_000_000  # sample numbers of one stage; stages never share a picture


class Workshop:
    """One recipe's model and world, from which the task of every stage is made.

    Attributes:
        model: the Janus.
        naming: reads from image embeddings what patches show; needed in training only.
        modules: everything that learns in any stage: the two.
        tokenizer_json: content of the tokenizer's file.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, tokenizer_json: str | None = None, workers: int = 0
    ) -> None:
        """Make the model with its first weights, and its tokenizer unless a run has one already.

        Args:
            recipe: what to make.
            device: to train on.
            tokenizer_json: content of the tokenizer's file.
            workers: processes that make batches ahead; 0 makes each when it is needed.
        """
        self.recipe = recipe
        self.device = device
        self._workers = workers
        self._ahead: Ahead | None = None
        self.tokenizer_json = tokenizer_json or learn_tokenizer(corpus(recipe.seed), recipe.model.vocabulary)
        self.tokenizer = TextTokenizer(self.tokenizer_json, source="the recipe's tokenizer")
        self.model = new_model(recipe.model.to_config(), recipe.seed)
        self._begin_codes()
        self.model.vq_tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.naming = nn.Linear(recipe.model.hidden_size, sum(CLASSES))
        initialise(self.naming, torch.Generator().manual_seed(recipe.seed))
        self.modules = nn.ModuleDict({"model": self.model, "naming": self.naming}).to(device)

    @torch.no_grad()
    def _begin_codes(self) -> None:
        """Begin codebook and image-token embedding with what the world's tokens have in common."""
        sizes = self.recipe.model
        codes = torch.from_numpy(role_codes(sizes.code_width, self.recipe.seed))
        if len(codes) > sizes.codebook_size:
            raise ConfigError(
                f'The recipe "{self.recipe.name}" has a codebook of {sizes.codebook_size}; the world needs '
                f"{len(codes)} image tokens."
            )
        for table in (self.model.vq_tokenizer.codebook, self.model.language.image_token_embedding):
            table.weight[: len(codes)] = codes

    def make_task(self, stage: StageRecipe) -> Task:
        """Return what a stage learns; it ends what was made ahead for the stage before."""
        self.close()
        offset = _STRIDE * (1 + get_args(StageName).index(stage.stage))
        batches: Callable[[int], Batch]
        if self._workers:
            self._ahead = Ahead(self.tokenizer_json, self.recipe.model, stage, offset, self._workers)
            batches = self._ahead
        else:
            batches = Samples(self.tokenizer, self.recipe.model, stage, offset).batch
        if stage.stage == "vq_decoder":
            return RestoringTask(self.model.vq_tokenizer, self._pairs(batches))
        if stage.stage == "vq_encoder":
            return RecognisingTask(self.model.vq_tokenizer, self._pairs(batches))
        if stage.stage == "vision":
            return VisionTask(self.model.seeing, self.naming, self._pairs(batches))
        return LanguageTask(self.model, self.naming, stage, _mixtures(batches), self.tokenizer.special.pad)

    def close(self) -> None:
        """End the processes that make batches, if any."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _pairs(self, batches: Callable[[int], Batch]) -> Callable[[int], tuple[Tensor, Tensor]]:
        def pairs(n: int) -> tuple[Tensor, Tensor]:
            batch = batches(n)
            assert isinstance(batch, tuple)  # as the stage's samples are
            return batch[0].to(self.device), batch[1].to(self.device)

        return pairs


def _mixtures(batches: Callable[[int], Batch]) -> Callable[[int], Mixture]:
    def mixtures(n: int) -> Mixture:
        batch = batches(n)
        assert isinstance(batch, Mixture)  # as the stage's samples are
        return batch

    return mixtures
