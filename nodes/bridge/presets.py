"""A person's own caption styles: `captions.toml` in the user directory or the model folder."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import folder_paths

from ...janus_core import CaptionRequest, ConfigError, PromptError, read_presets, request_for, style_names
from .folders import KEY

log = logging.getLogger("janus.presets")

FILE = "captions.toml"


@dataclass(frozen=True, kw_only=True)
class Presets:
    """What the files say.

    Attributes:
        styles: by name; the user directory's before those of model folders.
        problems: why a file is not used, in words for the person.
    """

    styles: Mapping[str, CaptionRequest]
    problems: tuple[str, ...]


def places() -> list[Path]:
    """List where a file of styles may lie, the one that counts most first."""
    user = Path(folder_paths.get_user_directory()) / "janus"
    return [user / FILE, *(Path(folder) / FILE for folder in folder_paths.get_folder_paths(KEY))]


def presets() -> Presets:
    """Return the person's own styles. ComfyUI asks often; a file is read again when it has changed."""
    there = [path for path in places() if path.is_file()]
    return _read(tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in there))


@lru_cache(maxsize=4)
def _read(files: tuple[tuple[Path, int, int], ...]) -> Presets:
    styles: dict[str, CaptionRequest] = {}
    problems = []
    for path, _, _ in files:
        try:
            styles = {**read_presets(path), **styles}
        except ConfigError as error:  # told where styles are used; a node without its combo would be worse
            log.warning("Janus: %s", error)
            problems.append(str(error))
    return Presets(styles=styles, problems=tuple(problems))


def style_choices() -> list[str]:
    """List the styles that a combo offers."""
    return style_names(presets().styles)


def request(style: str, question: str) -> CaptionRequest:
    """Return what a style asks, and behind it what a person asks besides.

    Raises:
        PromptError: there is no such style; where a file of styles is at fault, the message says so.
    """
    known = presets()
    try:
        return request_for(style, question, known.styles)
    except PromptError as error:
        if style in style_names(known.styles) or not known.problems:
            raise
        hint = f"It may stand in a file that cannot be used: {known.problems[0]}"
        raise PromptError(f"{error} {hint}") from error


def check_style(style: str | None) -> bool | str:
    """Return True, or why a style cannot be used; None is a style that arrives along a link."""
    if style is None or style in style_choices():
        return True
    try:
        request(style, "")
    except PromptError as error:
        return str(error)
    return True


def style_state(style: str | None) -> str:
    """Return what changes when a person rewrites the style in the file; text, since ComfyUI saves it."""
    preset = None if style is None else presets().styles.get(style)
    return "" if preset is None else hashlib.sha256(repr(preset).encode()).hexdigest()[:16]
