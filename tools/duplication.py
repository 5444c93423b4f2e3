"""How much of a body of source is written twice: lines in runs of six or more that occur again elsewhere.

Lines are compared without indentation; blank ones and whole-line comments do not count. It sees copies, not
code of the same shape under other names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

RUN = 6


def normalised(source: str) -> list[str]:
    """Return the lines that are compared."""
    lines = (line.strip() for line in source.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def duplicated_share(sources: Mapping[str, str], run: int = RUN) -> float:
    """Return the share of lines, 0..1, that stand in a run which occurs more than once.

    Args:
        sources: the files by name.
        run: the least number of equal lines in a row.
    """
    files = {name: normalised(source) for name, source in sources.items()}
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for name, lines in files.items():
        for start in range(len(lines) - run + 1):
            places[tuple(lines[start : start + run])].append((name, start))
    marked = {
        (name, start + offset)
        for found in places.values()
        if len(found) > 1
        for name, start in found
        for offset in range(run)
    }
    total = sum(len(lines) for lines in files.values())
    return len(marked) / total if total else 0.0
