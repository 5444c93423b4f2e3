"""Turn logits and noise into token ids.

The order for image tokens is min-p on the conditional distribution, guidance, temperature, top-k, top-p,
pick; for text it is repetition penalty, temperature, top-k, top-p, min-p, pick. Filters mask with -inf and
never renormalise: the pick adds Gumbel noise and takes the argmax, which samples from the softmax of what is
left (the Gumbel-max trick). Each filter keeps at least the likeliest token, and treats ties alike: tokens of
equal logit stay or go together, so that no sort order shows in the result.

Everything is a pure function of its arguments, computed in float32 whatever comes in, without waiting for the
device. Nothing here knows of models, prompts, images or seeds. Ranges are not checked: the options objects
have done so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import SamplingError

MASS_UNITS = 2**40  # probability 1 as an integer: finer than float32 resolves, and sums stay within int64


def guide(cond_logits: Tensor, uncond_logits: Tensor, cfg_weight: float) -> Tensor:
    """Sharpen conditional logits against unconditional ones (classifier-free guidance).

    Args:
        cond_logits: (b, v), from prompts with their text; what is masked in them stays masked at any
            weight above 0.
        uncond_logits: (b, v), finite, from prompts with the text padded out.
        cfg_weight: ≥ 0; 1 returns `cond_logits`, 0 returns `uncond_logits`, both exactly.

    Returns: (b, v) float32.
    Raises: SamplingError if the two shapes differ.
    Source: Ho and Salimans 2022 (arXiv:2207.12598); the authors' text-to-image script.
    """
    if cond_logits.shape != uncond_logits.shape:
        raise SamplingError(
            f"Guidance needs two sets of logits of one shape, but the conditional ones are "
            f"{tuple(cond_logits.shape)} and the unconditional ones {tuple(uncond_logits.shape)}. "
            f"Give the model one unconditional row for every conditional one."
        )
    cond, uncond = cond_logits.float(), uncond_logits.float()  # (b, v) each
    # at 1 the formula would return cond only up to rounding
    return cond if cfg_weight == 1 else uncond + cfg_weight * (cond - uncond)


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that already occurred less likely, by the same factor however often they occurred.

    Args:
        logits: (b, v).
        seen: (b, v) bool, True for tokens that already occurred.
        penalty: > 0; positive logits are divided by it and others multiplied, so 1 is off.

    Returns: (b, v) float32.
    Source: Keskar et al. 2019 (CTRL, arXiv:1909.05858), with the multiplication that transformers adds.
    """
    logits = logits.float()
    # dividing a negative logit would raise it
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalised, logits)


def scale_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide logits (b, v) by a temperature > 0: below 1 favours likely tokens, above 1 unlikely ones."""
    return logits.float() / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Mask all but the k likeliest tokens; more than k stay when several tie for the last place.

    Args:
        logits: (b, v).
        k: 0 is off, and so is anything from v upwards.

    Returns: (b, v) float32, -inf where masked.
    """
    logits = logits.float()
    if not 0 < k < logits.shape[-1]:
        return logits
    return _keep_from(logits, logits.topk(k, dim=-1).values[:, -1:])  # the k-th largest is the threshold


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Mask all but the likeliest tokens that together hold probability p (nucleus).

    The token whose probability reaches or crosses p stays, as does any token that ties with it.

    Args:
        logits: (b, v).
        p: 0 … 1; 1 is off, 0 keeps the likeliest token.

    Returns: (b, v) float32, -inf where masked.
    Source: Holtzman et al. 2020 (arXiv:1904.09751).
    """
    logits = logits.float()
    if p >= 1:
        return logits
    ranked = logits.sort(dim=-1, descending=True).values  # (b, v)
    # Sums of integers do not depend on their order; a parallel float sum may differ from call to call and
    # so end on either side of p.
    mass = (ranked.softmax(dim=-1) * MASS_UNITS).long()
    mass_before = mass.cumsum(dim=-1) - mass  # of likelier tokens only, so the one that crosses p stays
    kept = (mass_before < int(p * MASS_UNITS)).sum(dim=-1, keepdim=True).clamp(min=1)
    return _keep_from(logits, ranked.gather(-1, kept - 1))


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Mask tokens less likely than p times the likeliest one.

    For image tokens it is applied to conditional logits before guidance. Guidance amplifies every difference
    between the two rows, also among tokens so unlikely that the difference is an error of the model.

    Args:
        logits: (b, v).
        p: 0 … 1; 0 is off, 1 keeps the likeliest token and its equals.

    Returns: (b, v) float32, -inf where masked.
    Source: Nguyen et al. 2024 (arXiv:2407.01082).
    """
    logits = logits.float()
    if p <= 0:
        return logits
    # p_i >= p * p_max, in logits, where the softmax's denominator cancels
    return _keep_from(logits, logits.amax(dim=-1, keepdim=True) + math.log(p))


