"""Text to token ids and back, over the `tokenizers` library; control tokens by name.

Knows nothing of templates, roles or pictures. Users' text is encoded by a second tokenizer without control
tokens, so that a typed "<|User|>" stays plain text; control tokens enter a prompt only by id.

Not every added token is a control token. The tokenizers of DeepSeek's first models add single letters, "ü"
among them: those that a byte-level vocabulary uses for bytes which no UTF-8 text has. The models were trained
with them, so the second tokenizer keeps them. Source: huggingface/tokenizers, issues 1392 and 1424.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..errors import CheckpointError, PromptError
from ..one_file import TOKENIZER, read_model_text
from ..reading import parse_json
from .byte_level import PROBE, is_byte_level, mended
from .text_steps import refuse_endless_steps

log = logging.getLogger("janus.inputs")

_SHORT = "hello world 12"
_MENDED = (
    'Janus: the tokenizer "%s" was damaged when it was saved again; its byte-level steps were put back. '
    "Take the file from the model that this one was tuned from to be rid of this remark."
)
_LOSES_TEXT = (
    'The tokenizer "{source}" loses text: "{before}" comes back as "{after}". It was probably damaged when '
    "it was saved again, as some releases of transformers do, and how it split text cannot be told from it. "
    "Copy tokenizer.json from the model that this one was tuned from, for example Janus-Pro-1B."
)
_LFS_MARK = "version https://git-lfs"

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
BEGIN_OF_IMAGE = "<begin_of_image>"
END_OF_IMAGE = "<end_of_image>"
IMAGE_PLACEHOLDER = "<image_placeholder>"
USER = "<|User|>"
ASSISTANT = "<|Assistant|>"


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Ids of the control tokens, found by their text, since they differ between models.

    Attributes:
        image: the placeholder's id; if the vocabulary lacks it, the next free id, which is never embedded.
        user, assistant: None where the vocabulary has no such token (Janus-1.3B writes plain words).
    """

    bos: int
    eos: int
    pad: int
    begin_of_image: int
    end_of_image: int
    image: int
    user: int | None
    assistant: int | None


