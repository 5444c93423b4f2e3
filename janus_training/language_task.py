"""Stages "language", I, II and III: the decoder learns to read, to answer about pictures and to draw.

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

from .recipe import StageRecipe
from .shared_start import hidden_states, shared_tokens

_IGNORED = -100
_LONGEST_IN_BUCKET = 1.25  # times its shortest


@dataclass(frozen=True, kw_only=True)
class TextSample:
    """A token sequence with what is to be learnt of it.

    Attributes:
        plan: all tokens, pictures expanded.
        is_learnt: for each token, True where the model is to predict it.
        pixel_values: (n, 3, h, w) of its pictures, or None.
    """

    plan: PromptPlan
    is_learnt: tuple[bool, ...]
    pixel_values: Tensor | None


@dataclass(frozen=True, kw_only=True)
class DrawSample:
    """A drawing prompt, possibly dropped, and the picture (3, h, w) in −1..1 to draw."""

    plan: PromptPlan
    pixel_values: Tensor


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One micro-batch: samples of each kind; any may be empty."""

    understanding: Sequence[TextSample]
    text: Sequence[TextSample]
    generation: Sequence[DrawSample]


class LanguageTask:
    """Learning from a mixture of understanding, text and generation."""

    def __init__(
        self,
        model: JanusModel,
        stage: StageRecipe,
        mixtures: Callable[[int], Mixture],
        pad: int,
        tokens_of: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Keep what to train.

        Args:
            model: on the device to train on.
            stage: which parts learn.
            mixtures: sample number to micro-batch.
            pad: id that fills shorter rows.
            tokens_of: pixel values (b, 3, h, w) in −1..1 to the image tokens (b, h', w') to draw; None
                leaves it to the VQ tokenizer.
        """
        self._tokens_of = tokens_of or model.vq_tokenizer.encode
        self.model, self.stage, self.mixtures, self.pad = model, stage, mixtures, pad

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what learns in this stage."""
        seeing, language = self.model.seeing, self.model.language
        aligners = [seeing.understanding_aligner, language.generation_aligner, language.image_token_embedding]
        parts: dict[str, list[nn.Module]] = {
            "language": [language.language_model],
            "I": [*aligners, language.generation_head],
            "II": [seeing.understanding_aligner, language],
            "III": [seeing, language],
        }
        return [parameter for part in parts[self.stage.stage] for parameter in part.parameters()]

    @torch.no_grad()
    def begin(self) -> None:
        """Begin stage I with image tokens that lie as their codes do, so that similar ones are near."""
        if self.stage.stage == "I":
            table = self.model.language.image_token_embedding.weight
            table.copy_(self.model.vq_tokenizer.codes(torch.arange(len(table), device=table.device)))

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return the mean cross-entropy of each kind, weighted by its share of the mixture."""
        mixture = self.mixtures(sample)
        shares = self.stage.mix if sum(self.stage.mix) else (0.0, 1.0, 0.0)
        losses: dict[str, Tensor] = {}
        if mixture.understanding:
            losses["understanding"] = self._text_loss(mixture.understanding) * (shares[0] / sum(shares))
        if mixture.text:
            losses["text"] = self._text_loss(mixture.text) * (shares[1] / sum(shares))
        if mixture.generation:
            losses["generation"] = self._draw_loss(mixture.generation) * (shares[2] / sum(shares))
        return losses

    def _text_loss(self, samples: Sequence[TextSample]) -> Tensor:
        """Return the mean cross-entropy of all tokens to be learnt, computed in buckets of like lengths."""
        learnt = sum(sum(sample.is_learnt[1:]) for sample in samples)
        sums = [self._bucket_loss(bucket) for bucket in in_buckets(samples)]
        return torch.stack(sums).sum() / learnt

    def _bucket_loss(self, samples: Sequence[TextSample]) -> Tensor:
        """Return the summed cross-entropy of one bucket; shorter rows are padded on the right."""
        language, device = self.model.language, self._device()
        length = max(len(sample.plan) for sample in samples)
        token_ids = torch.full((len(samples), length), self.pad)
        is_image = torch.zeros(len(samples), length, dtype=torch.bool)
        targets = torch.full((len(samples), length), _IGNORED)
        for row, sample in enumerate(samples):
            ids = torch.tensor(sample.plan.token_ids)
            token_ids[row, : len(ids)] = ids
            is_image[row, : len(ids)] = torch.tensor(sample.plan.is_image)
            targets[row, : len(ids)] = ids.masked_fill(~torch.tensor(sample.is_learnt), _IGNORED)
        pixels = [sample.pixel_values for sample in samples if sample.pixel_values is not None]
        seen = self._see(torch.cat(pixels).to(device)) if pixels else None
        embeddings = language.embed_prompt(token_ids.to(device), is_image.to(device), seen, torch.float32)
        shared = shared_tokens(token_ids, is_image)
        hidden = hidden_states(language.language_model, embeddings, shared)[:, :-1]
        learnt = targets[:, 1:].to(device)
        kept = learnt != _IGNORED  # the text head meets only what is learnt
        logits = language.language_model.lm_head(hidden[kept]).float()
        return F.cross_entropy(logits, learnt[kept], reduction="sum")

    def _see(self, pixel_values: Tensor) -> Tensor:
        """Return image embeddings; where the vision tower does not learn, no gradient is kept."""
        seeing, learns = self.model.seeing, self.stage.stage == "III"
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            features = seeing.vision_tower(pixel_values)
        return seeing.understanding_aligner(features)  # type: ignore[no-any-return]

    def _draw_loss(self, samples: Sequence[DrawSample]) -> Tensor:
        language, device = self.model.language, self._device()
        pixels = torch.stack([sample.pixel_values for sample in samples]).to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):  # codes are compared in float32
            tokens = self._tokens_of(pixels).flatten(1)
        prompts = pad_left([sample.plan for sample in samples], self.pad, device)
        words = language.embed_prompt(prompts.token_ids, prompts.is_image, None, torch.float32)
        drawn = language.embed_image_tokens(tokens[:, :-1], torch.float32)
        steps = torch.arange(1, tokens.shape[1], device=device)
        positions = torch.cat((prompts.positions, prompts.positions[:, -1:] + steps), dim=1)
        attended = prompts.attended
        if attended is not None:
            attended = torch.cat((attended, attended.new_ones(drawn.shape[:2])), dim=1)
        hidden = language.language_model(torch.cat((words, drawn), dim=1), positions, attended=attended)
        logits = language.generation_head(hidden[:, words.shape[1] - 1 :]).float()
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def in_buckets(samples: Sequence[TextSample]) -> list[list[TextSample]]:
    """Sort samples by length into buckets whose longest is at most a quarter longer than their shortest."""
    buckets: list[list[TextSample]] = []
    for sample in sorted(samples, key=lambda sample: len(sample.plan)):
        if buckets and len(sample.plan) <= _LONGEST_IN_BUCKET * len(buckets[-1][0].plan):
            buckets[-1].append(sample)
        else:
            buckets.append([sample])
    return buckets
