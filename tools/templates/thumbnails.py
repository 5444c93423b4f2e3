"""Makes the templates' thumbnails from what they give: `python -m tools.templates.thumbnails URL`.

A thumbnail is what a person gets: pictures and words, not nodes. A template that needs other models than the
bundled one shows what it does in words. The URL is that of a running ComfyUI.
"""

from __future__ import annotations

import io
import json
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .graph import Template
from .known import ALL

_PACK = Path(__file__).parents[2]
_SENT = _PACK / "tests" / "browser" / "golden"
_WIDTH, _HEIGHT, _MARGIN = 640, 400, 24
_GROUND, _INK, _FAINT = (52, 56, 66), (238, 238, 238), (165, 171, 183)
_TEXT_PX, _LABEL_PX = 24, 16
_LINE_PX = 32
_LABEL_WIDTH = 120
_PATIENCE_S = 300
_SHOW_PICTURES = ("PreviewImage", "JanusSaveCaptions")
_SHOW_TEXTS = ("PreviewAny", "JanusSaveCaptions")


@dataclass
class _Shown:
    """What a run shows: pictures with their labels, and lines of text."""

    pictures: list[tuple[str, Image.Image]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url) as reply:
        return bytes(reply.read())


def _run(server: str, name: str) -> dict[str, Any]:
    """Run a template and return what its nodes show."""
    sent = json.loads((_SENT / f"{name}.json").read_text(encoding="utf-8"))
    body = json.dumps({"prompt": sent}).encode()
    request = urllib.request.Request(f"{server}/prompt", data=body)
    with urllib.request.urlopen(request) as reply:
        number = json.load(reply)["prompt_id"]
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        done = json.loads(_get(f"{server}/history/{number}")).get(number)
        if done:
            if done["status"]["status_str"] != "success":
                raise RuntimeError(f'"{name}" failed: {done["status"]["messages"][-1]}')
            return dict(done["outputs"])
        time.sleep(0.2)
    raise RuntimeError(f'"{name}" did not end within {_PATIENCE_S} s')


def _shown(server: str, template: Template, outputs: dict[str, Any]) -> _Shown:
    shown = _Shown()
    for number, node in enumerate(template.nodes.values(), start=1):
        result = outputs.get(str(number), {})
        for found in result.get("images", ()) if node.kind in _SHOW_PICTURES else ():
            data = _get(f"{server}/view?{urllib.parse.urlencode(found)}")
            shown.pictures.append((node.title or "", Image.open(io.BytesIO(data)).convert("RGB")))
        for line in result.get("text", ()) if node.kind in _SHOW_TEXTS else ():
            shown.texts.append((node.title or "", str(line)))
        words = node.inputs.get("prompt")
        if isinstance(words, str):
            shown.texts.append(("Prompt", words))
        question = node.inputs.get("question")
        if isinstance(question, str) and question:
            shown.texts.append(("Question", question))
    shown.pictures.sort(key=lambda shown: shown[0].startswith("After"))  # what it was before comes first
    return shown


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _wrapped(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _card(pictures: Sequence[tuple[str, Image.Image]], texts: Sequence[tuple[str, str]]) -> Image.Image:
    """Lay pictures in a row over lines of text, which take what height they need."""
    card = Image.new("RGB", (_WIDTH, _HEIGHT), _GROUND)
    draw = ImageDraw.Draw(card)
    indent = _LABEL_WIDTH if any(label for label, _ in texts) else 0
    lines = [
        (label if number == 0 else "", line)
        for label, text in texts
        for number, line in enumerate(_wrapped(draw, text, _font(_TEXT_PX), _WIDTH - 2 * _MARGIN - indent))
    ]
    y = _MARGIN
    if pictures:
        below = len(lines) * _LINE_PX + _LABEL_PX + 2 * _MARGIN
        across = sum(one.width / one.height for _, one in pictures)  # heights that all need side by side
        room = (_WIDTH - _MARGIN * (len(pictures) + 1)) / across
        side = int(min(_HEIGHT - _MARGIN - below, room))
        y += _put_row(card, draw, pictures, side) + _LABEL_PX + _MARGIN // 2
    for label, line in lines:
        draw.text((_MARGIN, y + 6), label, _FAINT, _font(_LABEL_PX))
        draw.text((_MARGIN + indent, y), line, _INK, _font(_TEXT_PX))
        y += _LINE_PX
    return card


def _put_row(
    card: Image.Image, draw: ImageDraw.ImageDraw, pictures: Sequence[tuple[str, Image.Image]], side: int
) -> int:
    """Put pictures of one height side by side in the middle, each over its label; return the height."""
    widths = [round(side * one.width / one.height) for _, one in pictures]
    x = (_WIDTH - sum(widths) - _MARGIN * (len(widths) - 1)) // 2
    for (label, picture), width in zip(pictures, widths, strict=True):
        card.paste(picture.resize((width, side), Image.Resampling.LANCZOS), (x, _MARGIN))
        draw.text((x, _MARGIN + side + 4), label, _FAINT, _font(_LABEL_PX))
        x += width + _MARGIN
    return side


def _words(template: Template) -> list[tuple[str, str]]:
    """Say what a template does that cannot run here: the first sentences of its note."""
    title, *paragraphs = (" ".join(part.split()) for part in template.note.split("\n\n"))
    # the font that comes with Pillow has no sign for times
    plain = [part.replace("*", "").replace("`", "").replace("×", "x") for part in (title, *paragraphs)]
    return [("", text) for text in plain[:3]]


def main() -> None:
    """Write a thumbnail beside every template."""
    server = sys.argv[1]
    for name, template in ALL.items():
        if template.runs_as_installed():
            shown = _shown(server, template, _run(server, name))
        else:
            shown = _Shown(texts=_words(template))
        card = _card(shown.pictures, shown.texts)
        card.save(_PACK / "workflows" / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
