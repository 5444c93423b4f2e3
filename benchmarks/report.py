"""Results as JSON, one file per machine, merged row by row; the table and the plot are made from it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from janus_core import JanusConfig, build_model

from .rows import ROWS, Bench
from .timing import Timing

HERE = Path(__file__).parent
_START, _END = "<!-- results -->", "<!-- end of results -->"
_MB = 1e6
_CHANGED = "+"  # follows the commit where the code differs from it


def cpu_name() -> str:
    """Return the processor's model name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Return the name of the GPU or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def commit() -> str:
    """Return the measured commit, with a mark where tracked or new Python files differ from it.

    Outside a git checkout it is a digest of the files, which `keep` finds again where there is one.
    """
    name = _git("rev-parse", "--short", "HEAD")
    return name + _CHANGED * bool(_git("status", "--porcelain", "--", ":/*.py")) if name else _digest()


def _digest() -> str:
    """Return a name for the Python files that are measured and those that measure."""
    digest = hashlib.sha256()
    for folder in (HERE, HERE.parent / "janus_core"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(HERE.parent).as_posix().encode() + path.read_bytes())
    return f"files {digest.hexdigest()[:10]}"


def _git(*arguments: str) -> str:
    if shutil.which("git") is None:  # a machine that only has a copy of the files
        return ""
    command = ["git", "-C", str(HERE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def machine(device: torch.device) -> dict[str, Any]:
    """Return hardware, library versions and commit, kept with every row."""
    return {
        "device": device_name(device),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "commit": commit(),
    }


def results_file(device: torch.device) -> Path:
    """Return where this machine's results are kept."""
    name = device_name(device)
    if device.type == "cpu":
        name = f"{name}-{os.cpu_count()}-cores-{torch.backends.cpu.get_cpu_capability()}"
    return _file_of(name)


def _file_of(name: str) -> Path:
    return HERE / "results" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def step_bytes(config: JanusConfig, dtype: torch.dtype, rows: int = 2) -> int:
    """Return the bytes that one drawing step reads: decoder, generation head and a half-full cache.

    Args:
        config: the architecture.
        dtype: of weights and cache.
        rows: of the decoder, two for each picture.
    """
    language = build_model(config).language
    parts = (language.language_model.layers, language.generation_head, language.generation_aligner)
    entries = sum(parameter.numel() for part in parts for parameter in part.parameters())
    text = config.language
    # keys and values of every row, layer and slot
    cached = 2 * rows * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    return (entries + cached * config.num_image_tokens // 2) * dtype.itemsize


def read(path: Path) -> dict[str, Any]:
    """Return the content of a results file, `cells` and `checks`, or an empty one."""
    if not path.exists():
        return {"cells": {}, "checks": {}}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace a results file at once, so that it is whole whenever this process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def merge(path: Path, cell: str, row: str, found: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Put one row into a results file and return all of it."""
    return put(path, cell, row, {**found, **machine(device)})


def put(path: Path, cell: str, row: str, found: dict[str, Any]) -> dict[str, Any]:
    """Put one row, with the facts of its machine, into a results file and return all of it."""
    content = read(path)
    content["cells"].setdefault(cell, {})[row] = found
    write(path, content)
    return content


def note_check(path: Path, size: str, found: dict[str, Any]) -> None:
    """Remember that the contenders computed the same at this commit."""
    content = read(path)
    content["checks"][size] = {**found, "commit": commit()}
    write(path, content)


def is_checked(path: Path, size: str, contenders: set[str]) -> bool:
    """Tell whether these contenders were compared at this commit and no file has changed since."""
    check, now = read(path)["checks"].get(size, {}), commit()
    is_same = check.get("commit") == now and not now.endswith(_CHANGED)
    return is_same and contenders <= set(check["contenders"])


def described(
    name: str, bench: Bench, timings: dict[str, Timing], dtype: torch.dtype, common: dict[str, Any]
) -> dict[str, Any]:
    """Return the timings of a row as its results hold them, with what they mean."""
    row, work = ROWS[name], bench.work
    found: dict[str, Any] = {
        "title": row.title.format(**asdict(work)),
        "unit": row.unit,
        "count": row.count(work),
        "timings": {who: asdict(timing) for who, timing in timings.items()},
    }
    if name == "later_steps":  # mid-picture steps take about the mean of all steps of a picture
        found["picture_steps"] = bench.size.config.num_image_tokens
    if row.steps(work):
        read = step_bytes(bench.size.config, dtype, row.rows(work)) * row.steps(work)
        bandwidth = common["copy_gb_per_s"] * 1e9
        found["bandwidth_share"] = {
            who: round(read / timing.median_s / bandwidth, 3) for who, timing in timings.items()
        }
    return found


def table(content: dict[str, Any]) -> str:
    """Return all rows as Markdown: our rate, and how many times as long each other contender takes."""
    lines: list[str] = []
    for cell, rows in content["cells"].items():
        last = list(rows.values())[-1]
        lines += [f"\n**{last['device']}: {cell}**\n"]
        lines += ["| row | ours | the others take | of copy bandwidth | memory | before | repeats | commit |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        lines += [_line(row) for row in rows.values()]
        native = "with" if last["bf16"] else "without"
        lines.append(
            f"\n{last['cpu']}, {last['cores']} cores, {last['capability']}, {native} bfloat16; "
            f"torch {_all(rows, 'torch')}, transformers {_all(rows, 'transformers')}."
        )
        lines += _half_precision(rows)
    for size, check in content["checks"].items():
        lines.append(
            f"\nIn float32, {size}: {check['image_tokens']} greedy image tokens and {check['answer_tokens']} "
            f"of an answer equal for {', '.join(check['contenders'])}; pixels within "
            f"{check['largest_pixel_difference']:.0e}."
        )
    return "\n".join(lines) + "\n"


def _all(rows: dict[str, Any], name: str) -> str:
    """Return the distinct values of a column: rows may come from different days."""
    return " and ".join(sorted({row[name] for row in rows.values()}))


def _half_precision(rows: dict[str, Any]) -> list[str]:
    """Say where greedy tokens first differ in half precision, and by what margin."""
    found: dict[str, dict[str, Any]] = next(
        (row["near_ties"] for row in rows.values() if "near_ties" in row), {}
    )
    parts = []
    for who, tie in found.items():
        place = tie["first_difference"]
        near = "" if place is None else f" by {tie['margin']:.3f} where logits spread by {tie['spread']:.2f}"
        told = f"no difference in {tie['compared']}" if place is None else f"token {place}, a tie{near}"
        parts.append(f"{who}: {told}")
    return [f"\nFirst difference of greedy tokens from ours: {'; '.join(parts)}."] if parts else []


def _line(row: dict[str, Any]) -> str:
    ratios = ", ".join(f"{value:.2f} × ({name})" for name, value in ratios_of(row).items())
    rate = row["count"] / row["timings"]["ours"]["median_s"]
    shares = ", ".join(f"{share:.0%} ({name})" for name, share in row.get("bandwidth_share", {}).items())
    shares += f" of {row['copy_gb_per_s']} GB/s" if shares else ""
    memory = ", ".join(f"{size / _MB:.0f} MB ({name})" for name, size in row.get("bytes", {}).items())
    before = ", ".join(
        f"{timing.get('warm_up_s', 0):.1f} s ({name})" for name, timing in row["timings"].items()
    )
    captured = row["timings"]["ours"].get("capture_s", 0)
    seconds = row["timings"]["ours"]["median_s"]
    ours = f"{seconds:.3g} s, {rate:.3g} {row['unit']}/s"
    if "picture_steps" in row:
        ours += f", a picture of {row['picture_steps']} in {row['picture_steps'] / rate:.3g} s"
    ours += f", graphs captured in {captured:.2g} s" if captured else ""
    fields = (row["title"], ours, ratios, shares, memory, before, str(row["repeats"]), row["commit"])
    return f"| {' | '.join(fields)} |"


def ratios_of(row: dict[str, Any]) -> dict[str, float]:
    """Return how many times as long as ours each other contender takes."""
    seconds = {name: timing["median_s"] for name, timing in row["timings"].items()}
    return {name: value / seconds["ours"] for name, value in seconds.items() if name != "ours"}


def keep(folder: Path) -> Path:
    """Keep what `benchmarks.card` measured: its parts become the results of that card, the page is rewritten.

    What was measured in a copy of these very files gets their commit.

    Args:
        folder: with `part-1.json`, `part-2.json` or both.

    Returns: the results file.
    """
    kept: dict[str, Any] = {"cells": {}, "checks": {}}
    for path in sorted(folder.glob("part-*.json")):
        part = read(path)
        kept["checks"] |= part["checks"]
        for cell, rows in part["cells"].items():
            kept["cells"].setdefault(cell, {}).update(rows)
    every = [row for rows in kept["cells"].values() for row in rows.values()]
    named = {_digest(): commit()}
    for found in [*every, *kept["checks"].values()]:
        found["commit"] = named.get(found["commit"], found["commit"])
    [device] = {row["device"] for row in every}
    write(_file_of(device), kept)
    write_readme()
    return _file_of(device)


def write_readme() -> None:
    """Replace the tables in benchmarks/README.md by those of all machines."""
    page = HERE / "README.md"
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(page: str) -> str:
    """Return a page with the tables of all machines between its marks."""
    tables = "\n".join(table(read(path)) for path in sorted((HERE / "results").glob("*.json")))
    head, rest = page.split(_START)
    return f"{head}{_START}\n{tables}\n{_END}{rest.split(_END)[1]}"
