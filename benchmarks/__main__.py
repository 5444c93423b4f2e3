"""`python -m benchmarks`: checks that all contenders compute the same, then times them side by side."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .contenders import Authors, Ours, Transformers
from .equality import check_equality
from .loading import LOAD_ROWS, time_loading
from .plot import plot
from .report import merge, results_file, step_bytes, table, write_readme
from .rows import ROWS, Contenders
from .sizes import SIZES, Size
from .timing import Clock, copy_bandwidth, interleave
from .weights import Folders, make_folders


def main() -> int:
    """Run the asked-for rows, merge them into the results and print the table."""
    arguments = _parse()
    if arguments.size == "7b":
        print("The size 7b needs a GPU: on a CPU one picture takes most of an hour.", file=sys.stderr)
        return 2
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    size, dtype, workdir = SIZES[arguments.size], getattr(torch, arguments.dtype), Path(arguments.workdir)
    names = arguments.only.split(",") if arguments.only else [*ROWS, *LOAD_ROWS]
    unknown = [name for name in names if name not in ROWS and name not in LOAD_ROWS]
    if unknown:
        print(
            f"There is no row {unknown[0]!r}; choose from {', '.join([*ROWS, *LOAD_ROWS])}.", file=sys.stderr
        )
        return 2
    threads = torch.get_num_threads()
    cell = f"{size.name}, {arguments.dtype}, {threads} thread{'s' * (threads > 1)}, {arguments.clock} time"
    results, bandwidth = Path(arguments.results or results_file()), copy_bandwidth()
    common: dict[str, Any] = {"copy_gb_per_s": round(bandwidth / 1e9, 1)}
    contenders: Contenders = {}
    if any(name in ROWS for name in names):
        contenders = make_contenders(make_folders(size, dtype, workdir), dtype)
        if dtype == torch.float32:
            common["equal"] = check_equality(size, contenders)
            print("equal:", common["equal"], flush=True)
    for name in names:
        if name in ROWS:
            found = time_row(name, size, contenders, arguments.repeats, arguments.clock)
            if ROWS[name].reads_weights:
                found["bandwidth_share"] = _shares(found, step_bytes(size.config, dtype), bandwidth)
        else:
            found = time_loading(name, size, dtype, workdir, arguments.repeats, arguments.clock)
        content = merge(results, cell, name, {**found, **common})
        print(
            name, {who: round(timing["median_s"], 4) for who, timing in found["timings"].items()}, flush=True
        )
    print(table(content))
    if not arguments.results:
        write_readme(content)
        plot(content, results.with_suffix(".png"))
    return 0


def make_contenders(folders: Folders, dtype: torch.dtype) -> Contenders:
    """Load every contender from the same weights."""
    ours = Ours(folders, dtype)
    return {
        "ours": ours,
        "ours, unpacked": Ours(folders, dtype, packs=False),
        "authors": Authors(folders, dtype, ours.janus),
        "transformers": Transformers(folders, dtype, ours.janus),
    }


def time_row(name: str, size: Size, contenders: Contenders, repeats: int, clock: Clock) -> dict[str, Any]:
    """Time one row; `repeats` 0 is the row's own number."""
    row = ROWS[name]
    times = repeats or row.repeats
    warm_up = None if row.warm_up is None else row.warm_up(size, contenders)
    timings = interleave(row.runs(size, contenders), times, clock, warm_up)
    return {
        "title": row.title.format(**asdict(size.work)),
        "unit": row.unit,
        "count": row.count(size),
        "repeats": times,
        "timings": {who: asdict(timing) for who, timing in timings.items()},
    }


def _shares(found: dict[str, Any], bytes_each: int, bandwidth: float) -> dict[str, float]:
    """Return for each contender how near it comes to reading the step's weights at the speed of a copy."""
    return {
        who: round(bytes_each * found["count"] / timing["median_s"] / bandwidth, 3)
        for who, timing in found["timings"].items()
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--only", help=f"rows, separated by commas: {', '.join([*ROWS, *LOAD_ROWS])}")
    parser.add_argument("--repeats", type=int, default=0, help="default: what the row says")
    parser.add_argument("--threads", type=int, default=0, help="default: torch's")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="see timing.py")
    parser.add_argument("--workdir", default=str(Path(tempfile.gettempdir()) / "janus-benchmarks"))
    parser.add_argument("--results", help="a JSON file; default: this machine's, and the page is rewritten")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
