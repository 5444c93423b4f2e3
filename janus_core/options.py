"""Options with their ranges, protocols of callbacks, device and dtype of the arithmetic.

Ranges are checked once, when an options object is created; nothing below checks them again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Protocol

import torch
from torch import Tensor, nn

from .errors import PromptError, SamplingError, shown

CFG_WEIGHT = 5.0  # the authors' guidance, where a model's folder recommends no other
MOST_CFG_WEIGHT = 100  # far beyond any use
MOST_PICTURES = 2**16  # of one call; more are drawn by several
MOST_STRENGTH = 100  # of an adapter, as ComfyUI's own nodes allow
MIN_P = 0.0  # off, as the published models and the reference draw


class OnText(Protocol):
    """Called whenever one answer has become longer; may raise to interrupt."""

    def __call__(self, row: int, text: str) -> None:
        """Take the whole text so far of answer `row`."""


class OnStep(Protocol):
    """Called after each step; may raise to interrupt."""

    def __call__(self, done: int, total: int) -> None:
        """Take the number of steps done, of at most `total`."""


class OnTokens(Protocol):
    """Called after each step with the tokens so far; may raise to interrupt."""

    def __call__(self, tokens: Tensor, pictures: Sequence[int]) -> None:
        """Take image tokens (b, cells drawn so far) int64 of the pictures with these numbers in the call.

        The tokens are a view of the buffer, not to be written to.
        """


class LayerRunner(Protocol):
    """Runs decoder layers for a host that pages their weights; may capture a layer and replay it uncalled."""

    def restart(self) -> None:
        """Forget what was captured: the buffers that layers read and write are about to change."""

    def run(
        self, layers: Sequence[nn.Module], calls: Sequence[Callable[[], None]], dtype: torch.dtype
    ) -> None:
        """Run the layers of one step in order: `calls[i]` computes `layers[i]` in `dtype`, in place."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Device and dtype of a model's arithmetic.

    Attributes:
        device: of all arithmetic.
        dtype: of activations and embeddings, except in the VQ tokenizer.
        is_resident: weights are not moved during a call, so that a CUDA graph may hold their addresses.
        captures: whether steps may be captured as CUDA graphs; None means on CUDA but not on ROCm.
        runner: who runs decoder layers one by one where weights are paged; None: they are called.
    """

    device: torch.device
    dtype: torch.dtype
    is_resident: bool = False
    captures: bool | None = None
    runner: LayerRunner | None = None


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise SamplingError unless `value` is a number in [low, high]."""
    # booleans are numbers to Python; NaN fails both comparisons
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high:
        raise SamplingError(f"{name} is {shown(value)}; it must be between {low} and {high}.")


def check_above_zero(name: str, value: float, high: float) -> None:
    """Raise SamplingError unless `value` is a number above 0 and at most `high`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value <= high:
        raise SamplingError(f"{name} is {shown(value)}; it must be above 0 and at most {high}.")


def check_whole(name: str, value: int, low: int, high: int) -> None:
    """Raise SamplingError unless `value` is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        raise SamplingError(f"{name} is {shown(value)}; it must be a whole number between {low} and {high}.")


def check_count(name: str, value: int) -> None:
    """Raise SamplingError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise SamplingError(f"{name} is {shown(value)}; it must be at least 1.")


def check_text(name: str, value: str) -> None:
    """Raise PromptError unless `value` is a text, which a link in a graph does not see to."""
    if not isinstance(value, str):
        raise PromptError(f"{name} is {shown(value)}; it must be a text. Connect or write one.")


def whole_seed(seed: int) -> int:
    """Return a seed as a Python int; raise SamplingError if it is not a whole number."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise SamplingError(f"seed is {shown(seed)}; it must be a whole number.")
    return int(seed)  # numpy's integers would overflow in seed + i


