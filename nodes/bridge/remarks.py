"""What a node says beside its result: what a small model knows, which words are new to it, a missing picture.

A model that knows a small world only says so in `world.json` of its folder: what it knows, every word of its
prompts, and which model to choose for anything else. Nothing here knows of a particular model.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...janus_core import PUBLISHED, CheckpointError, has_model_text, read_model_text

KEY = "janus_remarks"
"""Under which the page finds remarks among a node's results; core's own page shows `text` only."""

_FILE = "world.json"
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_MOST_NAMED = 5  # words of a prompt that are named, of a prompt that is all new
_PICTURE = r"(?:pictures?|images?|photos?|photographs?|screenshots?|drawings?|paintings?)"
# "this picture", "in the second image"; "Describe it.", "What do you see?", "What is shown?"
_REFERS = re.compile(
    rf"\b(?:the|this|these|that|those|both|each|my)\b(?:\W+\w+)?\W+{_PICTURE}\b"
    rf"|\b(?:describe|caption)\b\W+(?:this|it|these)\b|\b(?:do|can)\W+you\W+see\b|\bis\W+shown\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class World:
    """The small world that a model knows.

    Attributes:
        model: the model's name.
        knows: what it knows, in two or three words that end "… knows only".
        words: every word of its prompts, in lower case.
        instead: name of a model for anything else.
    """

    model: str
    knows: str
    words: frozenset[str]
    instead: str

    def introduction(self) -> str:
        """Say, before a run, what the model is for and which one to choose for anything else."""
        published = PUBLISHED.get(self.instead)
        size = f" (a download of {published.size_gb} GB)" if published else ""
        return (
            f"{self.model} is a miniature that knows only {self.knows}. For anything else choose "
            f"{self.instead}{size}."
        )

    def reminder(self) -> str:
        """Say the same in short, beside a result."""
        return f"{self.model} knows only {self.knows}. For anything else choose {self.instead} in Load Janus."

    def new_words(self, prompt: str) -> list[str]:
        """List the words of a prompt that the model has never read, in order."""
        return [word for word in dict.fromkeys(_WORD.findall(prompt.lower())) if word not in self.words]


def read_world(folder: Path) -> World | None:
    """Return the world of a model's folder, or of one in one file; None for a model without such a text.

    Raises:
        CheckpointError: there is a file, and it does not say what it should.
    """
    path = folder / _FILE
    if not has_model_text(path):
        return None
    try:
        said: dict[str, Any] = json.loads(read_model_text(path))
        words = frozenset(str(word).lower() for word in said["words"])
        return World(model=folder.name, knows=str(said["knows"]), words=words, instead=str(said["instead"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f'Cannot read "{path}", which says what the model knows: {type(error).__name__}: {error}. Put '
            "back the file that came with the model, or remove it."
        ) from error


def on_caption(world: World | None) -> list[str]:
    """Return the remarks on captions."""
    return [] if world is None else [world.reminder()]


def on_drawing(world: World | None, *prompts: str) -> list[str]:
    """Return the remarks on pictures drawn from prompts."""
    if world is None:
        return []
    new = list(dict.fromkeys(word for prompt in prompts for word in world.new_words(prompt)))
    if not new:
        return [world.reminder()]
    named = ", ".join(f'"{word}"' for word in new[:_MOST_NAMED])
    more = f" and {len(new) - _MOST_NAMED} more" if len(new) > _MOST_NAMED else ""
    return [
        f"New to {world.model}, which draws something else or nothing: {named}{more}.",
        world.reminder(),
    ]


def on_answer(world: World | None, questions: Sequence[str], pictures: int) -> list[str]:
    """Return the remarks on the answer to the last question of a conversation with so many pictures."""
    said = [] if world is None else [world.reminder()]
    # who knows a small world of pictures only has nothing to speak about without one
    if pictures == 0 and (world is not None or any(_REFERS.search(question) for question in questions)):
        said.insert(
            0, "No picture is connected, so the answer is about none. Connect one to image to ask about it."
        )
    return said
