"""Terminal output of a command: its result on stdout, progress and remarks on stderr."""

from __future__ import annotations

import secrets
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..outputs import to_json

if TYPE_CHECKING:
    from ..options import OnStep  # which imports torch


def report(arguments: Namespace, content: dict[str, Any], text: str) -> None:
    """Print a command's result: the content as one JSON object if asked for, else the text, if any."""
    if arguments.json:
        text = to_json(content, is_utf8=(sys.stdout.encoding or "").lower().replace("-", "") == "utf8")
    if text:
        print(text)
    sys.stdout.flush()


def print_beside_bar(text: str) -> None:
    """Print to stdout at once, above a progress bar on the same terminal."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def remark(arguments: Namespace, text: str) -> None:
    """Print a remark to stderr, unless --quiet."""
    if not arguments.quiet:
        print(text, file=sys.stderr)


def new_seed(arguments: Namespace, temperature: float = 1.0) -> int:
    """Return --seed, or a new one, which is told unless nothing is random."""
    if arguments.seed is not None:
        return int(arguments.seed)
    seed = secrets.randbelow(2**32)
    if temperature > 0:
        remark(arguments, f"seed {seed}")
    return seed


@contextmanager
def progress(arguments: Namespace, what: str, total: int, unit: str = "it") -> Iterator[OnStep]:
    """Show a progress bar on stderr, unless it is no terminal or --quiet; bytes (B) in thousands of them."""
    hidden = arguments.quiet or not sys.stderr.isatty()
    how = {"disable": hidden, "leave": False, "file": sys.stderr, "unit": unit, "unit_scale": unit == "B"}
    with tqdm(total=total, desc=what, **how) as bar:

        def on_step(done: int, total: int) -> None:
            bar.update(min(done, total or done) - bar.n)  # tqdm counts increments

        yield on_step


class GrowingAnswer:
    """Prints an answer to the terminal as it grows."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        # Characters held back, as they may be the beginning of a stop text.
        self._held = max((len(text) for text in stop), default=1) - 1
        self._shown = ""

    def on_text(self, row: int, text: str) -> None:
        """Print the new text that is certain; nothing while it differs from what was printed."""
        certain = text[: len(text) - self._held].rstrip() if self._held else text
        if certain.startswith(self._shown):
            print(certain[len(self._shown) :], end="", flush=True)
            self._shown = certain

    def finish(self, text: str) -> None:
        """Print the rest, or the whole text again if something else was printed, and end the line."""
        is_continued = text.startswith(self._shown)
        print(text[len(self._shown) :] if is_continued else "\n" + text, flush=True)
