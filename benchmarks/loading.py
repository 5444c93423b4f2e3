"""Load time and private memory, each measured in a fresh process.

Private memory is the peak of RssAnon, polled from the parent process; weights mapped from a file are page
cache, not private. Linux only: elsewhere the figure is 0.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .sizes import Size
from .timing import Clock
from .weights import FileKind, make_folders

_PAGE_ENTRIES = 1024  # float32 entries of one memory page
READY = "ready"


def touch(tensors: Iterable[Tensor]) -> None:
    """Read one entry of every page, as the first use would."""
    for tensor in tensors:
        tensor.detach().flatten()[::_PAGE_ENTRIES].sum()


def _bare(folder: Path, dtype: torch.dtype) -> None:
    """Map the file, convert where needed, assign to a meta-device model: the least a loader can do."""
    from safetensors.torch import load_file

    from janus_core import build_model
    from janus_core.checkpoints.config_files import parse_authors
    from janus_core.checkpoints.names import published_names, to_ours

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = build_model(parse_authors(config, {}, {}))
    if (folder / "model.safetensors").exists():
        published = load_file(folder / "model.safetensors")
    else:
        published = torch.load(folder / "pytorch_model.bin", mmap=True, weights_only=True, map_location="cpu")
    weights = {
        ours: to_ours([published[name] for name in published_names(ours, "authors")], ours)
        for ours in model.state_dict()
    }
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, assign=True)
    touch(model.parameters())


def _ours(folder: Path, dtype: torch.dtype) -> None:
    """Load and convert: without a task, weights stored in another dtype would stay unconverted."""
    from janus_core import load_janus

    janus = load_janus(folder, dtype=dtype, device="cpu")
    if next(janus.model.language.parameters()).dtype != dtype:
        janus.bring_all()
    touch(janus.model.parameters())


def _transformers(folder: Path, dtype: torch.dtype) -> None:
    from transformers import JanusForConditionalGeneration

    touch(JanusForConditionalGeneration.from_pretrained(folder, dtype=dtype).parameters())


LOADERS: dict[str, Callable[[Path, torch.dtype], None]] = {
    "ours": _ours,
    "transformers": _transformers,
    "bare": _bare,
}


@dataclass(frozen=True, kw_only=True)
class LoadRow:
    """One way in which files may lie.

    Attributes:
        file: their kind.
        stored: the dtype they hold; None is the one that runs.
    """

    file: FileKind
    stored: torch.dtype | None


LOAD_ROWS = {
    "load": LoadRow(file="safetensors", stored=None),
    "load_bin": LoadRow(file="bin", stored=None),
    "load_converted": LoadRow(file="safetensors", stored=torch.bfloat16),
}


def time_loading(
    row: str, size: Size, dtype: torch.dtype, workdir: Path, repeats: int, clock: Clock
) -> dict[str, Any]:
    """Load in turns, each time in a new process; the first turn fills the page cache and is not counted.

    Args:
        row: a key of `LOAD_ROWS`.
        size: of the model.
        dtype: that it runs in.
        workdir: where folders are made.
        repeats: 0 is 3.
        clock: as in `Stopwatch`.
    """
    file, stored = LOAD_ROWS[row].file, LOAD_ROWS[row].stored or dtype
    folders, times = make_folders(size, stored, workdir, file), repeats or 3
    found: dict[str, list[dict[str, float]]] = {who: [] for who in LOADERS}
    for _ in range(times + 1):
        for who in LOADERS:
            folder = folders.native if who == "transformers" else folders.authors
            found[who].append(measure(who, folder, dtype))
    seconds = {who: [one[f"{clock}_s"] for one in several] for who, several in found.items()}
    written = sum(path.stat().st_size for path in folders.authors.iterdir())
    return {
        "title": f"Load {written / 1e6:.0f} MB of {str(stored).removeprefix('torch.')} {file}, touch all",
        "unit": "models",
        "count": 1,
        "repeats": times,
        "timings": {
            who: {"median_s": statistics.median(s[1:]), "fastest_s": min(s[1:]), "warm_up_s": s[0]}
            for who, s in seconds.items()
        },
        "bytes": {
            who: statistics.median(one["private_bytes"] for one in several[1:])
            for who, several in found.items()
        },
    }


def measure(who: str, folder: Path, dtype: torch.dtype) -> dict[str, float]:
    """Run one loader in a new process.

    Returns: `wall_s` and `cpu_s` without the imports, and `private_bytes` at the peak.
    """
    name, threads = str(dtype).removeprefix("torch."), str(torch.get_num_threads())
    return watch([sys.executable, "-m", "benchmarks.loading", who, str(folder), name, threads])


def watch(command: list[str]) -> dict[str, float]:
    """Run a process that prints `READY` after its imports and a line of JSON at its end.

    Returns: the JSON's content, and `private_bytes`: the peak above what the process held when ready.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != READY:
            raise SystemExit(f"This process did not start: {' '.join(command)}")
        before = peak = _private_bytes(process.pid)
        while process.poll() is None:
            peak = max(peak, _private_bytes(process.pid))
            time.sleep(0.002)  # a peak shorter than this is missed
        found = json.loads(process.stdout.read() or "{}")
    if not found:
        raise SystemExit(f"This process ended early: {' '.join(command)}")
    return {**found, "private_bytes": peak - before}


def _private_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines.get("RssAnon", "0 kB").split()[0]) * 1024


def _import_libraries() -> None:
    """Import what any loader needs, so that only loading is timed."""
    import safetensors.torch
    import transformers.models.janus.modeling_janus

    import janus_core.janus

    _ = (safetensors, transformers, janus_core)


def main() -> None:
    """Load once and print the seconds; the parent process watches the memory."""
    who, folder, dtype, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    _import_libraries()
    print(READY, flush=True)
    time.sleep(0.05)  # the parent reads what the libraries alone hold
    wall, cpu = time.perf_counter(), time.process_time()
    LOADERS[who](Path(folder), getattr(torch, dtype))
    print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main()
