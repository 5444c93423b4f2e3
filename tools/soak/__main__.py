"""`python -m tools.soak --minutes 20 --out DIR`: uses a real ComfyUI for a while and says what went wrong.

A run that was cut off goes on where it was, with the same `--out`. Ends with 1 if anything was lost, wrong or
stuck, or memory grew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .driving import Soak
from .figures import summary


def main() -> int:
    """Run, print the figures and keep them beside the ledger; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="in all, parts before included")
    parser.add_argument("--seed", type=int, default=0, help="decides which jobs come, and in which order")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), help="for the ledger, logs and outputs")
    arguments = parser.parse_args()
    soak = Soak(arguments.out.absolute(), arguments.seed, arguments.minutes)
    try:
        soak.run()
    finally:
        said, is_good = summary(soak.records.lines, soak.records.repeated)
        (arguments.out / "summary.md").write_text(said, encoding="utf-8")
        print(said, end="")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
