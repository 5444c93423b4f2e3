"""The options of training, for the command line and for this package alone. Imports nothing heavy."""

from __future__ import annotations

import argparse
import math


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Add what `run.train_command` reads, except `--device` and `--quiet`."""
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a recipe file, or the name of one that comes with us"
    )
    parser.add_argument(
        "--run",
        required=True,
        metavar="DIR",
        dest="folder",
        help="state, log and charts; a run goes on there",
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, metavar="M", help="stop after so many (default: never)"
    )
    parser.add_argument(
        "--steps", type=float, default=math.inf, metavar="N", help="stop after so many (default: never)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--out", metavar="DIR", help="where the model folder goes (default: DIR/model)")
