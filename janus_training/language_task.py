"""Stages "drawing", "questions" and "mix": the decoder learns to draw, to answer about pictures and to read.

Plain cross-entropy: on answers for understanding, on image tokens for generation, on everything for text.
Samples come ready from `samples.py`; this file knows losses and which parts learn in which stage.
Source: Janus, arXiv:2410.13848, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from janus_core.generation.prefill import pad_left
from janus_core.inputs.prompting import PromptPlan
from janus_core.model.model import JanusModel

from .conversations import Continuation, Lesson
from .recipe import StageRecipe
from .shared_start import Packed, pack, packed_states
from .vision_task import naming_loss

_NAMING = 0.3  # weight of naming patches, which keeps what they show where the decoder reads it


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Pictures with the questions asked about them, each a sequence of its own.

    Attributes:
        start: all tokens up to the end mark of the last picture.
        pixel_values: (n, 3, h, w) of the pictures.
        labels: (n, patches, 8), see `patch_labels`.
        asked: what follows the start, one for each question.
    """

    start: PromptPlan
    pixel_values: Tensor
    labels: Tensor
    asked: Sequence[Continuation]


@dataclass(frozen=True, kw_only=True)
class DrawSample:
    """A drawing prompt, possibly dropped, and the image tokens (h', w') int64 to draw."""

    plan: PromptPlan
    tokens: Tensor


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One micro-batch: samples of each kind; any may be empty."""

    understanding: Sequence[Shown]
    text: Sequence[Lesson]
    generation: Sequence[DrawSample]


class LanguageTask:
    """Learning from a mixture of understanding, text and generation."""

    def __init__(
        self,
        model: JanusModel,
        naming: nn.Linear,
        stage: StageRecipe,
        mixtures: Callable[[int], Mixture],
        pad: int,
    ) -> None:
        """Keep what to train.

        Args:
            model: on the device to train on.
            naming: see `VisionTask`.
            stage: which parts learn, and the shares of the mixture.
            mixtures: sample number to micro-batch.
            pad: id that fills shorter rows.
        """
        self.model = model
        self.naming = naming
        self.stage = stage
        self.mixtures = mixtures
        self.pad = pad

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what learns in this stage."""
        parts: list[nn.Module] = [self.model.language]
        if self.stage.mix[0] and not self.stage.keep_seeing:
            parts += [self.model.seeing, self.naming]
        return [parameter for part in parts for parameter in part.parameters()]

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return the mean cross-entropy of each kind, weighted by its share of the mixture."""
        mixture = self.mixtures(sample)
        shares = [share / sum(self.stage.mix) for share in self.stage.mix]
        losses: dict[str, Tensor] = {}
        if mixture.understanding:
            seen = self._seen(mixture.understanding)
            losses["understanding"] = shares[0] * self._answers_loss(mixture.understanding, seen)
            if not self.stage.keep_seeing:
                labels = torch.cat([one.labels for one in mixture.understanding]).to(seen.device)
                losses["naming"] = _NAMING * naming_loss(self.naming, seen, labels)
        if mixture.text:
            losses["text"] = shares[1] * self._reading_loss(mixture.text)
        if mixture.generation:
            losses["generation"] = shares[2] * self._draw_loss(mixture.generation)
        return losses

    def _seen(self, shown: Sequence[Shown]) -> Tensor:
        """Return what the decoder gets of all pictures: (pictures, n, d)."""
        pixels = torch.cat([one.pixel_values for one in shown]).to(self._device())
        seen: Tensor = self.model.seeing(pixels)
        return seen.detach() if self.stage.keep_seeing else seen

    def _answers_loss(self, shown: Sequence[Shown], seen: Tensor) -> Tensor:
        language, device = self.model.language, self._device()
        packed = pack(
            [(one.start, one.asked) for one in shown], self.pad
        )  # a row a picture, its questions behind it
        is_image = packed.is_image.to(device)  # (b, t)
        embeddings = language.embed_prompt(
            packed.token_ids.to(device), is_image, seen, torch.float32
        )  # (b, t, d)
        shared = min(one.start.is_image.index(True) for one in shown)  # the system text
        return self._text_loss(packed, embeddings, shared)

    def _reading_loss(self, lessons: Sequence[Lesson]) -> Tensor:
        empty = PromptPlan(token_ids=(), is_image=(), num_images=0)
        texts = [
            Continuation(token_ids=lesson.plan.token_ids, is_learnt=lesson.is_learnt) for lesson in lessons
        ]
        packed = pack([(empty, [text]) for text in texts], self.pad)
        words = self.model.language.language_model.embed_words(
            packed.token_ids.to(self._device()), torch.float32
        )
        return self._text_loss(packed, words, 0)

    def _text_loss(self, packed: Packed, embeddings: Tensor, shared: int) -> Tensor:
        """Return the mean cross-entropy of all words to be learnt."""
        language_model = self.model.language.language_model
        hidden = packed_states(language_model, embeddings, packed, shared)[:, :-1]  # (b, t - shared - 1, d)
        is_learnt = packed.is_learnt[:, shared + 1 :].to(
            hidden.device
        )  # a position later: what each state predicts
        targets = packed.token_ids[:, shared + 1 :].to(hidden.device)[is_learnt]  # (learnt,)
        # the text head meets only what is learnt
        return F.cross_entropy(language_model.lm_head(hidden[is_learnt]).float(), targets)

    def _draw_loss(self, samples: Sequence[DrawSample]) -> Tensor:
        language, device = self.model.language, self._device()
        tokens = torch.stack([sample.tokens for sample in samples]).to(device).flatten(1)  # (b, n)
        prompts = pad_left([sample.plan for sample in samples], self.pad, device)
        words = language.embed_prompt(prompts.token_ids, prompts.is_image, None, torch.float32)  # (b, t, d)
        drawn = language.embed_image_tokens(
            tokens[:, :-1], torch.float32
        )  # (b, n - 1, d): nothing follows the last
        steps = torch.arange(1, tokens.shape[1], device=device)
        positions = torch.cat((prompts.positions, prompts.positions[:, -1:] + steps), dim=1)  # (b, t + n - 1)
        attended = prompts.attended
        if attended is not None:
            attended = torch.cat((attended, attended.new_ones(drawn.shape[:2])), dim=1)
        hidden = language.language_model(torch.cat((words, drawn), dim=1), positions, attended=attended)
        logits = language.generation_head(hidden[:, words.shape[1] - 1 :]).float()  # (b, n, v)
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