def pick(logits: Tensor, noise: Tensor) -> Tensor:
    """Sample one token per row: the argmax of logits plus noise.

    Args:
        logits: (b, v), -inf where masked.
        noise: (b, v), standard Gumbel and finite, so that a masked token never wins.

    Returns: (b,) int64.
    Source: the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030).
    """
    return (logits.float() + noise).argmax(dim=-1)


def next_tokens(
    logits: Tensor,
    *,
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    noise: Tensor | None,
) -> Tensor:
    """Choose the next token of each row; at temperature 0 the likeliest, the first one on a tie.

    Args:
        logits: (b, v), after guidance and repetition penalty.
        temperature: ≥ 0.
        top_k: see `keep_top_k`.
        top_p: see `keep_top_p`.
        min_p: see `keep_min_p`.
        noise: (b, v) float32, standard Gumbel; unused at temperature 0.

    Returns: (b,) int64.
    Raises: SamplingError if the temperature is above 0 and there is no noise.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    if noise is None:
        raise SamplingError(
            f"Sampling at temperature {temperature} needs noise, and none was given. "
            f"Pass `gumbel_noise(...)` of shape {tuple(logits.shape)}, or set the temperature to 0."
        )
    logits = scale_temperature(logits, temperature)
    logits = keep_top_k(logits, top_k)
    logits = keep_top_p(logits, top_p)
    logits = keep_min_p(logits, min_p)
    return pick(logits, noise)


def log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the logarithm of the probability that a softmax gives to tokens.

    Args:
        logits: (..., v), unfiltered.
        tokens: (...) int64.

    Returns: (...) float32.
    """
    logits = logits.float()
    return logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(dim=-1)


def are_finite(logits: Tensor, chosen: Tensor) -> Tensor:
    """Tell for each row whether its logits were finite, from the logit of the chosen token alone.

    The argmax prefers a NaN or an infinity to any number, and takes minus infinity only if nothing else is
    left, so the chosen token's logit is finite exactly if the row could be sampled from.

    Args:
        logits: (b, v), before any filter.
        chosen: (b,) int64.

    Returns: (b,) bool, without waiting for the device.
    """
    return logits.gather(1, chosen[:, None])[:, 0].isfinite()


def not_finite(rows: Sequence[int], dtype: torch.dtype) -> SamplingError:
    """Return the error for rows whose logits are not finite in a dtype."""
    name, one = str(dtype).removeprefix("torch."), rows[0] + 1
    which = f"Number {one}" if len(rows) == 1 else f"{len(rows)} of the batch, first number {one},"
    cure = (
        "Load the model in bfloat16 or float32."
        if dtype == torch.float16
        else "The weights are probably damaged: fetch them again."
    )
    return SamplingError(
        f"{which} cannot be made: the model's scores in {name} are no finite numbers. {cure}", tuple(rows)
    )


def require_numbers(rows: Tensor, dtype: torch.dtype) -> None:
    """Raise the error for rows (b, ...) that hold anything but finite numbers; waits for the device."""
    is_finite = rows.isfinite().flatten(1).all(dim=1).tolist()
    broken = [row for row, is_whole in enumerate(is_finite) if not is_whole]
    if broken:
        raise not_finite(broken, dtype)


def _keep_from(logits: Tensor, threshold: Tensor) -> Tensor:
    """Mask logits (b, v) below their row's threshold (b, 1)."""
    return logits.masked_fill(logits < threshold, -math.inf)
