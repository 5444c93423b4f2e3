"""The chat template: a conversation in, a plan of token ids out.

No other file writes role words, control tokens or the system text. Knows nothing of models, pixels or
sampling.
Source: the authors' conversation.py and processing_vlm.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import PromptError
from ..options import check_text
from .text_tokenizer import ASSISTANT, EOS, IMAGE_PLACEHOLDER, USER, SpecialTokens, TextTokenizer

Role = Literal["user", "assistant"]

SYSTEM_TEXT = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)

# The instruction of each caption style; users choose by the keys.
CAPTION_STYLES = {
    "short": "Describe this image in one short sentence.",
    "detailed": "Describe this image in detail.",
    "tags": "List what is in this image as comma-separated tags.",
    "text": "Read the text in this image.",
}


CUSTOM_STYLE = "custom"  # asks nothing by itself


def caption_request(style: str, question: str = "") -> str:
    """Return the question that asks for a caption: the style's instruction, followed by the user's question.

    Args:
        style: a key of `CAPTION_STYLES`, or `CUSTOM_STYLE`, which has no instruction.
        question: may be empty.

    Raises:
        PromptError: there is no such style.
    """
    known = (*CAPTION_STYLES, CUSTOM_STYLE)
    if style not in known:
        raise PromptError(f'There is no caption style "{style!s:.80}". Choose one of {", ".join(known)}.')
    return f"{CAPTION_STYLES.get(style, '')} {question}".strip()


@dataclass(frozen=True, kw_only=True)
class TurnText:
    """One turn of a conversation as text.

    Attributes:
        role: who speaks.
        text: what is said; `<image_placeholder>` marks the place of a picture.
        num_images: pictures of this turn. Without a mark they come first, one per line.
        is_raw: the text is the whole prompt, without the template.
    """

    role: Role
    text: str
    num_images: int = 0
    is_raw: bool = False


@dataclass(frozen=True, kw_only=True)
class PromptPlan:
    """A prompt as token ids.

    Attributes:
        token_ids: all ids, pictures already expanded to begin-of-image, n placeholders, end-of-image.
        is_image: for each id, True where an image embedding takes its place.
        num_images: pictures expected.
    """

    token_ids: tuple[int, ...]
    is_image: tuple[bool, ...]
    num_images: int

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.token_ids)


_Piece = str | int  # text of the template or of a person, or the id of a control token


def plan_conversation(
    turns: Sequence[TurnText],
    tokenizer: TextTokenizer,
    *,
    image_tokens: int,
    system: str = SYSTEM_TEXT,
    old_roles: bool = False,
    learned_begin: bool = False,
) -> PromptPlan:
    """Write a conversation in the model's template, ready for its next answer.

    Args:
        turns: what was said so far, the last by the user; or one raw turn, which is the prompt as it stands.
        tokenizer: the model's.
        image_tokens: image embeddings per picture.
        system: the text before the first turn; may be empty.
        old_roles: use the plain role words of Janus-1.3B although the tokenizer has tokens for them.
        learned_begin: an image feature more stands at each begin-of-image, as JanusFlow has it.

    Raises:
        PromptError: the question is empty, a role is unknown, or marks and pictures differ in number.
    """
    check_text("The system text", system)
    for turn in turns:
        check_text("A turn's text", turn.text)
        if turn.role not in get_args(Role):
            raise PromptError(f'A turn has the role "{turn.role!s:.80}"; use "user" or "assistant".')
    if not turns or turns[-1].role != "user" or not turns[-1].text.replace(IMAGE_PLACEHOLDER, "").strip():
        raise PromptError("The question is empty. Write what you want to know.")
    if any(turn.is_raw for turn in turns):
        return _expand(
            _encode(_raw(turns, tokenizer.special), tokenizer), tokenizer, image_tokens, learned_begin
        )
    words = _role_words(tokenizer, old_roles)
    pieces: list[_Piece] = [system.lstrip() + "\n\n"] if system.strip() else []
    for index, turn in enumerate(turns):
        # The separator goes by position, not by role: that is how the models were trained.
        separator: _Piece = tokenizer.special.eos if index % 2 else "\n\n"
        content = _mark_pictures(turn, tokenizer.special.image)
        # a turn without content is its role word and a colon, which is how the template asks for an answer
        pieces += [words[turn.role], *([": ", *content, separator] if content else [":"])]
    pieces += [words["assistant"], ":"]
    return _expand(_encode(pieces, tokenizer), tokenizer, image_tokens, learned_begin)


def plan_drawing(prompt: str, tokenizer: TextTokenizer, *, old_roles: bool = False) -> PromptPlan:
    """Write a drawing prompt in the model's template, up to and including begin-of-image.

    Control tags in the prompt stay plain text. An empty prompt gives the unconditional row.
    """
    check_text("The prompt", prompt)
    words, text = _role_words(tokenizer, old_roles), prompt.strip()
    asked = f": {text}\n\n" if text else ":"
    ids = _encode(
        [words["user"], asked, words["assistant"], ":", tokenizer.special.begin_of_image], tokenizer
    )
    plan = PromptPlan(token_ids=tuple(ids), is_image=(False,) * len(ids), num_images=0)
    return plan if text else unconditional(plan, tokenizer)


def unconditional(plan: PromptPlan, tokenizer: TextTokenizer) -> PromptPlan:
    """Return the unconditional row of a prompt: pad everywhere but at the first and the last position.

    Unlike padding of a batch these pads are attended to and count as positions, as in training.
    """
    ids = plan.token_ids
    padded = (ids[0], *(tokenizer.special.pad for _ in ids[1:-1]), ids[-1])
    return PromptPlan(token_ids=padded, is_image=plan.is_image, num_images=0)


def _role_words(tokenizer: TextTokenizer, old_roles: bool) -> dict[Role, _Piece]:
    user, assistant = tokenizer.special.user, tokenizer.special.assistant
    if old_roles or user is None or assistant is None:
        return {"user": "User", "assistant": "Assistant"}
    return {"user": user, "assistant": assistant}


def _mark_pictures(turn: TurnText, image: int) -> list[_Piece]:
    """Split a turn at its picture marks, or put its pictures first where it has none."""
    text = turn.text.strip()
    if turn.role == "assistant":
        if turn.num_images:
            raise PromptError(
                f"An answer in the conversation comes with {turn.num_images} pictures, but only questions "
                "can show pictures. Move them to a turn of the user."
            )
        return [text] if text else []
    if not _is_marked(turn):
        lines = [IMAGE_PLACEHOLDER] * turn.num_images
        text = "\n".join([*lines, text] if text else lines)
    first, *rest = text.split(IMAGE_PLACEHOLDER)
    pieces: list[_Piece] = [first]
    for part in rest:
        pieces += [image, part]
    return [piece for piece in pieces if piece != ""]


def _is_marked(turn: TurnText) -> bool:
    """Tell whether the places of a turn's pictures are marked; they are all, or none is."""
    marks = turn.text.count(IMAGE_PLACEHOLDER)
    if marks not in (0, turn.num_images):
        raise PromptError(
            f"The question has {marks} picture marks ({IMAGE_PLACEHOLDER}) but {turn.num_images} pictures "
            "came with it. Use one mark per picture, or none to put the pictures first."
        )
    return marks > 0


