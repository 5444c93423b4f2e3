"""What is asked of a picture for its caption: a built-in style, a person's own, or a question.

A person's own styles stand in a file `captions.toml`. Knows nothing of where such files lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import ConfigError, PromptError
from ..reading import read_small_file
from .pictures import Picture
from .prompting import CAPTION_STYLES, CUSTOM_STYLE, caption_request
from .turns import Turn

RAW_STYLE = "raw"  # the question is the whole prompt
_RESERVED = (*CAPTION_STYLES, CUSTOM_STYLE, RAW_STYLE)
_KEYS = ("ask", "raw")


@dataclass(frozen=True, kw_only=True)
class CaptionRequest:
    """What is asked of every picture.

    Attributes:
        text: the question, or the whole prompt.
        is_raw: it is the whole prompt, sent without the chat template.
    """

    text: str
    is_raw: bool = False

    def about(self, picture: Picture) -> tuple[Turn]:
        """Return the conversation that asks this of a picture."""
        return (Turn(role="user", text=self.text, images=(picture,), is_raw=self.is_raw),)


def style_names(presets: Mapping[str, CaptionRequest]) -> list[str]:
    """Return every style that can be chosen, a person's own behind the built-in ones."""
    return [*CAPTION_STYLES, *presets, CUSTOM_STYLE, RAW_STYLE]


def request_for(
    style: str, question: str = "", presets: Mapping[str, CaptionRequest] | None = None
) -> CaptionRequest:
    """Return what a style asks, and behind it what a person asks besides.

    Args:
        style: one of `style_names`. The custom style asks the question alone, and the raw style sends it
            without the chat template.
        question: may be empty.
        presets: a person's own styles.

    Raises:
        PromptError: there is no such style, or nothing to ask.
    """
    presets = presets or {}
    known = style_names(presets)
    if style not in known:
        raise PromptError(f'There is no caption style "{style!s:.80}". Choose one of {", ".join(known)}.')
    if style in (CUSTOM_STYLE, RAW_STYLE) and not question.strip():
        raise PromptError(
            f'The caption style "{style}" asks nothing by itself, and the question is empty. Write what you '
            "want to know, or choose another style."
        )
    if style == RAW_STYLE:
        return CaptionRequest(text=question, is_raw=True)
    if style in presets:
        preset = presets[style]
        text = f"{preset.text} {question}" if question.strip() else preset.text
        return CaptionRequest(text=text, is_raw=preset.is_raw)
    return CaptionRequest(text=caption_request(style, question))


def read_presets(path: Path) -> dict[str, CaptionRequest]:
    """Read a person's own styles: `name = "question"`, or a table with `ask` and `raw`.

    Raises:
        ConfigError: the file cannot be read, or says something else; the message names the line.
    """
    content = _text_of(path)
    loads, failure = _toml()
    try:
        parsed: dict[str, Any] = loads(content)
    except (failure, ValueError, RecursionError) as error:  # too many digits, or nested too deeply
        raise ConfigError(f'"{path}" is not valid TOML: {error!s:.200}. Correct the file.') from error
    presets = {}
    for name, value in parsed.items():
        try:
            presets[name] = _preset(name, value)
        except _WrongKeyError as error:
            line = _line(content, name, error.key)
            raise ConfigError(f'Line {line} of "{path}": {error}. Correct the file.') from error
    return presets


class _WrongKeyError(ValueError):
    """A style in the file is not as it should be; `key` tells where, if it is in the style's table."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


def _preset(name: str, value: Any) -> CaptionRequest:
    if name in _RESERVED or not name.strip():
        raise _WrongKeyError(f'"{name}" is the name of a built-in style; give yours another one')
    table = {"ask": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        raise _WrongKeyError(f'the style "{name}" must be a question in quotes, or a table with ask and raw')
    for key in table:
        if key not in _KEYS:
            raise _WrongKeyError(f'the style "{name}" has the key "{key}"; it can have ask and raw', key)
    ask, is_raw = table.get("ask"), table.get("raw", False)
    if not isinstance(ask, str) or not ask.strip():
        raise _WrongKeyError(f'the style "{name}" needs a question in quotes: ask = "…"', "ask")
    if not isinstance(is_raw, bool):
        raise _WrongKeyError(f'raw of the style "{name}" must be true or false', "raw")
    return CaptionRequest(text=ask, is_raw=is_raw)


def _text_of(path: Path) -> str:
    """Return the content of a file that may begin with a byte order mark."""
    try:
        content = read_small_file(path)
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f'Line {line} of "{path}" is not UTF-8. Save the file as UTF-8.') from error
    except OSError as error:
        raise ConfigError(f'Cannot read "{path}": {error}. Correct or remove it.') from error


def _toml() -> tuple[Any, type[Exception]]:
    """Return the reader of TOML and its error.

    Python 3.10 has none. There the package tomli is used if it is installed, which is the same reader; one of
    our own would be a second dialect, and a dependency for everybody would serve the few who have both that
    Python and a file of styles.
    """
    for name in ("tomllib", "tomli"):
        try:
            module = import_module(name)
        except ImportError:
            continue
        return module.loads, module.TOMLDecodeError
    raise ConfigError(
        "captions.toml cannot be read: this Python has no reader for TOML. Install one "
        "(pip install tomli), or use Python 3.11 or newer."
    )


def _line(content: str, name: str, key: str = "") -> int:
    """Return the number of the line where a style begins, or where a key of it stands."""
    lines = content.split("\n")
    start = next((at for at, line in enumerate(lines) if _begins(line, name)), 0)
    if key:
        within = (at for at, line in enumerate(lines) if at >= start and _begins(line, key, name))
        return next(within, start) + 1
    return start + 1


def _begins(line: str, name: str, before: str = "") -> bool:
    """Tell whether a line begins with a name, bare or in quotes, as a table or a key."""
    front = rf"(?:[\"']?{re.escape(before)}[\"']?\s*[.=]\s*\{{?\s*)?" if before else ""
    return re.match(rf"\s*\[?\s*{front}[\"']?{re.escape(name)}[\"']?\s*[\].=]", line) is not None
