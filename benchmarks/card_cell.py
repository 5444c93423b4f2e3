"""One cell of `benchmarks.card`, in a process of its own, which the card's process starts and watches.

After every trial the results file is replaced, so a cell that is killed loses nothing it has timed. What goes
wrong, a capture above all, is printed in a line that begins with the alarm, and hides nothing that follows.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from janus_core.generation import capturing, joining, kernels

from .card import ALARM, CELLS, Cell
from .card_checks import correctness, profiled_steps
from .peak import draw_once, row_of
from .references import ours_and_makers
from .report import described, machine, note_check, put, read, table, write
from .rows import ROWS, Bench, Contenders
from .sizes import SIZES, Size
from .timing import Stopwatch, Timing, copy_bandwidth, turns

log = logging.getLogger(__name__)

WORKDIR = Path(tempfile.gettempdir()) / "janus-benchmarks"  # of weights, on a CPU
# What our engine says in these logs, and nowhere else: that it goes on more slowly.
_SLOWER = {
    capturing.log.name: "CAPTURE FAILED, all that follows is eager",
    kernels.log.name: "A KERNEL IS NOT USED",
    joining.log.name: "MATRICES ARE NOT JOINED",
}
_CAPTURING = {"picture", "pictures", "later_steps", "answer", "captions", "watched"}


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the rows of a cell share.

    Attributes:
        cell: what to run.
        size: of the model.
        device: where.
        dtype: of all rows; correctness is checked in float32.
        out: the folder of results.
        until: by `time.time()`; no trial begins that would not end before.
        measured: the copy bandwidth, as rows keep it.
        about: facts of the machine, which every row keeps.
    """

    cell: Cell
    size: Size
    device: torch.device
    dtype: torch.dtype
    out: Path
    until: float
    measured: dict[str, float]
    about: dict[str, Any]

    @property
    def results(self) -> Path:
        """The file of results."""
        return self.out / f"part-{self.cell.part}.json"

    @property
    def key(self) -> str:
        """What these settings are called in the results."""
        parts = [self.cell.size, str(self.dtype).removeprefix("torch."), self.cell.label]
        return ", ".join(part for part in parts if part)

    def has_time(self, seconds: float) -> bool:
        """Tell whether something that takes so long would end in time."""
        return time.time() + seconds <= self.until


class LoudHandler(logging.Handler):
    """Prints what our engine logs and all warnings; with the alarm errors, and what makes it slower."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record of ours, or anyone's warning."""
        is_ours = record.name.startswith("janus")
        if record.name in _SLOWER:
            say(f"{ALARM} {_SLOWER[record.name]}: {record.getMessage()}")
        elif record.levelno >= logging.ERROR:
            say(f"{ALARM} {self.format(record)}")
        elif is_ours or record.levelno >= logging.WARNING:
            say(f"{record.name}: {record.getMessage()}")


def say(line: str) -> None:
    """Print a line for the log."""
    print(line, flush=True)


def tell_captures(what: str, graphs: int, replays: int, device: torch.device) -> None:
    """Say how many graphs were captured and replayed, loudly where a GPU captured none."""
    is_eager = device.type == "cuda" and not (graphs and replays)
    say(f"{f'{ALARM} RAN EAGERLY: ' * is_eager}{what}: {graphs} graphs captured, {replays} replays")


def memory(device: torch.device) -> dict[str, Any]:
    """Return the megabytes that torch holds on a GPU, has held at most, and has reserved there."""
    if device.type != "cuda":
        return {}
    sizes = {
        "held": torch.cuda.memory_allocated(device),
        "most held": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
    }
    return {"memory_mb": {name: round(size / 1e6) for name, size in sizes.items()}}


def prepared(session: Session, dtype: torch.dtype) -> Bench:
    """Build the contenders; one that cannot be built is told of and left out."""
    ours, makers = ours_and_makers(session.size, dtype, session.device, WORKDIR)
    contenders: Contenders = {"ours": ours}
    for name in session.cell.contenders:
        if name in makers:
            try:
                contenders[name] = makers[name]()
            except Exception:
                log.exception("%s, building %s failed", session.key, name)
    return Bench(size=session.size, device=session.device, contenders=contenders)


def time_row(session: Session, bench: Bench, name: str) -> None:
    """Time one row of the benchmark; results are kept after every trial."""
    row, stopwatch, what = ROWS[name], Stopwatch("wall", session.device), f"{session.key}, {name}"
    found: dict[str, Timing] = {}
    for found in turns(
        row.trials(bench),
        row.repeats,
        stopwatch,
        row.warm_ups(bench),
        has_time=session.has_time,
        on_failure=lambda who, error: log.error("%s, %s failed", what, who, exc_info=error),
    ):
        if "ours" in found:
            told = described(name, bench, found, session.dtype, session.measured)
            counted = {"graphs": stopwatch.graphs, "replays": stopwatch.replays}
            kept = {**told, **counted, **memory(session.device), **session.measured, **session.about}
            put(session.results, session.key, name, {"repeats": found["ours"].repeats, **kept})
    for who, timing in found.items():
        say(
            f"{what}, {who}: {timing.median_s:.4f} s, fastest {timing.fastest_s:.4f} s of {timing.repeats}, "
            f"graphs captured in {timing.capture_s:.3f} s, warm-up {timing.warm_up_s:.2f} s"
        )
    if name in _CAPTURING:
        tell_captures(what, stopwatch.graphs, stopwatch.replays, session.device)


