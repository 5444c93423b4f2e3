"""Prints what the source measures, tests apart: `python -m tools.house`, for another tree `--root FOLDER`.

Needs Python alone. Rooms come from the table in docs/architecture.md, or from `--page FILE` for a tree whose
page has none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .source_figures import COMPLEX, Figures, measure
from .stairs import PAGE, ROOT, Room, Stairs, read_table

TESTS = "tests"
_SKIPPED = {".venv", ".git", "build", "dist", "out", "runs"}


@dataclass(frozen=True, kw_only=True)
class House:
    """What one tree measures.

    Attributes:
        source: all Python files that are no tests.
        tests: those below `tests/`.
        parts: lines of each top-level folder, "." for files beside them.
        rooms: rows of the table.
        arrows: which room imports which.
    """

    source: Figures
    tests: Figures
    parts: dict[str, int]
    rooms: tuple[Room, ...]
    arrows: frozenset[tuple[Room, Room]]

    @property
    def upward(self) -> list[tuple[Room, Room]]:
        """Arrows that do not go down; where there are none, there are no circles either."""
        return [(upper, lower) for upper, lower in self.arrows if lower.level >= upper.level]


def read_sources(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the path below `root` and the text of every Python file."""
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if not _SKIPPED.intersection(place.parts):
            yield place.as_posix(), path.read_text(encoding="utf-8")


def survey(root: Path, page: Path) -> House:
    """Measure the tree below `root`, with the table of rooms of `page`."""
    sources = dict(read_sources(root))
    tests = {name: text for name, text in sources.items() if name.startswith(f"{TESTS}/")}
    parts: dict[str, int] = {}
    for name, text in sources.items():
        folder = name.split("/")[0] if "/" in name else "."
        parts[folder] = parts.get(folder, 0) + len(text.splitlines())
    stairs = Stairs(read_table(page.read_text(encoding="utf-8")), root)
    return House(
        source=measure({name: text for name, text in sources.items() if name not in tests}),
        tests=measure(tests),
        parts=parts,
        rooms=tuple(stairs.rooms),
        arrows=frozenset(stairs.arrows()),
    )


def report(house: House) -> str:
    """Return the figures as two Markdown tables and a line about the stairs."""
    lines = ["| measure | source | tests |", "|---|---|---|"]
    columns = [_column(house.source), _column(house.tests)]
    lines += [f"| {name} | {columns[0][name]} | {columns[1][name]} |" for name in columns[0]]
    lines += ["", "| part | lines |", "|---|---|"]
    lines += [f"| {part} | {count:,} |" for part, count in house.parts.items()]
    upward = ", ".join(f"{upper.path} to {lower.path}" for upper, lower in house.upward)
    lines += ["", f"{len(house.rooms)} rooms, {len(house.arrows)} arrows, running up: {upward or 'none'}."]
    return "\n".join(lines) + "\n"


def _column(figures: Figures) -> dict[str, str]:
    length, longest = figures.longest_file
    function = figures.longest_function
    return {
        "files": str(figures.files),
        "lines": f"{figures.lines:,}",
        "file: median, 90th percentile": f"{figures.median_file:g}, {figures.ninetieth_file}",
        "longest file": f"{length} ({longest})",
        "longest function": f"{function.lines} ({function.place})" if function else "none",
        f"functions over complexity {COMPLEX}": ", ".join(figures.complex_functions) or "none",
        "duplicated lines": f"{figures.duplicated:.1%}",
        "lines with a comment": f"{figures.comments:.1%}",
        "lines that are only a comment": f"{figures.whole_line_comments:.1%}",
        "silencers": f"{figures.silencers} ({figures.silencers_per_1000:.1f} per 1,000 lines)",
        "silencers without a reason": str(figures.bare_silencers),
    }


def main() -> None:
    """Print the figures of a tree."""
    parser = argparse.ArgumentParser(prog="python -m tools.house", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree; default: this one")
    parser.add_argument("--page", type=Path, help="where the table of rooms is; default: the tree's own page")
    arguments = parser.parse_args()
    print(report(survey(arguments.root, arguments.page or arguments.root / PAGE)), end="")


if __name__ == "__main__":
    main()
