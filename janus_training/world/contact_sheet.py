"""Many pictures on one sheet, each with its text below, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from janus_core.errors import ImageError

from .rendering import Picture

_PAPER, _INK = (255, 255, 255), (20, 20, 20)
_MARGIN_PX, _FONT_PX = 10, 13
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    pictures: Sequence[Picture], captions: Sequence[str], columns: int = 6, picture_px: int = 160
) -> Image.Image:
    """Lay pictures out in rows, each enlarged to `picture_px` with its caption wrapped below.

    Args:
        pictures: each (h, w, 3) in 0..1.
        captions: one for each picture; a line break starts a new line.
        columns: pictures in one row.
        picture_px: side of each on the sheet.

    Raises: ImageError if there is no picture, or not one caption for each.
    """
    if not len(pictures) or len(pictures) != len(captions):
        raise ImageError(
            f"A contact sheet needs one caption for each picture; got {len(pictures)} and {len(captions)}."
        )
    font = ImageFont.load_default(_FONT_PX)
    labels = [_wrap(text, font, picture_px) for text in captions]
    columns = min(columns, len(pictures))
    line_px = _FONT_PX + 4
    label_px = max(label.count("\n") + 1 for label in labels) * line_px
    cell = picture_px + _MARGIN_PX, picture_px + label_px + 2 * _MARGIN_PX
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + _MARGIN_PX, rows * cell[1] + _MARGIN_PX), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = index % columns * cell[0] + _MARGIN_PX, index // columns * cell[1] + _MARGIN_PX
        sheet.paste(_enlarge(picture, picture_px), (left, top))
        draw.multiline_text((left, top + picture_px + 4), label, fill=_INK, font=font, spacing=4)
    return sheet


def _enlarge(picture: Picture, side_px: int) -> Image.Image:
    levels = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(levels).resize((side_px, side_px), Image.Resampling.NEAREST)


def _wrap(text: str, font: _Font, width_px: int) -> str:
    """Break lines so that each fits the width; a longer word gets a line of its own."""
    return "\n".join(line for part in text.split("\n") for line in _wrap_line(part, font, width_px))


def _wrap_line(text: str, font: _Font, width_px: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines or [""]
