"""Twelve minutes of an NVIDIA card: `python -m benchmarks.card --part 1 --out DIR`, then `--part 2`.

Each part ends by itself within six minutes. It is a list of cells, the most telling first; each cell is a
process of its own that gets some seconds, begins nothing new after them and is killed when the part's spare
time is spent too. After every timed trial the results are replaced as a whole, so whatever is killed, what
was timed stays. `--dry-run` runs the same cells at the tiny size on a CPU.

DIR gets `part-N.json`, `part-N.log` and, from part 1, `profile.txt`. Nothing is downloaded. This file knows
when cells run; what they run is in `card_cell.py`. It imports no torch, so that it can watch from the start.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ALARM = "!!!"  # begins a line that the log repeats at its end
_LIMIT_S = 345  # of a part; six minutes less what starting and stopping take
_DRY_PATIENCE = 10
_MOST_LOGGED = 8 * 2**20  # bytes of a log
# A cell watches before it imports torch, which takes many seconds on a busy machine.
_CELL = (
    "from benchmarks.card import end_with_parent; end_with_parent(); "
    "from benchmarks.card_cell import main; raise SystemExit(main())"
)
_ALL = ("ours", "authors", "transformers")
_TWO = ("ours", "transformers")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one process of a part does.

    Attributes:
        part: 1 or 2.
        seconds: from its start; it begins no further trial that would not end before.
        size: a key of `SIZES`.
        rows: keys of `ROWS`, or `correctness`, `profile` and `peak`.
        contenders: who takes part.
        label: of its results, where they are not those of the default settings.
        environment: variables that the process gets.
    """

    part: int
    seconds: float
    size: str
    rows: tuple[str, ...]
    contenders: tuple[str, ...]
    label: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the log calls it."""
        return ", ".join([self.size, *self.rows, *([self.label] if self.label else [])])


CELLS = (
    Cell(part=1, seconds=30, size="tiny", rows=("correctness",), contenders=_ALL),
    Cell(part=1, seconds=100, size="1b", rows=("picture",), contenders=_ALL),
    Cell(part=1, seconds=105, size="7b", rows=("picture",), contenders=_ALL),
    Cell(part=1, seconds=40, size="1b", rows=("later_steps", "profile"), contenders=("ours",)),
    Cell(
        part=1,
        seconds=20,
        size="1b",
        rows=("later_steps",),
        contenders=("ours",),
        label="cudaMallocAsync",
        environment={"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"},
    ),
    Cell(
        part=1,
        seconds=20,
        size="1b",
        rows=("later_steps",),
        contenders=("ours",),
        label="cuDNN attention last",
        environment={"TORCH_CUDNN_SDPA_DEPRIORITIZED": "1"},
    ),
    Cell(part=2, seconds=75, size="1b", rows=("pictures",), contenders=_ALL),
    Cell(part=2, seconds=90, size="7b", rows=("pictures",), contenders=_ALL),
    Cell(
        part=2,
        seconds=55,
        size="1b",
        rows=("prefill", "answer", "watched", "first_preview", "decode", "encode"),
        contenders=_TWO,
    ),
    Cell(part=2, seconds=40, size="1b", rows=("captions",), contenders=_TWO),
    Cell(part=2, seconds=30, size="7b", rows=("peak",), contenders=("ours",)),
    Cell(part=2, seconds=30, size="7b", rows=("peak",), contenders=("transformers",)),
)


class Log:
    """Lines for the terminal and a file that is whole up to its last line whenever this process is killed."""

    def __init__(self, path: Path) -> None:
        path.write_text("", encoding="utf-8")
        self._path = path
        self._room = _MOST_LOGGED
        self._started = time.monotonic()
        self.alarms: list[str] = []

    def write(self, line: str) -> None:
        """Add one line, with the seconds since the part began."""
        if line.startswith(ALARM):
            self.alarms.append(line)
        line = f"{time.monotonic() - self._started:6.1f} {line}"
        self._room -= len(line.encode())
        if self._room > 0:
            print(line, flush=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def run_cell(command: list[str], limit_s: float, environment: dict[str, str], log: Log) -> int:
    """Run a process, log what it prints, and return its exit code; it is killed after `limit_s`.

    Its standard input is a pipe that ends when this process does, even killed; it watches for that.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **environment},
    ) as process:
        alarm = threading.Timer(limit_s, process.kill)
        alarm.start()
        try:
            for line in process.stdout or ():
                log.write(line.rstrip("\n"))
            return process.wait()
        finally:
            alarm.cancel()
            process.kill()
            process.wait()  # leaving `with` by Ctrl-C would not


def end_with_parent() -> None:
    """Leave at once when the process that holds the other end of standard input is gone."""

    def watch() -> None:
        while os.read(
            sys.stdin.fileno(), 1
        ):  # a lock of Python's own stream would outlive this process's end
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_part(part: int, out: Path, *, is_dry: bool) -> int:
    """Run the cells of a part, one after the other; returns how many failed.

    Args:
        part: 1 or 2.
        out: the folder of results.
        is_dry: at the tiny size on a CPU, where all limits are longer: that machine may be a busy one.
    """
    patience = _DRY_PATIENCE if is_dry else 1
    out.mkdir(parents=True, exist_ok=True)
    (out / f"part-{part}.json").unlink(missing_ok=True)
    log, started, failed = Log(out / f"part-{part}.log"), time.monotonic(), 0
    mine = [(index, cell) for index, cell in enumerate(CELLS) if cell.part == part]
    for position, (index, cell) in enumerate(mine):
        needed = sum(later.seconds for _, later in mine[position:]) * patience
        seconds = cell.seconds * patience
        spare = max(0.0, _LIMIT_S * patience - (time.monotonic() - started) - needed)
        log.write(f"--- {cell.name}: {seconds:.0f} s, and {spare:.0f} s to spare")
        command = [sys.executable, "-c", _CELL, str(index), str(out)]
        command += [str(time.time() + seconds), *(["--dry-run"] if is_dry else [])]
        code = run_cell(command, seconds + spare, cell.environment, log)
        if code != 0:
            failed += 1
            log.write(f"{ALARM} {cell.name}: ended with code {code}")
    log.write(f"--- part {part} done, {failed} of {len(mine)} cells failed")
    for line in list(dict.fromkeys(log.alarms)):
        log.write(line)
    return failed


def _stop(number: int, frame: object) -> None:
    """End as on Ctrl-C, so that the cell under way is stopped too."""
    raise KeyboardInterrupt


def main() -> int:
    """Run one part or keep its results; returns 0 where all went well, 130 where it was stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.card", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--part", type=int, choices=(1, 2))
    what.add_argument("--keep", action="store_true", help="put what --out holds among the results")
    parser.add_argument("--out", type=Path, required=True, help="a folder for results and log")
    parser.add_argument("--dry-run", action="store_true", help="at the tiny size on a CPU")
    arguments = parser.parse_args()
    if arguments.keep:
        from .report import keep

        print(keep(arguments.out))
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is ignored in a shell's background
        signal.signal(number, _stop)
    try:
        return min(1, run_part(arguments.part, arguments.out, is_dry=arguments.dry_run))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
