"""Peak memory of drawing one picture, weights included, each contender in a process of its own.

On a GPU this is the peak of what torch allocated there, on a CPU the peak of private memory, which leaves out
weights mapped from a file.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from janus_core import build_model

from .contenders import PROMPT, Contender, Ours
from .loading import READY, watch
from .references import Transformers
from .rows import grid
from .sizes import SIZES, Size
from .weights import weights_for

PEAK_ROW = "peak"
_CONTENDERS = ("ours", "transformers")
_STEPS_ON_CPU = 8  # later steps allocate nothing more


def time_peak(size: Size, dtype: torch.dtype, device: torch.device, workdir: Path) -> dict[str, Any]:
    """Measure each contender in a process of its own and return the row of results."""
    name, key = str(dtype).removeprefix("torch."), "private_bytes" if device.type == "cpu" else "device_bytes"
    found = {
        who: watch([sys.executable, "-m", "benchmarks.peak", who, size.name, name, str(device), str(workdir)])
        for who in _CONTENDERS
    }
    return row_of({who: {**one, "bytes": one[key]} for who, one in found.items()}, size, device)


def row_of(found: dict[str, dict[str, float]], size: Size, device: torch.device) -> dict[str, Any]:
    """Return the row of results: seconds (`wall_s`) and bytes at the peak (`bytes`) by contender."""
    steps = _steps(size, device)
    return {
        "title": f"Load, draw {steps} image tokens of one picture and decode it: the most memory held",
        "unit": "pictures",
        "count": 1,
        "repeats": 1,
        "timings": {
            who: {"median_s": one["wall_s"], "fastest_s": one["wall_s"], "warm_up_s": 0.0}
            for who, one in found.items()
        },
        "bytes": {who: one["bytes"] for who, one in found.items()},
    }


def _steps(size: Size, device: torch.device) -> int:
    whole = size.work(device.type).draw_steps
    return min(whole, _STEPS_ON_CPU) if device.type == "cpu" else whole


def _prepared(who: str, size: Size, dtype: torch.dtype, device: torch.device, workdir: Path) -> Contender:
    """Return a contender whose weights are where loading would leave them."""
    weights = weights_for(size, dtype, device, workdir)
    if device.type == "cuda" and who == "ours":
        weights = {name: tensor.cpu() for name, tensor in weights.items()}
        return Ours(size.config, weights, dtype, device, is_brought=True)
    ours = Ours(size.config, weights, dtype, device)
    if who == "ours":
        return ours
    # Of ours only the tokenizer is needed: the model that goes along has no weights.
    return Transformers(replace(ours.janus, model=build_model(size.config)), weights, dtype)


def draw_once(
    who: str, size: Size, dtype: torch.dtype, device: torch.device, workdir: Path
) -> dict[str, float]:
    """Load, draw and decode one picture; return seconds, and the most bytes torch held on a GPU meanwhile."""
    started = time.perf_counter()
    contender = _prepared(who, size, dtype, device, workdir)
    if device.type == "cuda":  # forget what making random weights took
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    _draw(contender, size, device)
    found = {"wall_s": time.perf_counter() - started, "device_bytes": 0}
    if device.type == "cuda":
        found["device_bytes"] = torch.cuda.max_memory_allocated(device)
    return found


def _draw(contender: Contender, size: Size, device: torch.device) -> None:
    if isinstance(contender, Ours) and device.type == "cuda":
        contender.janus.draw(PROMPT)
    else:
        contender.draw(_steps(size, device))
        contender.decode(grid(size.config, device))


def main() -> None:
    """Draw once and print seconds and device bytes; the parent process watches the private memory."""
    who, name, dtype, device_name, workdir = sys.argv[1:]
    device = torch.device(device_name)
    import transformers.models.janus.modeling_janus

    _ = transformers
    print(READY, flush=True)
    time.sleep(0.05)  # the parent reads what the libraries alone hold
    found = draw_once(who, SIZES[name], getattr(torch, dtype), device, Path(workdir))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
