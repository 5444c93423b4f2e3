"""Pictures of how a training run goes: a loss curve for each stage, and grids of what the model makes.

Drawn with pillow alone. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from janus_core.inputs.preprocessing import to_uint8

_WIDTH_PX, _HEIGHT_PX, _MARGIN_PX = 640, 240, 44
_PAPER, _INK, _LINE = "white", "#222222", "#dddddd"
_COLOURS = ("#1f6fb4", "#d1622b", "#3c8d40", "#8a4fa3")
_POINTS = 200  # of one curve; steps between are averaged

Curves = dict[str, list[tuple[int, float]]]


def read_curves(log: Path) -> dict[str, Curves]:
    """Read a run's log: for each stage the named losses as (step, loss); a torn last line is left out."""
    stages: dict[str, Curves] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        curves = stages.setdefault(str(entry["stage"]), {})
        for name, loss in entry.get("losses", {}).items():  # gates have none
            curves.setdefault(name, []).append((int(entry["step"]), float(loss)))
    return stages


def draw_curves(stages: dict[str, Curves]) -> Image.Image:
    """Draw one panel for each stage, losses on a logarithmic axis."""
    sheet = Image.new("RGB", (_WIDTH_PX, _HEIGHT_PX * max(len(stages), 1)), _PAPER)
    for index, (stage, curves) in enumerate(stages.items()):
        sheet.paste(_panel(stage, curves), (0, index * _HEIGHT_PX))
    return sheet


def _panel(stage: str, curves: Curves) -> Image.Image:
    panel = Image.new("RGB", (_WIDTH_PX, _HEIGHT_PX), _PAPER)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(12)
    thin = {name: _thin_out(points) for name, points in curves.items()}
    losses = [loss for points in thin.values() for _, loss in points]
    low, high = math.floor(math.log10(min(losses))), math.ceil(math.log10(max(losses) * 1.001))
    last_step = max(step for points in thin.values() for step, _ in points)
    bottom = _HEIGHT_PX - _MARGIN_PX

    def place(step: float, loss: float) -> tuple[float, float]:
        x = _MARGIN_PX + (_WIDTH_PX - 2 * _MARGIN_PX) * step / last_step
        return x, bottom - (bottom - _MARGIN_PX) * (math.log10(loss) - low) / max(high - low, 1)

    for power in range(low, high + 1):
        y = place(0, 10**power)[1]
        draw.line((_MARGIN_PX, y, _WIDTH_PX - _MARGIN_PX, y), fill=_LINE)
        draw.text((4, y - 7), f"{10**power:g}", fill=_INK, font=font)
    draw.text((_MARGIN_PX, 6), f"stage {stage}", fill=_INK, font=font)
    draw.text((_WIDTH_PX - _MARGIN_PX - 60, bottom + 6), f"{last_step} steps", fill=_INK, font=font)
    for index, (name, points) in enumerate(thin.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        draw.line([place(*point) for point in points], fill=colour, width=2)
        draw.text((_MARGIN_PX + 130 * index, 22), f"{name} {points[-1][1]:.3g}", fill=colour, font=font)
    return panel


def _thin_out(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Average neighbours until few enough points remain; none is zero, which a logarithmic axis lacks."""
    size = -(-len(points) // _POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], max(sum(loss for _, loss in group) / len(group), 1e-6)) for group in groups]


def picture_grid(images: Tensor, columns: int, picture_px: int = 96) -> Image.Image:
    """Lay pictures (b, h, w, 3) in 0..1 out in rows, enlarged to `picture_px`."""
    levels = to_uint8(images)
    step = picture_px + 4
    rows = -(-len(levels) // columns)
    sheet = Image.new("RGB", (columns * step + 4, rows * step + 4), _PAPER)
    for index, samples in enumerate(levels):
        picture = Image.fromarray(samples).resize((picture_px, picture_px), Image.Resampling.NEAREST)
        sheet.paste(picture, (index % columns * step + 4, index // columns * step + 4))
    return sheet
