"""A bar chart of the ratios to our time, one bar per row and contender, as a PNG; needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .report import ratios_of


def plot(content: dict[str, Any], path: Path) -> bool:
    """Write the chart; return False where matplotlib is missing or no contender was timed beside ours."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")  # draws without a display
    from matplotlib import pyplot as plt

    bars = [
        (f"{cell}: {name}, {who}", ratio)
        for cell, rows in content["cells"].items()
        for name, row in rows.items()
        for who, ratio in ratios_of(row).items()
    ]
    if not bars:
        return False
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(bars) + 1))
    labels, ratios = zip(*reversed(bars), strict=True)
    axes.barh(labels, ratios)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("time over ours")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return True
