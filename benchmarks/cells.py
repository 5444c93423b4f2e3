"""All rows on a GPU, in cells of a few minutes: `python -m benchmarks.cells`, or one with `--cell 3`.

Every cell is a command of its own that merges into the results of the machine, so that an interrupted
measurement continues with the next cell. `--dry` runs the same cells at the tiny size on a CPU, with
static-shape steps that are not captured, and keeps no results.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_LIMIT_S = 480  # a cell that hangs is killed after this
_ALL = "ours,authors,transformers,compiled"
_TWO = "ours,transformers"


def _cell(size: str, rows: str, contenders: str, *further: str) -> list[str]:
    return ["--size", size, "--dtype", "bfloat16", "--only", rows, "--contenders", contenders, *further]


def _cells_of(size: str) -> list[list[str]]:
    return [
        _cell(size, "picture", _ALL),
        _cell(size, "pictures", _ALL, "--no-check"),
        _cell(size, "prefill,answer,watched,first_preview,decode,encode", _TWO, "--no-check"),
        _cell(size, "captions", _TWO, "--no-check"),
        _cell(size, "peak", "ours", "--no-check"),
    ]


CELLS = [
    *_cells_of("1b"),
    _cell("1b", "load,load_bin", "ours", "--no-check"),
    *_cells_of("7b"),
]


def command(cell: list[str], *, is_dry: bool, folder: Path) -> list[str]:
    """Return the command of a cell."""
    base = [sys.executable, "-m", "benchmarks"]
    if not is_dry:
        return [*base, "--device", "cuda", *cell]
    tiny = ["tiny" if before == "--size" else word for before, word in zip(["", *cell], cell, strict=False)]
    where = ["--workdir", str(folder), "--results", str(folder / "results.json")]
    return [*base, "--device", "cpu", "--threads", "1", "--stand-in", "--repeats", "1", *where, *tiny]


def run_within(line: list[str], limit_s: float) -> int:
    """Run a command and return its exit code, or 124 after killing it and its children at the limit."""
    started = subprocess.Popen(line, start_new_session=True)  # a group of its own, to be killed as one
    try:
        return started.wait(limit_s)
    except subprocess.TimeoutExpired:
        return 124
    finally:
        if started.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(started.pid, signal.SIGKILL)
            else:  # Windows has no process groups
                started.kill()
            started.wait()


def main() -> int:
    """Run cells one after the other; returns how many failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    parser.add_argument("--cell", type=int, help=f"0 … {len(CELLS) - 1}; default: all")
    parser.add_argument("--dry", action="store_true", help="at the tiny size on a CPU")
    arguments = parser.parse_args()
    chosen = range(len(CELLS)) if arguments.cell is None else [arguments.cell]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for index in chosen:
            line = command(CELLS[index], is_dry=arguments.dry, folder=Path(folder))
            started = time.monotonic()
            code = run_within(line, _LIMIT_S)
            taken = time.monotonic() - started
            failed += code != 0
            print(f"cell {index} {'done' if code == 0 else f'failed ({code})'} in {taken:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
