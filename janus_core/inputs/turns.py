"""A conversation as users give it: turns with their pictures. Knows nothing of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from .pictures import Picture, as_several
from .prompting import Role


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        text: what is said; `<image_placeholder>` marks the place of a picture, without it they come first.
        images: the pictures of this turn.
        is_raw: the text is the whole prompt and is sent as it stands, without the chat template.
    """

    role: Role
    text: str
    images: tuple[Picture, ...] = ()
    is_raw: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", as_several(self.images))

    def __str__(self) -> str:
        """Return the turn as a line of a transcript: "user (2 pictures): What is on the table?"."""
        count = len(self.images)
        pictures = f" ({count} picture{'' if count == 1 else 's'})" if count else ""
        return f"{self.role}{pictures}: {self.text}"


class Chat(tuple[Turn, ...]):
    """A conversation so far, which people read as a transcript."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return the turns, a blank line between two."""
        return "\n\n".join(str(turn) for turn in self)
