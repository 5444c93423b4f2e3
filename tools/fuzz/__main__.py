"""`python -m tools.fuzz --cases 10000`: gives the engine damaged and malicious inputs, tells what went wrong.

Only a JanusError or success may come out of a case, within 2 seconds of processor time and 1 GB of memory. A
failure names its number: `--case NUMBER` runs that one alone, with the same `--seed`.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LONGEST_S = 2.0
MOST_MIB = 1024.0
_STUCK_S = 900  # of wall-clock time, on a computer with much other work
_AT_ONCE = 2500  # cases of one worker, so that what one leaves behind reaches few others


def run(seed: int, numbers: range, *, family: str = "", loud: bool = False) -> Iterator[dict[str, Any]]:
    """Yield what came of each case, going on with a new worker where one crashes or is stuck.

    Args:
        seed: of all cases.
        numbers: of the cases.
        family: a word in the names of the families that are wanted; empty means all.
        loud: show what libraries write.
    """
    first = numbers.start
    while first < numbers.stop:
        end = min(first + _AT_ONCE, numbers.stop)
        begun: dict[str, Any] = {"number": first, "family": "start of the worker"}
        for line in _lines(seed, first, end, family, loud=loud):
            if "how" in line:
                yield {**begun, "end": "crash", "wrong": line["how"], "cpu_s": 0.0, "peak_mib": 0.0}
                end = begun["number"] + 1
            elif "end" in line:
                yield line
            else:
                begun = line
        first = end


def _lines(seed: int, first: int, end: int, family: str, *, loud: bool) -> Iterator[dict[str, Any]]:
    """Yield a worker's lines; at last, if it did not end as it should, how it did."""
    command = [sys.executable, "-m", "tools.fuzz.worker", str(seed), str(first), str(end), family]
    worker = subprocess.Popen(
        [*command, *(["--loud"] if loud else [])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert worker.stdout is not None
    waiting: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_pass_on, args=(worker.stdout, waiting), daemon=True)
    reader.start()
    try:
        while line := waiting.get(timeout=_STUCK_S):
            yield json.loads(line)
        if worker.wait():
            yield {"how": f"the process ended with {worker.returncode}"}
    except queue.Empty:
        yield {"how": f"no end after {_STUCK_S} seconds"}
    finally:
        worker.kill()
        worker.wait()
        reader.join()
        worker.stdout.close()


def _pass_on(source: Iterable[str], waiting: queue.Queue[str]) -> None:
    """Hand lines on as they come, so that a reader can wait for one with a limit; at last an empty one."""
    for line in source:
        waiting.put(line)
    waiting.put("")


def verdict(line: dict[str, Any]) -> str:
    """Return what is wrong with a case, or nothing."""
    if "wrong" in line:
        return str(line["wrong"])
    if line["cpu_s"] > LONGEST_S:
        return f"it took {line['cpu_s']} seconds"
    return f"it took {line['peak_mib']} MiB" if line["peak_mib"] > MOST_MIB else ""


def report(lines: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    ends = Counter(line["end"] for line in lines)
    by_family: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_family.setdefault(line["family"], []).append(line)
    said = [
        "| family | cases | success | slowest, s | most memory, MiB | failures |",
        "|---|---|---|---|---|---|",
    ]
    for family, own in sorted(by_family.items()):
        said.append(
            f"| {family} | {len(own)} | {sum(line['end'] == 'success' for line in own)} "
            f"| {max(line['cpu_s'] for line in own):.2f} | {max(line['peak_mib'] for line in own):.0f} "
            f"| {sum(bool(verdict(line)) for line in own)} |"
        )
    said += ["", f"{len(lines)} cases: {', '.join(f'{end} {count}' for end, count in ends.most_common())}."]
    return "\n".join(said) + "\n"


def main() -> int:
    """Run the cases, print each failure as it comes and the figures at last; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", default="", help="run only families with this in their name")
    parser.add_argument("--case", type=int, help="run this one alone, and show what libraries write")
    parser.add_argument("--out", type=Path, help="write every case's line into this file")
    arguments = parser.parse_args()
    first, count = (arguments.first, arguments.cases) if arguments.case is None else (arguments.case, 1)
    lines: list[dict[str, Any]] = []
    for line in run(
        arguments.seed, range(first, first + count), family=arguments.family, loud=arguments.case is not None
    ):
        lines.append(line)
        wrong = verdict(line)
        if wrong:
            print(f"case {line['number']} (seed {arguments.seed}, {line['family']}): {wrong}", flush=True)
            print(line.get("trace", ""), flush=True)
        if arguments.out is not None:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    print(report(lines), end="")
    return 1 if any(map(verdict, lines)) else 0


if __name__ == "__main__":
    sys.exit(main())
