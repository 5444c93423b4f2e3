"""A loaded model of either kind with its tokenizer and the owner of its weights; works on plans, embeddings.

The methods for users are in `janus`. Nothing is sampled here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..flow.flow_config import JanusFlowConfig
from ..flow.flow_model import JanusFlowModel
from ..inputs.pictures import Picture, read_picture
from ..inputs.preprocessing import to_pixel_values
from ..inputs.prompting import SYSTEM_TEXT, PromptPlan, TurnText, plan_conversation
from ..inputs.text_tokenizer import TextTokenizer
from ..inputs.turns import Turn
from ..model.config import JanusConfig
from ..model.model import JanusModel
from ..options import Compute
from .memory import see_bytes
from .parts import Task, table_of
from .placement import WeightOwner


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model, its tokenizer, and where its weights are.

    Attributes:
        model: its weights are where `owner` keeps them.
        tokenizer: the text tokenizer.
        compute: where everything is computed, and the dtype of seeing and language.
        name: of the folder it was read from; empty if it was not read from one.
        adapters: what was added to its weights, as people read it: "style × 0.8". Models of one name with
            other adapters have other weights.
        owner: of the weights, asked before each computation to have them in place; None if they always are.
    """

    model: JanusModel | JanusFlowModel
    tokenizer: TextTokenizer
    compute: Compute
    owner: WeightOwner | None = None
    name: str = ""
    adapters: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return what a person would call it: "janus-shapes, float32, CPU"."""
        dtype, place = str(self.compute.dtype).removeprefix("torch."), self.compute.device.type.upper()
        called = " + ".join((self.name or "a Janus model without a name", *self.adapters))
        return f"{called}, {dtype}, {place}"

    def ready(self, *tasks: Task, memory_required: int) -> Compute:
        """Have the weights of tasks in place and that many bytes free; return where to compute."""
        if self.owner is None:
            return self.compute
        return self.owner.ready(*tasks, memory_required=memory_required)

    def bring_all(self) -> None:
        """Have all weights in place, for callers who use the model's modules themselves."""
        tasks = dict.fromkeys(task for entry in table_of(self.model) for task in entry.tasks)
        self.ready(*tasks, memory_required=0)

    @property
    def config(self) -> JanusConfig | JanusFlowConfig:
        """The architecture."""
        return self.model.config

    def plan_conversation(self, turns: Sequence[Turn], system: str = SYSTEM_TEXT) -> PromptPlan:
        """Return the prompt of a conversation as token ids, without looking at its pictures."""
        return plan_conversation(
            [
                TurnText(role=turn.role, text=turn.text, num_images=len(turn.images), is_raw=turn.is_raw)
                for turn in turns
            ],
            self.tokenizer,
            image_tokens=self.config.vision.num_patches,
            system=system,
            old_roles=self.config.old_roles,
            learned_begin=self.config.learned_begin,
        )

    @torch.inference_mode()
    def see(self, images: Sequence[Picture]) -> Tensor:
        """Return image embeddings (pictures, n, d) of pictures, as the decoder reads them."""
        self.ready("see", memory_required=see_bytes(self.config, len(images), self.compute.dtype))
        return self._look_at(images)

    def _look_at(self, images: Sequence[Picture]) -> Tensor:
        """Do what `see` does once the weights are in place."""
        rows = [to_pixel_values(read_picture(image), self.config.preprocess) for image in images]
        # (pictures, 3, h, w) to (pictures, n, d)
        return self.model.seeing(torch.stack(rows).to(self.compute.device, self.compute.dtype))
