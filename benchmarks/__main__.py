"""`python -m benchmarks`: checks that all contenders compute the same, then times them side by side."""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from janus_core import conversing
from janus_core.generation import static_decoder

from . import contenders
from .equality import check_equality, near_ties
from .loading import LOAD_ROWS, time_loading
from .peak import PEAK_ROW, time_peak
from .plot import plot
from .references import make_contenders
from .report import described, is_checked, merge, note_check, results_file, table, write_readme
from .rows import ROWS, Bench, Contenders
from .sizes import SIZES, Size
from .timing import Stopwatch, copy_bandwidth, interleave

_STAND_IN = "static-shape steps, not captured"
NAMES = [*ROWS, *LOAD_ROWS, PEAK_ROW]


def main() -> int:
    """Run the asked-for rows, merge them into the results and print the table."""
    arguments = _parse()
    device = torch.device(arguments.device)
    names = arguments.only.split(",") if arguments.only else NAMES
    refusal = _refusal(names, arguments.size, device)
    if refusal:
        print(refusal, file=sys.stderr)
        return 2
    _set_up(arguments)
    size, dtype = SIZES[arguments.size], getattr(torch, arguments.dtype)
    workdir = Path(arguments.workdir)
    results = Path(arguments.results or results_file(device))
    cell = _cell(size, arguments, device)
    common: dict[str, Any] = {"copy_gb_per_s": round(copy_bandwidth(device) / 1e9, 1)}
    bench = Bench(size=size, device=device, contenders={})
    if any(name in ROWS for name in names):
        which = arguments.contenders.split(",")
        if arguments.check:
            _check(size, device, workdir, which, results, arguments.stand_in)
        bench = Bench(
            size=size, device=device, contenders=make_contenders(size, dtype, device, workdir, which)
        )
        if dtype != torch.float32 and arguments.check:
            steps = bench.work.check_steps
            common["near_ties"] = near_ties(bench.ours, _others(bench.contenders), steps)
            print("half precision:", common["near_ties"], flush=True)
    for name in names:
        if name in ROWS:
            found = time_row(name, bench, arguments.repeats, arguments.clock, dtype, common)
        elif name == PEAK_ROW:
            found = time_peak(size, dtype, device, workdir)
        else:
            found = time_loading(name, size, dtype, workdir, arguments.repeats, arguments.clock)
        content = merge(results, cell, name, {**found, **common}, device)
        print(
            name, {who: round(timing["median_s"], 4) for who, timing in found["timings"].items()}, flush=True
        )
    print(table(content))
    if not arguments.results:
        write_readme()
        plot(content, results.with_suffix(".png"))
    return 0


def _set_up(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    if arguments.stand_in:
        # Static-shape steps read the layers as they were loaded, so nothing may be packed meanwhile.
        for room, name, stand_in in (
            (static_decoder, "may_capture", lambda model, compute: True),
            (contenders, "pack_for_drawing", lambda language: None),
            (conversing, "pack_for_answering", lambda language: None),
        ):
            patch.object(room, name, stand_in).start()  # which complains of a name that has moved


def _refusal(names: list[str], size: str, device: torch.device) -> str | None:
    """Return why the arguments cannot be measured, or None."""
    if size == "7b" and device.type == "cpu":
        return "The size 7b needs a GPU: on a CPU one picture takes most of an hour."
    unknown = [name for name in names if name not in NAMES]
    return f"There is no row {unknown[0]!r}; choose from {', '.join(NAMES)}." if unknown else None


def _cell(size: Size, arguments: argparse.Namespace, device: torch.device) -> str:
    if device.type != "cpu":
        return f"{size.name}, {arguments.dtype}"
    threads = torch.get_num_threads()
    parts = [size.name, arguments.dtype, f"{threads} thread{'s' * (threads > 1)}", f"{arguments.clock} time"]
    return ", ".join(parts + [_STAND_IN] * arguments.stand_in)


def _check(
    size: Size, device: torch.device, workdir: Path, which: list[str], results: Path, is_stand_in: bool
) -> None:
    """Compare all contenders in float32, unless the results say that this commit was compared already."""
    what = f"{size.name}, {_STAND_IN}" if is_stand_in else size.name
    if is_checked(results, what, {"ours", "transformers", *which}):
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 would round to 10 bits
        compared = make_contenders(size, torch.float32, device, workdir, {*which, "transformers"})
        equal = check_equality(Bench(size=size, device=device, contenders=compared))
    print("equal:", equal, flush=True)
    note_check(results, what, {**equal, "contenders": list(compared)})
    del compared  # the float32 weights, before the timed contenders are built
    gc.collect()


def _others(everyone: Contenders) -> Contenders:
    return {name: who for name, who in everyone.items() if name != "ours"}


def time_row(
    name: str, bench: Bench, repeats: int, clock: Any, dtype: torch.dtype, common: dict[str, Any]
) -> dict[str, Any]:
    """Time one row; `repeats` 0 takes the row's default."""
    row = ROWS[name]
    times = repeats or row.repeats
    stopwatch = Stopwatch(clock, bench.device)
    timings = interleave(row.trials(bench), times, stopwatch, row.warm_ups(bench))
    return {"repeats": times, **described(name, bench, timings, dtype, common)}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", help=f"rows, separated by commas: {', '.join(NAMES)}")
    parser.add_argument(
        "--contenders",
        default="ours,ours unpacked,authors,transformers",
        help="separated by commas; also: compiled",
    )
    parser.add_argument("--repeats", type=int, default=0, help="default: what the row says")
    parser.add_argument("--threads", type=int, default=0, help="default: torch's")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="see timing.py")
    parser.add_argument("--no-check", dest="check", action="store_false", help="compare nothing beforehand")
    parser.add_argument(
        "--stand-in", action="store_true", help="on a CPU: the static-shape steps of a GPU, not captured"
    )
    parser.add_argument("--workdir", default=str(Path(tempfile.gettempdir()) / "janus-benchmarks"))
    parser.add_argument("--results", help="a JSON file; default: this machine's, and the page is rewritten")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
