"""Figures of a body of Python source: lengths, complexity, comments, silencers.

Reads text and syntax trees; imports and runs nothing of what it measures.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .duplication import duplicated_share

COMPLEX = 10  # the linter's limit
SILENCER = re.compile(r"#\s*(type:\s*ignore|noqa|pragma:\s*no cover|mypy:|ruff:)")
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
_LOOPS_AND_TRIES = (ast.For, ast.AsyncFor, ast.While, ast.Try)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function or method.

    Attributes:
        place: its file and name.
        lines: from `def` to its last line.
        complexity: 1 and every branch, loop, handler, case and `else` of a loop or try, and nested functions.
    """

    place: str
    lines: int
    complexity: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is measured of a body of source.

    Attributes:
        files: number of files that are not empty.
        lines: all of them, blank ones too.
        longest_file: its lines and name.
        median_file: lines.
        ninetieth_file: lines of the file at the 90th percentile.
        longest_function: see `Function`; None without functions.
        complex_functions: places of those over `COMPLEX`.
        duplicated: share of lines written twice, see `duplication`.
        comments: share of lines that carry a comment, silencers not counted.
        whole_line_comments: share of lines that are nothing but a comment.
        silencers: comments that switch a linter or type checker off.
        bare_silencers: those without a reason behind them.
    """

    files: int
    lines: int
    longest_file: tuple[int, str]
    median_file: float
    ninetieth_file: int
    longest_function: Function | None
    complex_functions: tuple[str, ...]
    duplicated: float
    comments: float
    whole_line_comments: float
    silencers: int
    bare_silencers: int

    @property
    def silencers_per_1000(self) -> float:
        """Silencers for every 1,000 lines."""
        return 1000 * self.silencers / self.lines


def measure(sources: Mapping[str, str]) -> Figures:
    """Measure files, given by name with their text; empty ones do not count.

    Raises:
        ValueError: no file has any text.
    """
    sources = {name: source for name, source in sources.items() if source.strip()}
    if not sources:
        raise ValueError("There is no source to measure: every file is empty.")
    lengths = sorted((len(source.splitlines()), name) for name, source in sources.items())
    functions = [one for name, source in sources.items() for one in functions_of(source, name)]
    comments = [comment for source in sources.values() for comment in comments_of(source)]
    silencers = [comment for comment in comments if SILENCER.search(comment)]
    total = sum(length for length, _ in lengths)
    return Figures(
        files=len(lengths),
        lines=total,
        longest_file=lengths[-1],
        median_file=statistics.median(length for length, _ in lengths),
        ninetieth_file=lengths[(9 * len(lengths) - 1) // 10][0],
        longest_function=max(functions, key=lambda one: one.lines, default=None),
        complex_functions=tuple(one.place for one in functions if one.complexity > COMPLEX),
        duplicated=duplicated_share(sources),
        comments=(len(comments) - len(silencers)) / total,
        whole_line_comments=sum(_whole_line_comments(source) for source in sources.values()) / total,
        silencers=len(silencers),
        bare_silencers=sum(not has_reason(silencer) for silencer in silencers),
    )


def functions_of(source: str, name: str) -> Iterator[Function]:
    """Yield every function of a file, nested ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _FUNCTIONS):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(place=f"{name}:{node.name}", lines=lines, complexity=complexity(node))


def complexity(function: ast.AST) -> int:
    """Return McCabe's number as linters count it; boolean operators and comprehensions are no branches."""
    inner = [node for node in ast.walk(function) if node is not function]
    branches = sum(isinstance(node, (*_BRANCHES, *_FUNCTIONS)) for node in inner)
    return 1 + branches + sum(isinstance(node, _LOOPS_AND_TRIES) and bool(node.orelse) for node in inner)


def comments_of(source: str) -> list[str]:
    """Return the comments of a file, each with its mark."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def _whole_line_comments(source: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type == tokenize.COMMENT and token.line.lstrip().startswith("#") for token in tokens)


def has_reason(silencer: str) -> bool:
    """Tell whether words follow a silencer, behind a dash or a second mark."""
    return bool(re.search(r"\w.*(\s-\s|\s#\s)\S", silencer))
