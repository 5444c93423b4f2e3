"""What to draw: one prompt, or a file of them, each with the name that its pictures get."""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from ..errors import PromptError

_LONGEST_SLUG = 48


@dataclass(frozen=True, kw_only=True)
class NamedPrompt:
    """One prompt.

    Attributes:
        text: what to draw.
        stem: how its files begin; None for the one prompt of a command line.
    """

    text: str
    stem: str | None = None


def read_prompts(arguments: Namespace) -> list[NamedPrompt]:
    """Return the prompt of the command line, or those of the file, numbered as they stand in it.

    Raises:
        PromptError: the file cannot be read, or holds no prompt.
    """
    if arguments.prompts is None:
        return [NamedPrompt(text=arguments.prompt)]
    path = Path(arguments.prompts)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise PromptError(
            f'Cannot read prompts from "{path}": {error}. Give a text file in UTF-8.'
        ) from error
    texts = [line for line in lines if line and not line.startswith("#")]
    if not texts:
        raise PromptError(
            f'"{path}" holds no prompt. Write one on each line; lines that begin with # are not.'
        )
    digits = max(3, len(str(len(texts))))
    return [
        NamedPrompt(text=text, stem=f"{number:0{digits}}_{slug(text)}".rstrip("_"))
        for number, text in enumerate(texts, start=1)
    ]


def slug(text: str) -> str:
    """Return the words of a text as part of a file's name, the same on every system."""
    words = re.sub(r"[\W_]+", "-", text.lower()).strip("-")
    return words[:_LONGEST_SLUG].rstrip("-")
