"""Results as JSON that grows row by row, one file a machine; the table and the plot are read from it."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch
import transformers

from janus_core import JanusConfig, build_model

HERE = Path(__file__).parent
_START, _END = "<!-- results -->", "<!-- end of results -->"
_MB = 1e6


def cpu_name() -> str:
    """Return what the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Return what a reader needs to judge the figures."""
    command = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "commit": commit or "unknown",
    }


def results_file() -> Path:
    """Return where this machine's results are kept."""
    name = f"{cpu_name()}-{os.cpu_count()}-cores-{torch.backends.cpu.get_cpu_capability()}"
    return HERE / "results" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def step_bytes(config: JanusConfig, dtype: torch.dtype) -> int:
    """Return the bytes that one drawing step reads: decoder and generation head, and the cache half full."""
    language = build_model(config).language
    parts = (language.language_model.layers, language.generation_head, language.generation_aligner)
    entries = sum(parameter.numel() for part in parts for parameter in part.parameters())
    text = config.language
    cached = 2 * 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    return (entries + cached * config.num_image_tokens // 2) * dtype.itemsize


def merge(path: Path, cell: str, row: str, found: dict[str, Any]) -> dict[str, Any]:
    """Put one row into a results file and return all of it."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content.setdefault(cell, {})[row] = {**found, **machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def table(content: dict[str, Any]) -> str:
    """Return all rows as Markdown: our rate, and how many times as long each other contender takes."""
    lines: list[str] = []
    for cell, rows in content.items():
        heads = "| row | ours | the others take | of copy bandwidth | private memory | repeats |"
        lines += [f"\n**{cell}**\n", heads, "|---|---|---|---|---|---|"]
        lines += [_line(row) for row in rows.values()]
        last = list(rows.values())[-1]
        native = "with" if last["bf16"] else "without"
        lines.append(
            f"\n{last['cpu']}, {last['cores']} cores, {last['capability']}, {native} bfloat16; copies at "
            f"{last['copy_gb_per_s']} GB/s; torch {last['torch']}, transformers {last['transformers']}, "
            f"commit {last['commit']}."
        )
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    ratios = ", ".join(f"{value:.2f} × ({name})" for name, value in ratios_of(row).items())
    rate = row["count"] / row["timings"]["ours"]["median_s"]
    shares = ", ".join(f"{share:.0%} ({name})" for name, share in row.get("bandwidth_share", {}).items())
    private = ", ".join(
        f"{size / _MB:.0f} MB ({name})" for name, size in row.get("private_bytes", {}).items()
    )
    cells = (row["title"], f"{rate:.3g} {row['unit']}/s", ratios, shares, private, str(row["repeats"]))
    return f"| {' | '.join(cells)} |"


def ratios_of(row: dict[str, Any]) -> dict[str, float]:
    """Return how many times as long as ours each other contender takes."""
    seconds = {name: timing["median_s"] for name, timing in row["timings"].items()}
    return {name: value / seconds["ours"] for name, value in seconds.items() if name != "ours"}


def write_readme(content: dict[str, Any]) -> None:
    """Replace the table in benchmarks/README.md."""
    page = HERE / "README.md"
    head, rest = page.read_text(encoding="utf-8").split(_START)
    page.write_text(f"{head}{_START}\n{table(content)}\n{_END}{rest.split(_END)[1]}", encoding="utf-8")