class TextTokenizer:
    """Encodes plain text, decodes answers and knows the special tokens of one model."""

    def __init__(self, definition: str, *, source: str, names: dict[str, str] | None = None) -> None:
        """Build from the content of `tokenizer.json`.

        Args:
            definition: the file's content.
            source: the file's path, for messages.
            names: other texts for "bos_token", "eos_token", "pad_token", as the folder's files state them.

        Raises:
            CheckpointError: the content is damaged or a special token is missing.
        """
        self._source = source
        try:
            parsed = parse_json(definition)
            refuse_endless_steps(parsed)
            self._build(parsed)
            survives = self._survives()
            if not survives and is_byte_level(parsed):
                self._build(mended(parsed))
                survives = self._survives()
                if survives:
                    log.warning(_MENDED, source)
        except BaseException as error:
            _pass_on_endings(error)
            raise CheckpointError(
                f'Cannot read the tokenizer "{source}": {str(error)[:200]}. Fetch the file again.'
            ) from error
        if not survives:
            raise CheckpointError(_LOSES_TEXT.format(source=source, before=_SHORT, after=self._shown()))
        self.special = self._find_special(source, names or {})

    def _build(self, definition: dict[str, Any]) -> None:
        """Make the tokenizer, and the one without control tokens for users' text."""
        kept = [token for token in definition.get("added_tokens") or [] if _is_letter(token)]
        plain = definition | {
            "added_tokens": kept, "post_processor": None, "truncation": None, "padding": None,
        }  # fmt: skip
        self._whole = Tokenizer.from_str(json.dumps(definition))
        self._plain = Tokenizer.from_str(json.dumps(plain))
        self._letters = {_id_of(token["content"], self._whole): token["content"] for token in kept}
        # The second tokenizer numbers its added tokens anew; these are mapped back after encoding.
        self._true_ids = {_id_of(text, self._plain): token for token, text in self._letters.items()}

    def _survives(self) -> bool:
        """Tell whether decoding gives back the encoded text."""
        return self.decode(self.encode(PROBE)) == PROBE

    def _shown(self) -> str:
        return self.decode(self.encode(_SHORT))[:40]

    @property
    def vocab_size(self) -> int:
        """Number of ids that the tokenizer itself can produce."""
        return self._whole.get_vocab_size(with_added_tokens=True)

    @property
    def largest_id(self) -> int:
        """The largest id of the vocabulary or of a special token."""
        ids = self._whole.get_vocab(with_added_tokens=True).values()
        return max(ids, default=0)

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text, without control tokens whatever the text says.

        A lone surrogate, as Python reads bytes that are not UTF-8 from a terminal, becomes a question mark.
        """
        text = text.encode("utf-8", "replace").decode("utf-8")
        with self._panics_named():
            ids = self._plain.encode(text, add_special_tokens=False).ids
        return [self._true_ids.get(token, token) for token in ids]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids without special tokens; incomplete characters become U+FFFD."""
        # The library would decode added letters as the bytes that they stand for in other tokens.
        pieces = [(is_letter, list(ids)) for is_letter, ids in groupby(token_ids, self._letters.__contains__)]
        return "".join(
            "".join(map(self._letters.__getitem__, ids)) if is_letter else self._text_of(ids)
            for is_letter, ids in pieces
        )

    def _text_of(self, token_ids: list[int]) -> str:
        with self._panics_named():
            return self._whole.decode(token_ids, skip_special_tokens=True)

    @contextmanager
    def _panics_named(self) -> Iterator[None]:
        """Turn whatever the library raises at one text into a PromptError that names the tokenizer."""
        try:
            yield
        except BaseException as error:
            _pass_on_endings(error)
            raise PromptError(
                f'The tokenizer "{self._source}" fails at this text: {str(error)[:200]}. Fetch '
                "tokenizer.json from where the weights come from, or write another text."
            ) from error

    def _find_special(self, source: str, names: dict[str, str]) -> SpecialTokens:
        def find(texts: Iterable[str | None], what: str) -> int:
            for text in texts:
                found = None if text is None else self._whole.token_to_id(text)
                if found is not None:
                    return int(found)
            raise CheckpointError(
                f'The tokenizer "{source}" has no {what} token. It belongs to another model, or is '
                "incomplete: fetch tokenizer.json from where the weights come from."
            )

        image = self._whole.token_to_id(IMAGE_PLACEHOLDER)
        return SpecialTokens(
            bos=find((BOS, names.get("bos_token")), "begin-of-sentence"),
            eos=find((EOS, names.get("eos_token")), "end-of-sentence"),
            pad=find((PAD, names.get("pad_token")), "pad"),
            begin_of_image=find((BEGIN_OF_IMAGE,), "begin-of-image"),
            end_of_image=find((END_OF_IMAGE,), "end-of-image"),
            image=self.largest_id + 1 if image is None else image,
            user=self._whole.token_to_id(USER),
            assistant=self._whole.token_to_id(ASSISTANT),
        )


def _pass_on_endings(error: BaseException) -> None:
    """Raise again what ends the process; the tokenizers library panics with a BaseException of its own."""
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error


def _id_of(text: str, tokenizer: Tokenizer) -> int:
    """Return the id of a token that the tokenizer is known to have."""
    found = tokenizer.token_to_id(text)
    assert found is not None, text
    return int(found)


def _is_letter(added: dict[str, Any]) -> bool:
    """Tell whether an added token is a single letter; control tokens are longer, or marked as special."""
    return len(added["content"]) == 1 and not added.get("special", False)


def read_tokenizer(folder: Path) -> TextTokenizer:
    """Read the tokenizer of a model folder, or of a model in one file.

    Raises:
        CheckpointError: no `tokenizer.json`, a damaged one, or one that lacks a special token.
    """
    path = folder / TOKENIZER
    try:
        definition = read_model_text(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f'"{folder}" has no tokenizer.json{_other_tokenizer(folder)}. Download it from where the weights '
            "come from."
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'Cannot read "{path}": {error}. Fetch the file again.') from error
    if definition.startswith(_LFS_MARK):
        raise CheckpointError(
            f'"{path}" is a Git-LFS pointer of a few lines, not the tokenizer. Run "git lfs pull" in the '
            "folder, or download the file itself."
        )
    return TextTokenizer(definition, source=str(path), names=_special_names(folder))


def _other_tokenizer(folder: Path) -> str:
    """Name a tokenizer file of another kind, if there is one."""
    other = [name for name in ("tokenizer.model", "vocab.json") if (folder / name).exists()]
    return f"; its {other[0]} is another kind of tokenizer file" if other else ""


def _special_names(folder: Path) -> dict[str, str]:
    """Collect the names of special tokens from optional files, which may be damaged."""
    names: dict[str, str] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            content: Any = parse_json(read_model_text(folder / name))
        except (OSError, ValueError):
            continue
        for key in ("bos_token", "eos_token", "pad_token"):
            value = content.get(key) if isinstance(content, dict) else None
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                names[key] = text
    return names
