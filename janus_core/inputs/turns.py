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
