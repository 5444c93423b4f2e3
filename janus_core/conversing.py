"""What both kinds of Janus do alike: ask, caption, chat, each a few lines over other rooms.

How pictures are drawn is with each kind. Every public method runs under `torch.inference_mode()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .generation.answering import Answer, Prompts, generate_text
from .generation.batches import batched, numbered_from, shifted
from .inputs.pictures import Picture, as_several
from .inputs.prompting import SYSTEM_TEXT, caption_request
from .inputs.turns import Turn
from .options import OnStep, OnText, TextOptions, check_count, whole_seed
from .residency.loaded import LoadedModel
from .residency.memory import answer_bytes
from .residency.packing import pack_for_answering
from .residency.parts import Task

OnAnswer = Callable[[int, Answer], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Conversing(LoadedModel):
    """A loaded model that answers; its attributes are those of `LoadedModel`."""

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
            question: `<image_placeholder>` marks where a picture belongs; without it all come first.
            images: PIL pictures, paths, or (h, w, 3) floats in 0..1; one alone need not be in a list.
            system: text before the conversation.
            options: default greedy, at most 512 tokens.
            seed: of the noise at a temperature above 0.
            on_text: called with the answer as it grows.

        Raises:
            PromptError: the question is empty, too long, or has more or fewer marks than pictures.
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
            images: the pictures; text i uses the noise of seed + i.
            style: a key of `CAPTION_STYLES`.
            question: asked instead of the style's instruction.
            batch_size: pictures captioned together.
            options: how tokens are chosen and when to stop.
            seed: of the first text.
            on_text: called with (picture, text so far).
            on_step: called with (pictures finished, pictures).

        Raises:
            PromptError: unknown style. ImageError: a picture cannot be read. SamplingError: the scores of a
                text are no numbers; `rows` tells which.
        """
        asked = caption_request(style) if question is None else question
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
        on_answer: OnAnswer | None = None,
    ) -> list[str]:
        """Answer any number of conversations, `batch_size` together, and return the texts.

        Args:
            conversations: each ends with a user's turn; text i uses the noise of seed + i.
            batch_size: conversations answered together, at least 1.
            system: text before each conversation.
            options: how tokens are chosen and when to stop.
            seed: of the first text.
            on_text: receives (conversation, text so far).
            on_step: receives (conversations finished, conversations).
            on_answer: receives (conversation, answer), with more than its text.

        Raises:
            SamplingError: batch_size below 1, or the scores of a text are no numbers; `rows` tells which.
        """
        check_count("batch_size", batch_size)
        seed, texts = whole_seed(seed), list[str]()
        for batch in batched(conversations, batch_size):
            with numbered_from(len(texts), self.compute.dtype):
                answers = self.answer(
                    batch,
                    system=system,
                    options=options,
                    seed=seed + len(texts),
                    on_text=shifted(on_text, len(texts)),
                )
            if on_answer is not None:
                for row, answer in enumerate(answers, start=len(texts)):
                    on_answer(row, answer)
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
            conversations: each ends with a user's turn; row i uses the noise of seed + i.
            system: text before each conversation.
            options: how tokens are chosen and when to stop.
            seed: of the first row.
            on_text: called with (row, text so far).
            on_step: called with (tokens done, tokens at most).
        """
        if not conversations:
            return []
        options = options or TextOptions()
        plans = [self.plan_conversation(turns, system) for turns in conversations]
        pictures = [image for turns in conversations for turn in turns for image in turn.images]
        longest = max(len(plan) for plan in plans)
        need = answer_bytes(
            self.config,
            len(plans),
            longest,
            options.max_new_tokens,
            self.compute.dtype,
            is_sampled=options.temperature > 0,
        )
        # both tasks at once: asked one after the other, a host might evict the first for the second
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
