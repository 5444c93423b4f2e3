"""The command line of training: `run` makes a model, `evaluate` and `choosing` measure one, `split` lists."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from janus_core.errors import JanusError

_INTERRUPTED = 130
_EXAMPLES = """examples:
  python -m janus_training run janus-shapes --run runs/shapes --minutes 60
  python -m janus_training run recipe.json --run runs/mine --out path/to/new-model
  python -m janus_training run more.json --run runs/more --start janus-shapes
  python -m janus_training evaluate runs/shapes/model --out out
  python -m janus_training choosing runs/shapes/model
  python -m janus_training split

A run that stopped, or was killed, goes on where its folder stands.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's arguments) asks for and return the exit code."""
    arguments = _parse(argv)
    try:
        return int(arguments.call(arguments))
    except JanusError as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"janus-train: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("janus-train: interrupted; the same command goes on\n")
        return _INTERRUPTED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="janus-train",
        description="Makes small Janus models, and measures them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    common.add_argument("--quiet", action="store_true", help="no progress bars")
    common.add_argument("--debug", action="store_true", help="show where an error comes from")
    _add_run(commands.add_parser("run", parents=[common], help="train a Janus by a recipe"))
    _add_evaluate(commands.add_parser("evaluate", parents=[common], help="measure a model on unseen scenes"))
    choosing = commands.add_parser(
        "choosing", parents=[common], help="measure what keeping the best and candidates gain and cost"
    )
    choosing.add_argument("model", metavar="MODEL", help="a model folder, or the name of a bundled model")
    choosing.add_argument("--scenes", type=int, default=100, metavar="N", help="of each kind (default: 100)")
    choosing.set_defaults(call=_choosing)
    split = commands.add_parser("split", help="list the combinations that training never shows")
    split.set_defaults(call=_split, debug=False)
    return parser.parse_args(argv)


def _add_run(made: argparse.ArgumentParser) -> None:
    made.add_argument("recipe", metavar="RECIPE", help="a recipe file, or the name of one that ships with us")
    made.add_argument(
        "--run",
        required=True,
        metavar="DIR",
        dest="folder",
        help="state, log, charts; a run goes on there",
    )
    made.add_argument(
        "--minutes", type=float, default=math.inf, metavar="M", help="stop after so many (default: never)"
    )
    made.add_argument(
        "--steps", type=float, default=math.inf, metavar="N", help="stop after so many (default: never)"
    )
    made.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    made.add_argument("--out", metavar="DIR", help="where the model folder goes (default: DIR/model)")
    made.add_argument(
        "--start", metavar="NAME_OR_PATH", help="model whose weights a new run begins with (default: none)"
    )
    made.set_defaults(call=_run)


def _add_evaluate(made: argparse.ArgumentParser) -> None:
    made.add_argument("model", metavar="MODEL", help="a model folder, or the name of a bundled model")
    made.add_argument("--scenes", type=int, default=300, metavar="N", help="of each kind (default: 300)")
    made.add_argument("--out", metavar="DIR", help="where evaluation.json and evaluation.png go")
    made.add_argument("--short", action="store_true", help="few scenes")
    made.set_defaults(call=_evaluate)


def _run(arguments: argparse.Namespace) -> int:
    """Train for as long as the options allow."""
    import torch

    from .loop import Slice
    from .run import Run, run_training

    if arguments.threads is not None:
        if arguments.threads < 1:
            sys.stderr.write(f"janus-train: --threads is {arguments.threads}; it must be at least 1.\n")
            return 1
        torch.set_num_threads(arguments.threads)
    run = Run(
        recipe=arguments.recipe,
        folder=Path(arguments.folder),
        limit=Slice(minutes=arguments.minutes, steps=arguments.steps),
        device=arguments.device,
        out=None if arguments.out is None else Path(arguments.out),
        start=arguments.start,
        is_quiet=arguments.quiet or not sys.stderr.isatty(),
    )
    result = run_training(run)
    state = "finished" if result.is_finished else "unfinished; the same command goes on"
    sys.stdout.write(f"{result.model}  ({state}; {result.samples_per_s:.1f} samples a second)\n")
    return 0


def _split(_: argparse.Namespace) -> int:
    """List what only the test shows, by kind of combination."""
    from .world.compositions import COMBINATIONS, all_keys, is_held_out

    for combination in COMBINATIONS:
        keys = list(all_keys(combination))
        held_out = sorted(filter(is_held_out, keys))
        sys.stdout.write(f"{len(held_out)} of {len(keys)}:\n")
        sys.stdout.writelines(f"  {key}\n" for key in held_out)
    return 0


def _choosing(arguments: argparse.Namespace) -> int:
    """Measure what choosing among several tries gains and costs."""
    from .choosing import choosing_table

    table = choosing_table(arguments.model, scenes=arguments.scenes, device=arguments.device)
    sys.stdout.write(f"{table}\n")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    """Measure a model, print a table, and write figures and a sheet of drawings if asked to."""
    from .evaluate import evaluate_folder

    out = None if arguments.out is None else Path(arguments.out)
    table = evaluate_folder(
        arguments.model,
        scenes=arguments.scenes,
        is_short=arguments.short,
        device=arguments.device,
        is_quiet=arguments.quiet,
        out=out,
    )
    sys.stdout.write(f"{table}\n")
    return 0
