"""`Janus`, the object that users hold: it converses, draws, redraws, encodes and decodes.

Here stands what it does under a mask; the rest it has from `painting` and `conversing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .errors import ImageError
from .generation.candidates import draw_candidates
from .generation.canvas import Pull, RedrawOptions, Source
from .generation.plans import DrawPlan, plan_pictures
from .inputs.image_tokens import Drawn, ImageTokens
from .inputs.masks import Mask, fit_masks, paste, read_masks, redrawn_cells, shares
from .inputs.pictures import Picture, as_several, read_picture
from .inputs.preprocessing import fitted_samples
from .options import OnStep, OnTokens, check_count, whole_seed
from .painting import Painting, how_many
from .residency.memory import VQ_TOGETHER, decode_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    """What is redrawn, one row for each picture that comes out.

    Attributes:
        tokens: the source's.
        originals: (b, h, w, 3) float32 in 0..1, what the mask lies over.
        masks: (b, h, w) float32 in 0..1.
    """

    tokens: ImageTokens
    originals: Tensor
    masks: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Janus(Painting):
    """A loaded autoregressive model, ready to be used; its attributes are those of `Painting`."""

    @torch.inference_mode()
    def redraw(
        self,
        source: Picture | Sequence[Picture] | ImageTokens,
        mask: Mask,
        prompt: str,
        *,
        seed: int = 0,
        options: RedrawOptions | None = None,
        batch_size: int = 4,
        on_step: OnStep | None = None,
        on_tokens: OnTokens | None = None,
    ) -> Drawn:
        """Draw the masked cells of pictures anew.

        A cell is redrawn when the mask's largest value in it exceeds 0.5; every other cell keeps its token.

        Args:
            source: pictures, or image tokens of this model.
            mask: (h, w) or one for each picture, (b, h, w), in 0..1, 1 where to redraw. One of another size
                than its picture is stretched over it.
            prompt: what to draw.
            seed: picture i uses seed + i.
            options: how far from the source, how many, and how to draw.
            batch_size: pictures drawn together, each with all its candidates.
            on_step: called with (image tokens done, image tokens of all batches).
            on_tokens: called with the tokens so far of the batch being drawn.

        Returns: the new pictures. With a mask of zeros and `keep_original` they are the fitted ones, bit for
            bit.

        Raises:
            ImageError: a picture, mask or token grid cannot be used, or their numbers do not match.
            PromptError: the prompt exceeds the context. SamplingError: as `draw`.
        """
        check_count("batch_size", batch_size)
        options, seed = options or RedrawOptions(), whole_seed(seed)
        scene = self._scene(source, mask, options, batch_size)
        side, count = self.config.grid_side, len(scene.tokens)
        cells = redrawn_cells(scene.masks, side)  # (b, n)
        pictures = plan_pictures(
            [prompt],
            options.negative_prompt,
            range(seed, seed + count),
            self.tokenizer,
            old_roles=self.config.old_roles,
        )
        tokens = scene.tokens
        if options.strength > 0 and bool(cells.any()):
            started = self._started(pictures, tokens.grid.flatten(1), cells, options.strength)
            # with nothing kept behind them all fills are equally good, and the first is the draw itself
            can_choose = any(plan.source is not None and plan.source.is_kept_behind for plan in started)
            fills = options.candidates if can_choose else 1
            easel = self._easel(started, options.drawing, batch_size, fills)
            if fills == 1:
                drawn = easel.draw(started, on_step, on_tokens)
            else:
                drawn = draw_candidates(easel, started, fills, on_step, on_tokens)
            tokens = self._tokens_of(drawn)
        share = shares(scene.masks, cells, side) if options.keep_original else torch.ones(count, 1, 1, 1)
        if bool(share.any()):
            images = paste(scene.originals, self.decode(tokens, batch_size=VQ_TOGETHER), share)
        else:
            images = scene.originals
        with torch.inference_mode(False):  # what comes out belongs to its owner, who may change it
            images, tokens = images.clone(), replace(tokens, grid=tokens.grid.clone())
        return Drawn(images=images, tokens=tokens, seeds=tuple(plan.seed % 2**64 for plan in pictures))

    def _started(
        self, pictures: Sequence[DrawPlan], tokens: Tensor, cells: Tensor, strength: float
    ) -> list[DrawPlan]:
        """Return plans that start from tokens (b, n) and draw the given cells (b, n) of them."""
        pull = None
        if strength < 1:
            need = decode_bytes(self.config, 1)
            compute = self.ready("draw", "decode", memory_required=need)
            every = torch.arange(self.config.vq.codebook_size, device=compute.device)
            pull = Pull.of(strength, self.model.vq_tokenizer.codes(every))
        return [
            replace(plan, source=Source(tokens=row, is_drawn=drawn, pull=pull))
            for plan, row, drawn in zip(pictures, tokens, cells, strict=True)
        ]

    def _scene(
        self,
        source: Picture | Sequence[Picture] | ImageTokens,
        mask: Mask,
        options: RedrawOptions,
        batch_size: int,
    ) -> _Scene:
        """Bring source and mask to the model's size, one row for each picture to come."""
        size, together = self.config.vision.image_size, min(batch_size, VQ_TOGETHER)
        masks = read_masks(mask)
        if isinstance(source, ImageTokens):
            tokens, originals = source, self.decode(source, batch_size=together)
            sizes = [(size, size)] * len(source)
        else:
            # a path is read once; a tensor stays one, so that its pixels come back as they are
            several = [
                picture if isinstance(picture, (Tensor, np.ndarray)) else read_picture(picture)
                for picture in as_several(source)
            ]
            tokens = self.encode(several, options.fit, batch_size=together)
            samples = [fitted_samples(picture, size, options.fit) for picture in several]
            originals = torch.from_numpy(np.stack(samples))
            sizes = [_size_of(picture) for picture in several]
        count = how_many(len(sizes), options.num_images)
        rows = _rows("picture", len(sizes), count)
        fitted = fit_masks(
            [masks[row] for row in _rows("mask", len(masks), count)],
            [sizes[row] for row in rows],
            size,
            options.fit,
        )
        return _Scene(tokens=replace(tokens, grid=tokens.grid[rows]), originals=originals[rows], masks=fitted)


def _size_of(picture: Picture) -> tuple[int, int]:
    """Return (width, height) of a picture that was read."""
    if isinstance(picture, (Tensor, np.ndarray)):
        return int(picture.shape[1]), int(picture.shape[0])
    return read_picture(picture).size


def _rows(name: str, given: int, wanted: int) -> list[int]:
    """Return which of the given ones each row takes: its own, or the only one."""
    if given not in (1, wanted):
        raise ImageError(
            f"There are {given} {name}s for {wanted} pictures. Give one {name} for all, or one for each."
        )
    return [0] * wanted if given == 1 else list(range(wanted))
