"""Janus, what a person holds: ask, caption, chat, draw, encode, decode, each a few lines over other rooms.

Every public method runs under `torch.inference_mode()`. Devices and dtypes are decided once, on loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from .generation.answering import Answer, Prompts, generate_text
from .generation.batches import batched, in_chunks, shifted, within
from .generation.drawing import generate_image_tokens, plan_pictures
from .inputs.image_tokens import Drawn, ImageTokens
from .inputs.pictures import Picture, as_several, read_picture
from .inputs.preprocessing import Fit, to_images, to_pixel_values, to_vq_inputs
from .inputs.prompting import SYSTEM_TEXT, PromptPlan, TurnText, caption_instruction, plan_conversation
from .inputs.text_tokenizer import TextTokenizer
from .inputs.turns import Turn
from .model.config import JanusConfig
from .model.model import JanusModel
from .options import (
    CFG_WEIGHT,
    Compute,
    DrawOptions,
    OnStep,
    OnText,
    OnTokens,
    TextOptions,
    check_count,
    whole_seed,
)
from .residency.packing import pack_for_answering, pack_for_drawing
from .residency.placement import Placement, Task

_VQ_TOGETHER = 4  # pictures through the VQ tokenizer at once: its feature maps are the largest of all


@dataclass(frozen=True, kw_only=True, eq=False)
class Janus:
    """A loaded model with everything needed to use it.

    Attributes:
        model: weights on `device`, or wherever a host's layers keep them.
        tokenizer: the text tokenizer.
        codebook: identity of the VQ codebook.
        compute: where everything is computed, and the dtype of seeing and language.
        vq_dtype: of the VQ tokenizer.
        placement: brings parts to the device when a task needs them; None where all are in place.
        cfg_weight: the guidance that the model's makers recommend; drawings take it where none is asked for.
    """

    model: JanusModel
    tokenizer: TextTokenizer
    codebook: str
    compute: Compute
    vq_dtype: torch.dtype
    placement: Placement | None = None
    cfg_weight: float = CFG_WEIGHT

    def _bring(self, task: Task) -> None:
        """Have a task's weights in place."""
        if self.placement is not None:
            self.placement.bring(task)

    @property
    def config(self) -> JanusConfig:
        """The architecture."""
        return self.model.config

    def ask(
        self,
        question: str,
        images: Picture | Sequence[Picture] = (),
        *,
        system: str = SYSTEM_TEXT,
        options: TextOptions | None = None,
        seed: int = 0,
        on_text: OnText | None = None,
    ) -> str:
        """Answer one question about any number of pictures.

        Args:
            question: may place its pictures by `<image_placeholder>`.
            images: PIL pictures, paths, or (h, w, 3) floats in 0..1; one alone need not be in a list.
            system: text before the conversation.
            options: how to write; default greedy, at most 512 tokens.
            seed: of the noise at a temperature above 0.
            on_text: receives the answer as it grows.

        Raises:
            PromptError: empty question, marks that do not fit the pictures, or too long.
            ImageError: a picture cannot be read.
        """
        turns = (Turn(role="user", text=question, images=as_several(images)),)
        return self.answer([turns], system=system, options=options, seed=seed, on_text=on_text)[0].text

    def chat(
        self,
        turns: Sequence[Turn],
        *,
        system: str = SYSTEM_TEXT,
        options: TextOptions | None = None,
        seed: int = 0,
        on_text: OnText | None = None,
    ) -> tuple[Turn, ...]:
        """Answer the last turn of a conversation and return the conversation with the answer appended."""
        [answer] = self.answer([turns], system=system, options=options, seed=seed, on_text=on_text)
        return (*turns, Turn(role="assistant", text=answer.text))

    def caption(
        self,
        images: Picture | Sequence[Picture],
        style: str = "detailed",
        *,
        question: str | None = None,
        batch_size: int = 8,
        options: TextOptions | None = None,
        seed: int = 0,
        on_text: OnText | None = None,
        on_step: OnStep | None = None,
    ) -> list[str]:
        """Describe pictures, one text each.

        Args:
            images: the pictures; text i draws its noise from seed + i.
            style: a key of `CAPTION_STYLES`.
            question: asked instead of the style's instruction.
            batch_size: pictures answered together.
            options: how to write.
            seed: of the first text.
            on_text: receives (picture, text so far).
            on_step: receives (pictures finished, pictures).

        Raises:
            PromptError: unknown style. ImageError: a picture cannot be read.
        """
        asked = caption_instruction(style) if question is None else question
        return self.answer_in_batches(
            [(Turn(role="user", text=asked, images=(image,)),) for image in as_several(images)],
            batch_size=batch_size,
            options=options,
            seed=seed,
            on_text=on_text,
            on_step=on_step,
        )

    def answer_in_batches(
        self,
        conversations: Sequence[Sequence[Turn]],
        *,
        batch_size: int = 8,
        system: str = SYSTEM_TEXT,
        options: TextOptions | None = None,
        seed: int = 0,
        on_text: OnText | None = None,
        on_step: OnStep | None = None,
    ) -> list[str]:
        """Answer any number of conversations, `batch_size` together, and return the texts.

        Args:
            conversations: each ends with a user's turn; text i draws its noise from seed + i.
            batch_size: conversations answered together, at least 1.
            system: text before each conversation.
            options: how to write.
            seed: of the first text.
            on_text: receives (conversation, text so far).
            on_step: receives (conversations finished, conversations).

        Raises:
            SamplingError: batch_size below 1.
        """
        check_count("batch_size", batch_size)
        seed, texts = whole_seed(seed), list[str]()
        for batch in batched(conversations, batch_size):
            answers = self.answer(
                batch,
                system=system,
                options=options,
                seed=seed + len(texts),
                on_text=shifted(on_text, len(texts)),
            )
            texts += [answer.text for answer in answers]
            if on_step is not None:
                on_step(len(texts), len(conversations))
        return texts

    @torch.inference_mode()
    def answer(
        self,
        conversations: Sequence[Sequence[Turn]],
        *,
        system: str = SYSTEM_TEXT,
        options: TextOptions | None = None,
        seed: int = 0,
        on_text: OnText | None = None,
        on_step: OnStep | None = None,
    ) -> list[Answer]:
        """Answer a batch of conversations together; the general form of ask, chat and caption.

        Args:
            conversations: each ends with a user's turn; row i draws its noise from seed + i.
            system: text before each conversation.
            options: how to write.
            seed: of the first row.
            on_text: receives (row, text so far).
            on_step: receives (tokens done, tokens at most).
        """
        if not conversations:
            return []
        self._bring("answer")
        pack_for_answering(self.model.language)
        plans = [self.plan_conversation(turns, system) for turns in conversations]
        pictures = [image for turns in conversations for turn in turns for image in turn.images]
        return generate_text(
            self.model.language,
            Prompts(plans=plans, image_embeddings=self.see(pictures) if pictures else None),
            self.tokenizer,
            options or TextOptions(),
            seed=whole_seed(seed),
            compute=self.compute,
            on_text=on_text,
            on_step=on_step,
        )

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
        self._bring("see")
        rows = [to_pixel_values(read_picture(image), self.config.preprocess) for image in images]
        return self.model.seeing(torch.stack(rows).to(self.compute.device, self.compute.dtype))

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
        options = (options or DrawOptions()).guided(self.cfg_weight)
        self._bring("draw")
        pack_for_drawing(self.model.language)
        cells, batches = self.config.num_image_tokens, batched(pictures, batch_size)
        drawn = [
            generate_image_tokens(
                self.model.language,
                batch,
                options,
                num_image_tokens=cells,
                pad=self.tokenizer.special.pad,
                compute=self.compute,
                on_step=within(on_step, index * cells, len(batches) * cells),
                on_tokens=on_tokens,
            )
            for index, batch in enumerate(batches)
        ]
        grid = rearrange(torch.cat(drawn).cpu(), "b (h w) -> b h w", h=self.config.grid_side)
        with torch.inference_mode(False):  # a grid that its owner may change
            tokens = ImageTokens(grid=grid.clone(), codebook=self.codebook)
        images = self.decode(tokens, batch_size=min(batch_size, _VQ_TOGETHER))
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
        self._bring("encode")

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
        return in_chunks(lambda chunk: to_images(self.decode_pixels(chunk)), tokens.grid, batch_size, on_step)

    @torch.inference_mode()
    def decode_pixels(self, grid: Tensor) -> Tensor:
        """Return pixel values (b, 3, H, W), about −1..1 and not clamped, of image tokens (b, h, w) int64."""
        self._bring("decode")
        return self.model.vq_tokenizer.decode(grid.to(self.compute.device), self.vq_dtype)
