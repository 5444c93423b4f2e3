"""Our side of the comparison, and what every contender can be asked for.

A contender draws tokens, answers about pictures, decodes and encodes; what it cannot do raises
NotImplementedError, and the rows leave it out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from janus_core import (
    VQ_TOGETHER,
    Compute,
    DrawOptions,
    Janus,
    JanusConfig,
    TextOptions,
    Turn,
    assemble,
    build_model,
)
from janus_core.checkpoints.load import Checkpoint
from janus_core.generation.drawing import generate_image_tokens
from janus_core.generation.plans import DrawPlan
from janus_core.inputs.image_tokens import codebook_identity
from janus_core.inputs.prompting import PromptPlan, plan_drawing, unconditional
from janus_core.inputs.text_tokenizer import TextTokenizer, read_tokenizer
from janus_core.options import OnStep, OnTokens
from janus_core.residency.packing import pack_for_drawing
from janus_core.residency.placement import Placement

from .weights import byte_tokenizer

PROMPT = "A red cube on a table."
QUESTION = "Describe the picture."
CFG_WEIGHT = 5.0


class Contender(Protocol):
    """What every row may ask of a contender."""

    def draw(self, steps: int, *, greedy: bool = False, pictures: int = 1, context: int = 0) -> Tensor:
        """Draw the first `steps` image tokens (pictures, steps), guided, after `context` tokens of prompt."""

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
        """Return greedy answers (b, tokens) to one question about each picture."""

    def decode(self, tokens: Tensor) -> Tensor:
        """Return pixel values (b, 3, h, w) of image tokens (b, h, w)."""

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return image tokens (b, h, w) of pixel values (b, 3, h, w)."""


def prompt_plan(tokenizer: TextTokenizer, context: int) -> PromptPlan:
    """Return the prompt, lengthened to `context` tokens: a character of this tokenizer is a token."""
    plan = plan_drawing(PROMPT, tokenizer)
    return plan_drawing(PROMPT + "." * (context - len(plan)), tokenizer)


def tokenizer_of_bytes() -> TextTokenizer:
    """Return the tokenizer of the random models."""
    with tempfile.TemporaryDirectory() as folder:
        byte_tokenizer().save(str(Path(folder) / "tokenizer.json"))
        return read_tokenizer(Path(folder))


class Ours:
    """This project, called through its public methods.

    `packs` False leaves the layers as they were loaded; `is_brought` True leaves weights on the CPU until a
    task needs them.
    """

    def __init__(
        self,
        config: JanusConfig,
        weights: dict[str, Tensor],
        dtype: torch.dtype,
        device: torch.device,
        *,
        packs: bool = True,
        is_brought: bool = False,
    ) -> None:
        checkpoint = Checkpoint(
            folder=Path("random"),
            layout="authors",
            config=config,
            tokenizer=tokenizer_of_bytes(),
            codebook=codebook_identity(weights["vq_tokenizer.codebook.weight"]),
            state_dict=weights,
        )
        self.janus: Janus = assemble(
            checkpoint,
            build_model(config),
            Compute(device=device, dtype=dtype, is_resident=True),
            weights_on=torch.device("cpu") if is_brought else device,
            weights_dtype=None if is_brought else dtype,
        )
        if is_brought:  # as `load_janus` does it
            owner = Placement(self.janus.model, self.janus.compute, self.janus.vq_dtype)
            self.janus = replace(self.janus, owner=owner)
        self.packs = packs

    def draw(
        self,
        steps: int,
        *,
        greedy: bool = False,
        pictures: int = 1,
        context: int = 0,
        on_step: OnStep | None = None,
        on_tokens: OnTokens | None = None,
    ) -> Tensor:
        """Draw the first `steps` image tokens (pictures, steps), guided, with callbacks if given."""
        janus = self.janus
        if self.packs:
            pack_for_drawing(janus.model.language)
        cond = prompt_plan(janus.tokenizer, context)
        uncond = unconditional(cond, janus.tokenizer)
        with torch.inference_mode():
            return generate_image_tokens(
                janus.model.language,
                [DrawPlan(cond=cond, uncond=uncond, seed=seed) for seed in range(pictures)],
                DrawOptions(cfg_weight=CFG_WEIGHT, temperature=0.0 if greedy else 1.0).decided(),
                num_image_tokens=steps,
                pad=janus.tokenizer.special.pad,
                compute=janus.compute,
                on_step=on_step,
                on_tokens=on_tokens,
            )

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
        """Return greedy answers (b, tokens); the random text head never ends one early."""
        asked = [(Turn(role="user", text=QUESTION, images=(image,)),) for image in images]
        options = TextOptions(temperature=0.0, max_new_tokens=tokens)
        answers = self.janus.answer(asked, system="", options=options)
        return torch.tensor([answer.token_ids for answer in answers])

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Return pixel values (b, 3, h, w) of image tokens (b, h, w), a few pictures at a time."""
        return torch.cat([self.janus.decode_pixels(chunk) for chunk in tokens.split(VQ_TOGETHER)])

    @torch.inference_mode()
    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return image tokens (b, h, w) of pixel values (b, 3, h, w)."""
        return self.janus.model.vq_tokenizer.encode(
            pixel_values.to(self.janus.vq_dtype, memory_format=torch.channels_last)
        )
