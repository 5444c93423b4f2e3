"""What both kinds of Janus do alike: ask, caption, chat, choose, score, each a few lines over other rooms.

How pictures are drawn is with each kind. Every public method runs under `torch.inference_mode()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .generation.answering import Answer, Prompts, generate_text
from .generation.batches import batched, numbered_from, shifted
from .generation.choosing import Choice, checked_choices, choose_texts, tree_of_choices
from .generation.scoring import SCORE_QUESTION, SCORE_TOKENS, Score, read_scores, score_question, verdict_tree
from .generation.spelling import SpellingTree
from .inputs.pictures import Picture, as_several
from .inputs.prompting import SYSTEM_TEXT, caption_request
from .inputs.turns import Turn
from .options import Compute, OnStep, OnText, TextOptions, check_count, check_range, whole_seed
from .residency.loaded import LoadedModel
from .residency.memory import answer_bytes, spell_bytes
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

    @torch.inference_mode()
    def choose(
        self,
        images: Picture | Sequence[Picture],
        question: str,
        choices: Sequence[str],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 8,
        on_step: OnStep | None = None,
    ) -> list[Choice]:
        """Answer a question about each picture with one of some texts.

        Args:
            images: the pictures.
            question: asked about each of them.
            choices: the answers allowed, at least two; blanks around them do not count.
            temperature: 0 … 2; 0 takes the most probable one, above one is drawn.
            seed: picture i uses seed + i.
            batch_size: pictures looked at together, at least 1.
            on_step: called with (pictures finished, pictures).

        Returns: one for each picture: the text, its place, and the probability of every choice.

        Raises:
            PromptError: the question or a choice is empty, a choice comes twice, or all that is too long.
            ImageError: a picture cannot be read. SamplingError: an option is out of its range, or the scores
                of a picture are no numbers; `rows` tells which.
        """
        check_count("batch_size", batch_size)
        check_range("temperature", temperature, 0, 2)
        seed, texts = whole_seed(seed), checked_choices(choices)
        tree, pictures, found = tree_of_choices(texts, self.tokenizer), as_several(images), list[Choice]()
        for batch in batched(pictures, batch_size):
            prompts, compute = self._asked_about_each(batch, question, tree, new_tokens=0)
            with numbered_from(len(found), compute.dtype):
                found += choose_texts(
                    self.model.language,
                    prompts,
                    texts,
                    self.tokenizer,
                    temperature=temperature,
                    seed=seed + len(found),
                    compute=compute,
                )
            if on_step is not None:
                on_step(len(found), len(pictures))
        return found

    @torch.inference_mode()
    def score(
        self,
        images: Picture | Sequence[Picture],
        prompt: str,
        *,
        question: str = SCORE_QUESTION,
        batch_size: int = 8,
        on_step: OnStep | None = None,
    ) -> list[Score]:
        """Tell how probable it is that each picture shows something; `best_first` puts them in order.

        Args:
            images: the pictures.
            prompt: what they should show.
            question: to be answered with yes or no; `{prompt}` marks the prompt's place.
            batch_size: pictures looked at together, at least 1.
            on_step: called with (pictures finished, pictures), also between two tokens.

        Returns: one for each picture, in their order.

        Raises:
            PromptError: the prompt or the question is empty, do not fit together, or are too long.
            ImageError: a picture cannot be read. SamplingError: batch_size below 1, or the scores of a
                picture are no numbers; `rows` tells which.
        """
        check_count("batch_size", batch_size)
        asked, tree = score_question(prompt, question), verdict_tree(self.tokenizer)
        pictures, found = as_several(images), list[Score]()

        def on_token() -> None:
            if on_step is not None:
                on_step(len(found), len(pictures))

        for batch in batched(pictures, batch_size):
            prompts, compute = self._asked_about_each(batch, asked, tree, new_tokens=SCORE_TOKENS)
            with numbered_from(len(found), compute.dtype):
                found += read_scores(
                    self.model.language, prompts, self.tokenizer, compute=compute, on_token=on_token
                )
            on_token()
        return found

    def _asked_about_each(
        self, pictures: Sequence[Picture], question: str, tree: SpellingTree, new_tokens: int
    ) -> tuple[Prompts, Compute]:
        """Ask about each picture, with weights in place to read a tree behind `new_tokens` of the answers."""
        plans = [
            self.plan_conversation((Turn(role="user", text=question, images=(picture,)),))
            for picture in pictures
        ]
        need = spell_bytes(
            self.config,
            len(plans),
            max(len(plan) for plan in plans),
            len(tree.tokens),
            new_tokens,
            self.compute.dtype,
        )
        compute = self.ready("see", "answer", memory_required=need)
        pack_for_answering(self.model.language)
        return Prompts(plans=plans, image_embeddings=self._look_at(pictures)), compute
