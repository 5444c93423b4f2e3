"""Draws icon and banner of the pack: `make brand`.

Two faces of one head: one looks at a picture, the other is made of image tokens. Shapes are numbers in this
file, letters are strokes, so that the SVGs need no font and look the same everywhere.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parents[1] / "docs" / "brand"
ICON_PX = 400
BANNER_PX = (1344, 576)

# The right half of the head, in a square of 400, from the top of the skull along the profile to the neck.
_PROFILE = (
    "M200 58C262 56 306 94 311 146C312.5 160 309 168 309.5 176C310 188 326 206 336 221"
    "C341 229 337 235 329 236C323 237 316 236 315.5 241C315 246 323 248 323.5 253"
    "C324 257 317 257.5 316.5 260C316 263 322.5 264 322 270C321.5 276 314 276 314.5 283"
    "C315 290 319 296 313 305C307 314 296 314 286 315C273 316.5 267 324 268 342"
    "C269 366 280 384 296 402L200 402Z"
)
_PITCH, _CELL = 19, 16  # of the image tokens, in the same square
_EYE = (4, 9)  # column and row
_GROUND = ("#171a2c", "#2b2350")
_SEEING = ("#ffd27a", "#ff8a5c")
_DRAWING = ("#35c8c0", "#5b7cfa", "#a66bf0")
_BEHIND = "#3d3f86"
_INK = "#f3efe6"

# Letters of one stroke width, by their centre lines: x-height 100, baseline at 100; each with its width.
_LETTERS = {
    "J": ("M52 -46V62A38 38 0 0 1 -20 74", 52),
    "a": ("M100 50A50 50 0 1 1 0 50A50 50 0 1 1 100 50M100 0V100", 100),
    "d": ("M100 50A50 50 0 1 1 0 50A50 50 0 1 1 100 50M100 -52V100", 100),
    "e": ("M0 50H100A50 50 0 1 0 86 85", 100),
    "n": ("M0 0V100M0 50A46 50 0 0 1 92 50V100", 92),
    "r": ("M0 0V100M0 50A46 50 0 0 1 50 1", 46),
    "s": ("M60 17A27 25 0 1 0 35 50A27 25 0 1 1 9 83", 66),
    "u": ("M0 0V50A46 50 0 0 0 92 50M92 0V100", 92),
    "w": ("M0 0L30 100L60 8L90 100L120 0", 120),
}
_SPACE, _BETWEEN = 62, 38


def _mixed(first: str, second: str, share: float) -> str:
    """Return a colour between two, as #rrggbb."""
    pairs = zip((first[1:3], first[3:5], first[5:7]), (second[1:3], second[3:5], second[5:7]), strict=True)
    return "#" + "".join(f"{round(int(a, 16) * (1 - share) + int(b, 16) * share):02x}" for a, b in pairs)


def _token_colour(column: int, row: int) -> str:
    """Return the colour of an image token: along the palette from top to bottom, and a little aside."""
    aside = math.sin(column * 12.9898 + row * 78.233) * 43758.5453
    place = min(max(row / 20 + 0.20 * (aside - math.floor(aside) - 0.5), 0.0), 0.999) * (len(_DRAWING) - 1)
    low = int(place)
    colour = _mixed(_DRAWING[low], _DRAWING[low + 1], place - low)
    return _mixed(colour, "#ffffff", 0.25 * (math.sin(column * 5.1 + row * 3.7) > 0.72))


def _tokens() -> str:
    """Draw the squares of the right half; one of them is its eye."""
    squares = [
        f'<rect x="{203 + _PITCH * column}" y="{3 + _PITCH * row}" width="{_CELL}" height="{_CELL}" rx="3"'
        f' fill="{_INK if (column, row) == _EYE else _token_colour(column, row)}"/>'
        for row in range(21)
        for column in range(8)
    ]
    return "".join(squares)


