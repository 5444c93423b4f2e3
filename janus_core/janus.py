"""Janus, what a person holds: it converses, draws, encodes and decodes, each a few lines over other rooms.

Every public method runs under `torch.inference_mode()`. Devices and dtypes are decided once, on loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from .conversing import Conversing
from .generation.batches import batched, in_chunks, within
from .generation.drawing import generate_image_tokens, plan_pictures
from .inputs.image_tokens import Drawn, ImageTokens
from .inputs.pictures import Picture
from .inputs.preprocessing import Fit, to_images, to_vq_inputs
from .model.config import JanusConfig
from .model.model import JanusModel
from .options import (
    PUBLISHED_GUIDANCE,
    DrawOptions,
    Guidance,
    OnStep,
    OnTokens,
    check_count,
    whole_seed,
)
from .residency.memory import decode_bytes, draw_bytes
from .residency.packing import pack_for_drawing

_VQ_TOGETHER = 4  # pictures through the VQ tokenizer at once: its feature maps are the largest of all


@dataclass(frozen=True, kw_only=True, eq=False)
class Janus(Conversing):
    """A loaded autoregressive model with everything needed to use it.

    Attributes:
        model: as in `LoadedModel`, which has further attributes.
        codebook: identity of the VQ codebook.
        vq_dtype: of the VQ tokenizer.
        guidance: how the model's makers recommend to draw; what a caller leaves open is taken from it.
    """

    model: JanusModel
    codebook: str
    vq_dtype: torch.dtype
    guidance: Guidance = PUBLISHED_GUIDANCE

    @property
    def config(self) -> JanusConfig:
        """The architecture."""
        return self.model.config

    @torch.inference_mode()
    def draw(
        self,
        prompt: str | Sequence[str],
        *,
        num_images: int = 1,
        seed: int = 0,
        negative_prompt: str = "",
        options: DrawOptions | None = None,
        batch_size: int = 4,
        on_step: OnStep | None = None,
        on_tokens: OnTokens | None = None,
    ) -> Drawn:
        """Draw pictures from one or several prompts.

        Args:
            prompt: what to draw; empty draws unconditionally. Several prompts are drawn together.
            num_images: pictures of each prompt; picture i of a prompt uses seed + i.
            seed: any integer.
            negative_prompt: what to draw away from; empty is the reference's guidance.
            options: guidance and sampling.
            batch_size: pictures drawn together.
            on_step: receives (image tokens done, image tokens of all batches).
            on_tokens: receives the tokens so far of the batch being drawn.

        Raises:
            SamplingError: num_images or batch_size below 1. PromptError: a prompt exceeds the context.
        """
        check_count("num_images", num_images)
        check_count("batch_size", batch_size)
        seed = whole_seed(seed)
        pictures = plan_pictures(
            [prompt] if isinstance(prompt, str) else prompt,
            negative_prompt,
            range(seed, seed + num_images),
            self.tokenizer,
            old_roles=self.config.old_roles,
        )
        options = (options or DrawOptions()).decided(self.guidance)
        longest = max(max(len(plan.cond), len(plan.uncond)) for plan in pictures)
        need = draw_bytes(self.config, min(batch_size, len(pictures)), longest, self.compute.dtype)
        compute = self.ready("draw", "decode", memory_required=need)
        pack_for_drawing(self.model.language)
        cells, batches = self.config.num_image_tokens, batched(pictures, batch_size)
        drawn = [
            generate_image_tokens(
                self.model.language,
                batch,
                options,
                num_image_tokens=cells,
                pad=self.tokenizer.special.pad,
                compute=compute,
                on_step=within(on_step, index * cells, len(batches) * cells),
                on_tokens=on_tokens,
            )
            for index, batch in enumerate(batches)
        ]
        grid = rearrange(torch.cat(drawn).cpu(), "b (h w) -> b h w", h=self.config.grid_side)
        with torch.inference_mode(False):  # a grid that its owner may change
            tokens = ImageTokens(grid=grid.clone(), codebook=self.codebook)
        images = in_chunks(self._to_images, tokens.grid, min(batch_size, _VQ_TOGETHER), None)
        return Drawn(images=images, tokens=tokens, seeds=tuple(plan.seed % 2**64 for plan in pictures))

    @torch.inference_mode()
    def encode(
        self,
        images: Picture | Sequence[Picture],
        fit: Fit = "crop",
        *,
        batch_size: int = _VQ_TOGETHER,
        on_step: OnStep | None = None,
    ) -> ImageTokens:
        """Turn pictures into image tokens.

        Args:
            images: one picture or several; of another size than the model's they are fitted.
            fit: crop the middle, pad with grey, or stretch.
            batch_size: pictures encoded together, at least 1.
            on_step: receives (pictures done, pictures).

        Raises:
            ImageError: there is no picture, or one cannot be read.
        """
        pixels = to_vq_inputs(images, self.config.vision.image_size, fit)
        self.ready("encode", memory_required=decode_bytes(self.config, min(batch_size, len(pixels))))

        def encode(chunk: Tensor) -> Tensor:
            # channels last: convolutions take it as it is, and it saves a sixth of their time on a CPU
            chunk = chunk.to(self.compute.device, self.vq_dtype, memory_format=torch.channels_last)
            return self.model.vq_tokenizer.encode(chunk)

        return ImageTokens(grid=in_chunks(encode, pixels, batch_size, on_step), codebook=self.codebook)

    @torch.inference_mode()
    def decode(
        self, tokens: ImageTokens, *, batch_size: int = _VQ_TOGETHER, on_step: OnStep | None = None
    ) -> Tensor:
        """Turn image tokens into pictures (b, h, w, 3) float32 in 0..1 on the CPU.

        Args:
            tokens: of this model's codebook.
            batch_size: pictures decoded together, at least 1.
            on_step: receives (pictures done, pictures).

        Raises:
            ImageError: the tokens belong to another codebook, have another grid, or are damaged.
        """
        tokens.check_decodable(self.codebook, self.config.vq.codebook_size, self.config.grid_side)
        self.ready("decode", memory_required=decode_bytes(self.config, min(batch_size, len(tokens))))
        return in_chunks(self._to_images, tokens.grid, batch_size, on_step)

    @torch.inference_mode()
    def decode_pixels(self, grid: Tensor) -> Tensor:
        """Return pixel values (b, 3, H, W), about −1..1 and not clamped, of image tokens (b, h, w) int64."""
        self.ready("decode", memory_required=decode_bytes(self.config, len(grid)))
        return self._to_pixels(grid)

    def _to_pixels(self, grid: Tensor) -> Tensor:
        """Do what `decode_pixels` does once the weights are in place."""
        return self.model.vq_tokenizer.decode(grid.to(self.compute.device), self.vq_dtype)

    def _to_images(self, grid: Tensor) -> Tensor:
        """Return pictures (b, h, w, 3) float32 in 0..1, the weights being in place."""
        return to_images(self._to_pixels(grid))
