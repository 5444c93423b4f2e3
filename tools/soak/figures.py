"""What a run shows: how memory went, what was lost, wrong or stuck. Needs Python alone."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WARM_UP = 60  # jobs of a server until caches and allocators have settled
FEWEST = 100  # jobs after them that a verdict needs
MOST_GROWTH = 0.02
_MOST_POINTS = 400  # of which every pair is looked at


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the memory of one server went, from the end of its warm-up to its end.

    Attributes:
        life: which server of the run, from 0.
        jobs: after the warm-up.
        minutes: likewise.
        start_mib: median of the first 30 of them.
        share: by how much it grew over all of them, as a share of that.
    """

    life: int
    jobs: int
    minutes: float
    start_mib: float
    share: float


def robust_slope(values: Sequence[float]) -> float:
    """Return the median slope over all pairs of values, by which a few outliers change nothing.

    Source: Theil 1950, Sen 1968.
    """
    step = max(1, len(values) // _MOST_POINTS)
    points = list(enumerate(values))[::step]
    slopes = [(b - a) / (j - i) for at, (i, a) in enumerate(points) for j, b in points[at + 1 :]]
    return statistics.median(slopes) if slopes else 0.0


def growth(jobs: Sequence[dict[str, Any]], life: int) -> Growth | None:
    """Return how one server's memory went; None for one that did not live long enough to tell."""
    own = [line for line in jobs if line["life"] == life][WARM_UP:]
    if len(own) < FEWEST:
        return None
    resident = [line["rss_kib"] / 1024 for line in own]
    start = statistics.median(resident[:30])
    return Growth(
        life=life,
        jobs=len(own),
        minutes=(own[-1]["at_s"] - own[0]["at_s"]) / 60,
        start_mib=start,
        share=robust_slope(resident) * (len(resident) - 1) / start,
    )


def summary(lines: Sequence[dict[str, Any]], repeated: int) -> tuple[str, bool]:
    """Return the figures as Markdown, and whether all of them are as they should be."""
    jobs = [line for line in lines if line["event"] == "job"]
    failures = [line for line in lines if line["event"] == "failure"]
    starts = [line for line in lines if line["event"] == "start"]
    kills = [line for line in lines if line["event"] == "kill"]
    kinds = Counter(line["kind"] for line in jobs)
    grown = [one for life in range(len(starts)) if (one := growth(jobs, life)) is not None]
    ends = Counter(line["end"] for line in jobs)
    said = [
        "| figure | value |",
        "|---|---|",
        f"| time | {lines[-1]['at_s'] / 60 if lines else 0:.1f} minutes |",
        f"| jobs | {len(jobs)}: {', '.join(f'{kind} {n}' for kind, n in kinds.most_common())} |",
        f"| how they ended | {', '.join(f'{end} {n}' for end, n in ends.most_common())} |",
        f"| servers started, killed under a job | {len(starts)}, {len(kills)} |",
        f"| files finished | {sum(len(line.get('files', {})) for line in jobs)} |",
        f"| results compared with an earlier equal job | {repeated} |",
        *(f"| {_about(one)} | {one.share:+.2%} |" for one in grown),
        f"| failures | {len(failures)} |",
        *(f"| failure: {line['what']} | {line['detail']} |" for line in failures),
    ]
    is_good = bool(grown) and not failures and all(one.share < MOST_GROWTH for one in grown)
    return "\n".join(said) + "\n", is_good


def _about(one: Growth) -> str:
    return (
        f"memory of server {one.life}, {one.jobs} jobs in {one.minutes:.1f} minutes after {WARM_UP}, from "
        f"{one.start_mib:.0f} MiB"
    )