def _head() -> str:
    """Draw both faces in a square of 400: the left one whole, the right one in tokens."""
    eye = (
        f'<path d="M92 180C104 165 126 163 140 174C128 188 106 191 92 180Z" fill="{_INK}"/>'
        f'<circle cx="114" cy="177" r="9.5" fill="{_GROUND[0]}"/>'
    )
    return (
        f'<g transform="translate(400 0) scale(-1 1)"><path d="{_PROFILE}" fill="url(#seeing)"/></g>{eye}'
        f'<g clip-path="url(#face)"><path d="{_PROFILE}" fill="{_BEHIND}"/>{_tokens()}</g>'
    )


def _definitions(width: int, height: int) -> str:
    def gradient(name: str, colours: tuple[str, ...], x2: int, y2: int) -> str:
        stops = "".join(
            f'<stop offset="{number / (len(colours) - 1):.2f}" stop-color="{colour}"/>'
            for number, colour in enumerate(colours)
        )
        place = f'gradientUnits="userSpaceOnUse" x1="0" y1="0" x2="{x2}" y2="{y2}"'
        return f'<linearGradient id="{name}" {place}>{stops}</linearGradient>'

    return (
        f"<defs>{gradient('ground', _GROUND, width, height)}{gradient('seeing', _SEEING, 0, ICON_PX)}"
        f'<clipPath id="face"><path d="{_PROFILE}"/></clipPath></defs>'
    )


def written(text: str) -> tuple[str, float]:
    """Return a text as one path, from x 0, and its width."""
    paths, x = [], 0.0
    for letter in text:
        if letter == " ":
            x += _SPACE
            continue
        path, width = _LETTERS[letter]
        paths.append(f'<path transform="translate({x:g} 0)" d="{path}"/>')
        x += width + _BETWEEN
    return "".join(paths), x - _BETWEEN


def _line(text: str, x: float, y: float, height: float, stroke: float, colour: str) -> str:
    """Draw a line of letters whose x-height is `height`, its baseline at `y`."""
    path, _ = written(text)
    scale = height / 100
    return (
        f'<g transform="translate({x:g} {y - height:g}) scale({scale:g})" fill="none" stroke="{colour}"'
        f' stroke-width="{stroke / scale:g}" stroke-linecap="round" stroke-linejoin="round">{path}</g>'
    )


def _svg(width: int, height: int, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}">{_definitions(width, height)}{content}</svg>\n'
    )


def icon() -> str:
    """Return the icon as SVG: the head on a rounded square, cut off at its lower edge."""
    return _svg(
        ICON_PX,
        ICON_PX,
        f'<clipPath id="edge"><rect width="{ICON_PX}" height="{ICON_PX}" rx="84"/></clipPath>'
        f'<g clip-path="url(#edge)"><rect width="{ICON_PX}" height="{ICON_PX}" fill="url(#ground)"/>'
        f'<g transform="translate(-30 -18) scale(1.15)">{_head()}</g></g>',
    )


def banner() -> str:
    """Return the banner as SVG: the head, the name, and what the model does."""
    width, height = BANNER_PX
    return _svg(
        width,
        height,
        f'<rect width="{width}" height="{height}" fill="url(#ground)"/>'
        f'<g transform="translate(62 20) scale(1.4)">{_head()}</g>'
        f"{_line('Janus', 700, 322, 98, 21, _INK)}"
        f"{_line('sees and draws', 690, 428, 32, 6, _DRAWING[0])}",
    )


def _paint(chromium: str, svg: Path, size: tuple[int, int]) -> None:
    """Have a browser paint an SVG as the PNG beside it, without a ground of its own."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    ground, window = "--default-background-color=00000000", f"--window-size={size[0]},{size[1]}"
    png = svg.with_suffix(".png")
    command = [chromium, *flags, ground, window, f"--screenshot={png}", svg.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(png) as picture:
        picture.load()
    picture.save(png, optimize=True)


def main() -> None:
    """Write both as SVG, and as PNG where a Chromium is named on the command line."""
    FOLDER.mkdir(exist_ok=True)
    for name, svg, size in (("icon", icon(), (ICON_PX, ICON_PX)), ("banner", banner(), BANNER_PX)):
        path = FOLDER / f"{name}.svg"
        path.write_text(svg, encoding="utf-8")
        for chromium in sys.argv[1:2]:
            _paint(chromium, path, size)


if __name__ == "__main__":
    main()
