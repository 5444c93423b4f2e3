"""Choosing: an answer that is one of some given texts, and how probable each of them is.

Every text is taken as a whole answer, token by token up to its end, so that one may begin like another.
Prompts arrive as plans, pictures as embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PromptError, shown
from ..inputs.text_tokenizer import TextTokenizer
from ..model.model import TextLanguage
from ..options import Compute, check_text
from .answering import Prompts
from .noise import gumbel_noise
from .prefill import check_context, pad_left, prefill, shared_words
from .sampling import next_tokens, require_numbers
from .spelling import SpellingTree, spellings


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some texts, chosen as the answer.

    Attributes:
        text: as it was given, without blanks around it.
        index: its place among them, from 0.
        probabilities: of all of them in their order, adding up to 1, whatever the temperature.
    """

    text: str
    index: int
    probabilities: tuple[float, ...]


def checked_choices(choices: Sequence[str]) -> list[str]:
    """Return choices without blanks around them.

    Raises:
        PromptError: fewer than two, an empty one, or the same twice.
    """
    if not isinstance(choices, Sequence):
        raise PromptError(f"The choices are {shown(choices)}; they must be texts, one a line.")
    for choice in choices:
        check_text("A choice", choice)
    texts = [choice.strip() for choice in choices]
    if "" in texts:
        raise PromptError(f"Choice {texts.index('') + 1} is empty. Write an answer there, or leave it out.")
    if len(texts) < 2:
        raise PromptError(
            f"There {'is 1 choice' if texts else 'are no choices'}. Give at least two, one a line."
        )
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise PromptError(f'The choice "{twice}" comes {texts.count(twice)} times. Give each once.')
    return texts


def tree_of_choices(choices: Sequence[str], tokenizer: TextTokenizer) -> SpellingTree:
    """Return the tree of whole answers, each up to the end of the text."""
    end = (tokenizer.special.eos,)
    return SpellingTree([[one + end for one in spellings(choice, tokenizer)] for choice in choices])


def choose_texts(
    language: TextLanguage,
    prompts: Prompts,
    choices: Sequence[str],
    tokenizer: TextTokenizer,
    *,
    temperature: float,
    seed: int,
    compute: Compute,
) -> list[Choice]:
    """Answer each prompt with one of the choices.

    Args:
        language: ready on the device of `compute`.
        prompts: one per answer.
        choices: from `checked_choices`.
        tokenizer: the model's.
        temperature: 0 takes the most probable one, the first of equals; above, one is drawn by probability.
        seed: of the first prompt; the next one uses seed + 1.
        compute: device and dtype.

    Raises:
        PromptError: a prompt and the longest choice exceed the context. SamplingError: scores are no numbers.
    """
    tree, plans = tree_of_choices(choices, tokenizer), prompts.plans
    check_context(plans, language.language_model.config, tree.depth)
    padded = pad_left(plans, tokenizer.special.pad, compute.device, shared=shared_words(plans))
    sequences = prefill(
        language, padded, prompts.image_embeddings, new_tokens=len(tree.tokens), compute=compute
    )
    whole = tree.read(language.language_model, sequences, compute)  # (b, choices)
    require_numbers(whole, compute.dtype)
    shares: list[list[float]] = whole.softmax(dim=1).tolist()
    return [
        Choice(text=choices[index], index=index, probabilities=tuple(row))
        for index, row in zip(_chosen(whole, temperature, seed), shares, strict=True)
    ]


def _chosen(whole: Tensor, temperature: float, seed: int) -> list[int]:
    """Return which of the choices each row takes, from the logarithms (b, choices) of their probabilities."""
    rows, count = whole.shape
    # relative to the best one, so that float32 tells close ones apart
    logits = (whole - whole.amax(dim=1, keepdim=True)).float()
    noise = None
    if temperature > 0:
        seeds = range(seed, seed + rows)
        noise = gumbel_noise(seeds, [0], count, torch.device("cpu"))[:, 0]
    chosen: list[int] = next_tokens(logits, temperature=temperature, noise=noise).tolist()
    return chosen
