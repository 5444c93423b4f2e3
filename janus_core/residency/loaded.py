"""A loaded model with its tokenizer and the owner of its weights; works on plans, embeddings, pixel values.

The methods for users are in `janus`. Nothing is sampled here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.pictures import Picture, read_picture
from ..inputs.preprocessing import to_images, to_pixel_values
from ..inputs.prompting import SYSTEM_TEXT, PromptPlan, TurnText, plan_conversation
from ..inputs.text_tokenizer import TextTokenizer
from ..inputs.turns import Turn
from ..model.config import JanusConfig
from ..model.model import JanusModel
from ..options import PUBLISHED_GUIDANCE, Compute, Guidance
from .memory import decode_bytes, see_bytes
from .parts import TASKS, Task
from .placement import WeightOwner


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model, its tokenizer, and where its weights are.

    Attributes:
        model: its weights are where `owner` keeps them.
        tokenizer: the text tokenizer.
        codebook: identity of the VQ codebook.
        compute: where everything is computed, and the dtype of seeing and language.
        vq_dtype: of the VQ tokenizer.
        owner: of the weights, asked before each computation to have them in place; None if they always are.
        guidance: recommended by the model's folder; used for what a caller leaves open.
    """

    model: JanusModel
    tokenizer: TextTokenizer
    codebook: str
    compute: Compute
    vq_dtype: torch.dtype
    owner: WeightOwner | None = None
    guidance: Guidance = PUBLISHED_GUIDANCE

    def ready(self, *tasks: Task, memory_required: int) -> Compute:
        """Have the weights of tasks in place and that many bytes free; return where to compute."""
        if self.owner is None:
            return self.compute
        return self.owner.ready(*tasks, memory_required=memory_required)

    def bring_all(self) -> None:
        """Have all weights in place, for callers who use the model's modules themselves."""
        self.ready(*TASKS, memory_required=0)

    @property
    def config(self) -> JanusConfig:
        """The architecture."""
        return self.model.config

    def plan_conversation(self, turns: Sequence[Turn], system: str = SYSTEM_TEXT) -> PromptPlan:
        """Return the prompt of a conversation as token ids, without looking at its pictures."""
        return plan_conversation(
            [TurnText(role=turn.role, text=turn.text, num_images=len(turn.images)) for turn in turns],
            self.tokenizer,
            image_tokens=self.config.vision.num_patches,
            system=system,
            old_roles=self.config.old_roles,
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

    @torch.inference_mode()
    def decode_pixels(self, grid: Tensor) -> Tensor:
        """Return pixel values (b, 3, H, W), about −1..1 and not clamped, of image tokens (b, h, w) int64."""
        self.ready("decode", memory_required=decode_bytes(self.config, len(grid)))
        return self._to_pixels(grid)

    def _to_pixels(self, grid: Tensor) -> Tensor:
        """Do what `decode_pixels` does once the weights are in place."""
        return self.model.vq_tokenizer.decode(grid.to(self.compute.device), self.vq_dtype)

    def _to_images(self, grid: Tensor) -> Tensor:
        """Return pictures (b, h, w, 3) float32 in 0..1, the weights being in place.

        A pixel that is no finite number is NaN, which clamping alone would hide; who brings pictures to the
        host looks for it there.
        """
        pixels = self._to_pixels(grid)
        pixels = pixels.where(pixels.isfinite(), torch.nan)
        return to_images(pixels)  # (b, 3, H, W) to (b, h, w, 3)