def check(session: Session) -> None:
    """Compare all contenders, ours captured with ours eager, and with a CPU."""
    bench = prepared(session, torch.float32)
    told: dict[str, str] = {}
    for outcome in correctness(bench):
        told[outcome.name] = outcome.told()
        say(outcome.told())
        if outcome.captures:
            tell_captures(outcome.name, outcome.graphs, outcome.replays, session.device)
        if outcome.figures:
            note_check(
                session.results, session.cell.size, {**outcome.figures, "contenders": list(bench.contenders)}
            )
    write(session.results, {**read(session.results), "correctness": told})


def profile_steps(session: Session, bench: Bench) -> None:
    """Write the one profiler table, and keep what a step takes beside its time."""
    work = bench.work
    steps, context = max(2, work.timed_steps // 8), work.contexts[1]
    lines, figures = profiled_steps(bench.ours, steps, context, session.device)
    heading = (
        f"{session.key}: {1 + 2 * steps} image tokens after a prompt of {context} tokens; a step: {figures}"
    )
    (session.out / "profile.txt").write_text(f"{heading}\n\n{lines}\n", encoding="utf-8")
    say(f"{session.key}, a step by its profile: {figures}")
    row = read(session.results)["cells"].get(session.key, {}).get("later_steps")
    if row is not None:
        put(session.results, session.key, "later_steps", {**row, "profile": figures})


def measure_peak(session: Session) -> None:
    """Measure one contender's peak and put it beside those of the cells before."""
    [who] = session.cell.contenders
    one = draw_once(who, session.size, session.dtype, session.device, WORKDIR)
    say(f"{session.key}, peak of {who}: {one['device_bytes'] / 1e9:.2f} GB, {one['wall_s']:.1f} s")
    row = row_of({who: {**one, "bytes": one["device_bytes"]}}, session.size, session.device)
    before = read(session.results)["cells"].get(session.key, {}).get("peak", {"timings": {}, "bytes": {}})
    for part in ("timings", "bytes"):
        row[part] = {**before[part], **row[part]}
    if "ours" in row["timings"]:  # what others take is told beside ours, or by the log alone
        put(session.results, session.key, "peak", {**row, **session.about})


def run(session: Session) -> int:
    """Run the rows of a cell one after the other, whatever becomes of each; returns how many failed."""
    bench: Bench | None = None
    failed = 0
    for name in session.cell.rows:
        try:
            if name == "correctness":
                check(session)
            elif name == "peak":
                measure_peak(session)
            else:
                bench = bench or prepared(session, session.dtype)
                work = profile_steps if name == "profile" else partial(time_row, name=name)
                work(session, bench)
        except Exception:
            log.exception("%s, %s failed", session.key, name)
            failed += 1
    return failed


def session_of(index: int, out: Path, until: float, *, is_dry: bool) -> Session:
    """Return what a cell needs: the card, or the tiny size on a CPU."""
    cell, device = CELLS[index], torch.device("cpu" if is_dry else "cuda")
    about, bandwidth = machine(device), copy_bandwidth(device)
    if not is_dry:
        torch.cuda.empty_cache()  # 8 GB of the copies, which a large model may want
        gigabytes = round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
        about |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "gigabytes": gigabytes}
    return Session(
        cell=cell,
        size=SIZES["tiny" if is_dry else cell.size],
        device=device,
        dtype=torch.bfloat16,
        out=out,
        until=until,
        measured={"copy_gb_per_s": round(bandwidth / 1e9, 1)},
        about=about,
    )


def main() -> int:
    """Run the cell of the arguments INDEX DIR UNTIL [--dry-run]; returns how many of its rows failed."""
    index, out, until, *options = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, handlers=[LoudHandler()])
    is_dry = "--dry-run" in options
    if not is_dry and not torch.cuda.is_available():
        say(f"{ALARM} there is no CUDA device here")
        return 1
    session = session_of(int(index), Path(out), float(until), is_dry=is_dry)
    say(", ".join(f"{name} {value}" for name, value in {**session.about, **session.measured}.items()))
    failed = run(session)
    rows = read(session.results)["cells"].get(session.key)
    if rows:
        say(table({"cells": {session.key: rows}, "checks": {}}))
    return failed