def _raw(turns: Sequence[TurnText], special: SpecialTokens) -> list[_Piece]:
    """Split a prompt that a person wrote whole at its picture marks, role tags and ends of a turn.

    Nothing is added or stripped. These tags count here, since no template puts them there; other control
    tags stay plain text.
    """
    if len(turns) != 1:
        raise PromptError(
            "A text without the chat template is a whole prompt, and there are other turns beside it. Write "
            "the conversation into the text, or use the template."
        )
    [turn] = turns
    tags = {
        USER: special.user,
        ASSISTANT: special.assistant,
        EOS: special.eos,
        IMAGE_PLACEHOLDER: special.image,
    }
    text = turn.text if _is_marked(turn) else IMAGE_PLACEHOLDER * turn.num_images + turn.text
    parts: list[str] = re.split(f"({'|'.join(map(re.escape, tags))})", text)
    ids = [tags.get(part) for part in parts]
    return [part if token is None else token for part, token in zip(parts, ids, strict=True) if part]


def _encode(pieces: Sequence[_Piece], tokenizer: TextTokenizer) -> list[int]:
    """Encode pieces after one BOS; adjacent texts are joined first, since merges may cross their border."""
    ids, text = [tokenizer.special.bos], ""
    for piece in (*pieces, None):  # None flushes the last text
        if isinstance(piece, str):
            text += piece
            continue
        ids += tokenizer.encode(text) if text else []
        ids, text = ids if piece is None else [*ids, piece], ""
    return ids


def _expand(
    ids: Sequence[int], tokenizer: TextTokenizer, image_tokens: int, learned_begin: bool
) -> PromptPlan:
    """Replace each picture mark by begin-of-image, placeholders for its embeddings, end-of-image."""
    special = tokenizer.special
    features = {special.image, special.begin_of_image} if learned_begin else {special.image}
    picture = (special.begin_of_image, *(special.image,) * image_tokens, special.end_of_image)
    token_ids: list[int] = []
    for token in ids:
        token_ids += picture if token == special.image else (token,)
    return PromptPlan(
        token_ids=tuple(token_ids),
        is_image=tuple(token in features for token in token_ids),
        num_images=sum(token == special.image for token in ids),
    )
