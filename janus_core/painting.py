"""What Janus does with pictures that it makes: draw, encode, decode.

Every public method is under `torch.inference_mode()`. Talking about pictures stands in `conversing`, drawing
under a mask in `janus`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from .conversing import Conversing
from .errors import ImageError, shown
from .generation.batches import in_chunks
from .generation.canvas import Source
from .generation.contest import Contest
from .generation.easel import Easel
from .generation.plans import DrawPlan, plan_pictures
from .generation.sampling import require_numbers
from .inputs.image_tokens import UNDRAWN, Drawn, ImageTokens
from .inputs.pictures import Picture
from .inputs.preprocessing import Fit, to_images, to_vq_inputs
from .model.config import JanusConfig
from .model.layers import full_precision_convolutions
from .model.model import JanusModel
from .options import (
    MOST_PICTURES,
    PUBLISHED_GUIDANCE,
    DrawOptions,
    Guidance,
    OnStep,
    OnTokens,
    check_count,
    check_whole,
    seed_range,
)
from .residency.memory import VQ_TOGETHER, decode_bytes, draw_bytes
from .residency.packing import pack_for_drawing

_NO_TOKEN = -1  # in place of a token that could not be found


@dataclass(frozen=True, kw_only=True, eq=False)
class Painting(Conversing):
    """A loaded autoregressive model that converses, draws, encodes and decodes.

    Attributes:
        model: as in `LoadedModel`, which has further attributes.
        codebook: identity of the VQ codebook.
        vq_dtype: of the VQ tokenizer.
        guidance: recommended by the model's folder; used for what a caller leaves open.
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
            num_images: pictures of each prompt; picture i of a prompt uses seed + i. With `keep_best` of the
                options those of each prompt that fit it best come out, the best first.
            seed: any integer.
            negative_prompt: text of the unconditional row; empty pads the prompt out, as in the reference.
            options: guidance and sampling.
            batch_size: pictures drawn together.
            on_step: called with (image tokens done, image tokens of all batches).
            on_tokens: called with the tokens so far of the batch being drawn.

        Raises:
            PromptError: a prompt exceeds the context, or says nothing that the best could be kept by.
            SamplingError: a count below 1, more to be kept than are drawn, or scores that are no numbers;
                `rows` tells of which pictures.
        """
        check_whole("num_images", num_images, 1, MOST_PICTURES)
        check_count("batch_size", batch_size)
        pictures = plan_pictures(
            [prompt] if isinstance(prompt, str) else prompt,
            negative_prompt,
            seed_range(seed, num_images),
            self.tokenizer,
            old_roles=self.config.old_roles,
        )
        return self._drawn(pictures, options or DrawOptions(), batch_size, on_step, on_tokens)

    @torch.inference_mode()
    def resume(
        self,
        tokens: ImageTokens,
        prompt: str,
        *,
        seed: int = 0,
        negative_prompt: str = "",
        options: DrawOptions | None = None,
        batch_size: int = 4,
        on_step: OnStep | None = None,
        on_tokens: OnTokens | None = None,
    ) -> Drawn:
        """Go on with a drawing that was interrupted.

        With its prompt, seed and options the pictures are those of the uninterrupted drawing (in float32);
        another prompt draws only what is missing. Finished pictures are decoded.

        Args:
            tokens: what is drawn so far, from `Sketch`; `begin` returns some to start several pictures with.
            prompt: what to draw.
            seed: picture i, counted in `tokens`, uses seed + i.
            negative_prompt: see `draw`.
            options: see `draw`; all pictures count as those of one prompt.
            batch_size: pictures drawn together.
            on_step: called with (image tokens done, image tokens of all batches).
            on_tokens: called with the tokens so far of the batch being drawn.

        Raises:
            ImageError: the tokens belong to another model, or are damaged.
            PromptError, SamplingError: as `draw`.
        """
        check_count("batch_size", batch_size)
        seeds = seed_range(seed, len(tokens))
        tokens.check_drawable(self.codebook, self.config.vq.codebook_size, self.config.grid_side)
        pictures = plan_pictures(
            [prompt],
            negative_prompt,
            seeds,
            self.tokenizer,
            old_roles=self.config.old_roles,
        )
        if any(tokens.cells_drawn):
            pictures = [
                replace(plan, source=Source(tokens=row, is_drawn=row == UNDRAWN))
                for plan, row in zip(pictures, tokens.grid.flatten(1), strict=True)
            ]
        return self._drawn(pictures, options or DrawOptions(), batch_size, on_step, on_tokens)

    def begin(self, num_images: int, tokens: ImageTokens | None = None) -> ImageTokens:
        """Return what `resume` starts pictures from.

        Args:
            num_images: how many.
            tokens: of as many pictures, of one that all start from, or None, where all is to be drawn. More
                than one are themselves enough where one picture is asked for.

        Raises:
            SamplingError: the number is below 1. ImageError: it is not that of the tokens.
        """
        check_whole("num_images", num_images, 1, MOST_PICTURES)
        if tokens is None:
            return ImageTokens.undrawn(num_images, self.config.grid_side, self.codebook)
        if not isinstance(tokens, ImageTokens):
            raise ImageError(f"{shown(tokens)} are no image tokens. Connect those of a Janus node.")
        count = how_many(len(tokens), num_images)
        return replace(tokens, grid=tokens.grid.expand(count, -1, -1).clone())

    def _drawn(
        self,
        pictures: Sequence[DrawPlan],
        options: DrawOptions,
        batch_size: int,
        on_step: OnStep | None,
        on_tokens: OnTokens | None,
    ) -> Drawn:
        """Draw pictures, all of them or the best, and decode them."""
        easel = self._easel(pictures, options, batch_size)
        scores: list[float] = []
        if easel.options.keep_best:
            chosen = Contest(easel, pictures).run(on_step, on_tokens)
            pictures = [pictures[place] for place in chosen.places]
            drawn, scores = chosen.tokens, chosen.scores
        else:
            drawn = easel.draw(pictures, on_step, on_tokens)
        tokens = self._tokens_of(drawn)
        images = in_chunks(self._to_images, tokens.grid, min(batch_size, VQ_TOGETHER), None)
        require_numbers(images, self.vq_dtype)
        seeds = tuple(plan.seed % 2**64 for plan in pictures)
        return Drawn(images=images, tokens=tokens, seeds=seeds, scores=tuple(scores))

    def _easel(
        self, pictures: Sequence[DrawPlan], options: DrawOptions, batch_size: int, candidates: int = 1
    ) -> Easel:
        """Have the weights in place for drawing such pictures; decoding may follow."""
        longest = max(max(len(plan.cond), len(plan.uncond)) for plan in pictures)
        together = min(batch_size, len(pictures)) * candidates
        halved = -(-together // 2) if options.keep_best else 0
        need = draw_bytes(self.config, together, longest, self.compute.dtype, going_on=halved)
        compute = self.ready("draw", "decode", memory_required=need)
        pack_for_drawing(self.model.language)
        # What min_p takes away is too unlikely for a single draw; of several the kept cells choose.
        guidance = self.guidance if candidates == 1 else replace(self.guidance, min_p=0.0)
        return Easel(
            language=self.model.language,
            options=options.decided(guidance),
            side=self.config.grid_side,
            pad=self.tokenizer.special.pad,
            compute=compute,
            batch_size=batch_size,
        )

    def _tokens_of(self, drawn: Tensor) -> ImageTokens:
        """Return image tokens (b, n) as a value of this model."""
        grid = rearrange(drawn, "b (h w) -> b h w", h=self.config.grid_side)
        with torch.inference_mode(False):  # a grid that its owner may change
            return ImageTokens(grid=grid.clone(), codebook=self.codebook, model=self.name)

    @torch.inference_mode()
    def encode(
        self,
        images: Picture | Sequence[Picture],
        fit: Fit = "crop",
        *,
        batch_size: int = VQ_TOGETHER,
        on_step: OnStep | None = None,
    ) -> ImageTokens:
        """Turn pictures into image tokens.

        Args:
            images: one picture or several; those of another size than the model's are fitted.
            fit: crop the middle, pad with grey, or stretch.
            batch_size: pictures encoded together, at least 1.
            on_step: called with (pictures done, pictures).

        Raises:
            ImageError: there is no picture, or one cannot be read. SamplingError: a picture's features are no
                numbers; `rows` tells which.
        """
        pixels = to_vq_inputs(images, self.config.vision.image_size, fit)
        self.ready("encode", memory_required=decode_bytes(self.config, min(batch_size, len(pixels))))

        def encode(chunk: Tensor) -> Tensor:
            # Reduced precision moves features across the border between two codes; pixels it moves invisibly.
            with full_precision_convolutions():
                return self._to_tokens(chunk)

        grid = in_chunks(encode, pixels, batch_size, on_step)
        require_numbers(torch.where(grid == _NO_TOKEN, torch.nan, 0.0), self.vq_dtype)
        return ImageTokens(grid=grid, codebook=self.codebook, model=self.name)

    def _to_tokens(self, pixels: Tensor) -> Tensor:
        """Return image tokens (b, h, w) of pixel values (b, 3, H, W), the weights being in place.

        Where features are no finite numbers there is no token: no code is nearest to them.
        """
        # channels last: convolutions take it as it is, and it saves a sixth of their time on a CPU
        pixels = pixels.to(self.compute.device, self.vq_dtype, memory_format=torch.channels_last)
        latents = self.model.vq_tokenizer.latents(pixels)
        is_finite = latents.isfinite().flatten(1).all(dim=1)  # (b,), without waiting for the device
        tokens = self.model.vq_tokenizer.nearest(latents)
        return tokens.masked_fill(~is_finite[:, None, None], _NO_TOKEN)

    @torch.inference_mode()
    def decode(
        self, tokens: ImageTokens, *, batch_size: int = VQ_TOGETHER, on_step: OnStep | None = None
    ) -> Tensor:
        """Turn image tokens into pictures (b, h, w, 3) float32 in 0..1 on the CPU.

        Args:
            tokens: of this model's codebook.
            batch_size: pictures decoded together, at least 1.
            on_step: called with (pictures done, pictures).

        Raises:
            ImageError: the tokens belong to another codebook, have another grid, or are damaged.
            SamplingError: a picture's pixels are no numbers; `rows` tells which.
        """
        tokens.check_decodable(self.codebook, self.config.vq.codebook_size, self.config.grid_side)
        self.ready("decode", memory_required=decode_bytes(self.config, min(batch_size, len(tokens))))
        images = in_chunks(self._to_images, tokens.grid, batch_size, on_step)
        require_numbers(images, self.vq_dtype)
        return images

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


def how_many(sources: int, num_images: int) -> int:
    """Return how many pictures come out: several of one source, or one of each."""
    if 1 not in (sources, num_images) and sources != num_images:
        raise ImageError(
            f"There are {sources} pictures to start from, but {num_images} are to come out. Ask for as "
            "many, or for one of each, or give a single picture."
        )
    return max(sources, num_images)