def seed_range(seed: int, count: int) -> range:
    """Return the seeds of `count` pictures, the first being `seed`; raise as `whole_seed`."""
    first = whole_seed(seed)
    return range(first, first + int(count))


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How the tokens of an answer are chosen, and when it ends.

    Attributes:
        max_new_tokens: 1 … 4096; the model's context may end an answer earlier.
        temperature: 0 … 2; 0 is greedy: always the likeliest token.
        top_k: 0 … 1,000,000; 0 is off.
        top_p: above 0 … 1; 1 is off.
        min_p: 0 … 1; 0 is off.
        repetition_penalty: 0.1 … 10, applied to tokens already in the answer; 1 is off.
        stop: texts that end an answer and are not part of it.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole("max_new_tokens", self.max_new_tokens, 1, 4096)
        check_range("temperature", self.temperature, 0, 2)
        check_whole("top_k", self.top_k, 0, 1_000_000)
        check_range("top_p", self.top_p, 1e-6, 1)  # 0 would be greedy, which temperature 0 says already
        check_range("min_p", self.min_p, 0, 1)
        check_range("repetition_penalty", self.repetition_penalty, 0.1, 10)
        is_list = isinstance(self.stop, Sequence) and not isinstance(self.stop, str)
        if not is_list or not all(isinstance(text, str) and text for text in self.stop):
            raise SamplingError(f"stop is {shown(self.stop)}; it must be a list of texts that are not empty.")


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance, as a model's folder recommends it or as decided for one call.

    Attributes:
        cfg_weight: above 0 … 100; 1 is off.
        min_p: 0 … 1; before guidance, image tokens whose conditional probability is below this share of the
            largest one are masked. 0 is off.
    """

    cfg_weight: float = CFG_WEIGHT
    min_p: float = MIN_P

    def __post_init__(self) -> None:
        check_above_zero("cfg_weight", self.cfg_weight, MOST_CFG_WEIGHT)
        check_range("min_p", self.min_p, 0, 1)


PUBLISHED_GUIDANCE = Guidance()  # for DeepSeek's models, whose folders recommend nothing


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Guidance and sampling of pictures.

    Attributes:
        cfg_weight: above 0 … 100, of classifier-free guidance; 1 is off and computes half as many rows. None
            is what the model's folder recommends.
        temperature: 0 … 2; 0 is greedy: always the likeliest image token.
        top_k: 0 … 1,000,000; 0 is off.
        top_p: above 0 … 1; 1 is off.
        min_p: 0 … 1, before guidance, see `Guidance`; 0 is off, None is what the model's folder recommends.
            Ignored at temperature 0.
        keep_best: 0 … 1,000,000; of the pictures of each prompt return only so many, those that fit it best,
            and give the others up early; 0 returns all.
    """

    cfg_weight: float | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float | None = None
    keep_best: int = 0

    def __post_init__(self) -> None:
        if self.cfg_weight is not None:
            check_above_zero("cfg_weight", self.cfg_weight, MOST_CFG_WEIGHT)
        check_range("temperature", self.temperature, 0, 2)
        check_whole("top_k", self.top_k, 0, 1_000_000)
        check_range("top_p", self.top_p, 1e-6, 1)
        if self.min_p is not None:
            check_range("min_p", self.min_p, 0, 1)
        check_whole("keep_best", self.keep_best, 0, 1_000_000)

    @classmethod
    def from_numbers(
        cls,
        *,
        cfg_weight: float,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        keep_best: int = 0,
    ) -> DrawOptions:
        """Return options from numbers alone, as nodes and the command line have them.

        Args:
            cfg_weight: 0 is what the model recommends.
            temperature: see the class.
            top_k: see the class.
            top_p: see the class.
            min_p: below 0 is what the model recommends.
            keep_best: see the class.
        """
        return cls(
            cfg_weight=None if isinstance(cfg_weight, Real) and cfg_weight == 0 else cfg_weight,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=None if isinstance(min_p, Real) and min_p < 0 else min_p,
            keep_best=keep_best,
        )

    def decided(self, recommended: Guidance = PUBLISHED_GUIDANCE) -> DrawOptions:
        """Return options whose guidance is decided: what is asked for, else what is recommended."""
        min_p = recommended.min_p if self.min_p is None else self.min_p
        return replace(
            self,
            cfg_weight=recommended.cfg_weight if self.cfg_weight is None else self.cfg_weight,
            min_p=0.0 if self.temperature == 0 else min_p,  # greedy: the argmax over all tokens
        )


@dataclass(frozen=True, kw_only=True)
class Lora:
    """An adapter to use with a model.

    Attributes:
        path: a PEFT folder, or a .safetensors file.
        strength: −100 … 100; 1 is as it was trained, 0 leaves the model as it is.
    """

    path: str | os.PathLike[str]
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_range("strength", self.strength, -MOST_STRENGTH, MOST_STRENGTH)
