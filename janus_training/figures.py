"""Shares of what was right, with how sure they are. Knows nothing of models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_SURE = 1.96  # standard errors to each side, 95 of 100 cases


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of some were right.

    Attributes:
        percent: the mean over combinations, each counted once however often it was tried.
        margin: half of its interval, from how combinations differ; 0 where there are fewer than two.
        combinations: how many.
        of: how many trials.
    """

    percent: float
    margin: float
    combinations: int
    of: int

    def __str__(self) -> str:
        """Return the share for reading."""
        margin = f" ± {self.margin:.1f}" if self.combinations > 1 else ""
        return f"{self.percent:.1f} %{margin}"


def share(verdicts: Sequence[tuple[str, bool]]) -> Share:
    """Average right ones over combinations.

    Args:
        verdicts: the combination and the verdict of each trial.
    """
    by_key: dict[str, list[bool]] = {}
    for key, is_right in verdicts:
        by_key.setdefault(key, []).append(is_right)
    means = [100 * fmean(rights) for rights in by_key.values()]
    margin = _SURE * stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return Share(
        percent=fmean(means) if means else 0.0,
        margin=margin,
        combinations=len(means),
        of=len(verdicts),
    )
