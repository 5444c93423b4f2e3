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
from .inputs.pictures import Picture, as_several
from .inputs.preprocessing import Fit, to_vq_inputs
from .inputs.prompting import SYSTEM_TEXT, caption_instruction
from .inputs.turns import Turn
from .options import DrawOptions, OnStep, OnText, OnTokens, TextOptions, check_count, whole_seed
from .residency.loaded import LoadedModel
from .residency.memory import answer_bytes, decode_bytes, draw_bytes
from .residency.packing import pack_for_answering, pack_for_drawing
from .residency.parts import Task

_VQ_TOGETHER = 4  # pictures through the VQ tokenizer at once: its feature maps are the largest of all


@dataclass(frozen=True, kw_only=True, eq=False)
class Janus(LoadedModel):
    """A loaded model with everything needed to use it; its attributes are those of `LoadedModel`."""

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
        options = options or TextOptions()
        plans = [self.plan_conversation(turns, system) for turns in conversations]
        pictures = [image for turns in conversations for turn in turns for image in turn.images]
        longest = max(len(plan) for plan in plans)
        need = answer_bytes(self.config, len(plans), longest, options.max_new_tokens, self.compute.dtype)
        tasks: tuple[Task, ...] = ("see", "answer") if pictures else ("answer",)
        compute = self.ready(*tasks, memory_required=need)
        pack_for_answering(self.model.language)
        return generate_text(
            self.model.language,
            Prompts(plans=plans, image_embeddings=self._look_at(pictures) if pictures else None),
            self.tokenizer,
            options,
            seed=whole_seed(seed),
            compute=compute,
            on_text=on_text,
            on_step=on_step,
        )

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
