"""Flags of the commands that answer, and the options they stand for. Imports nothing heavy by itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..options import TextOptions


def add_ask_flags(made: argparse.ArgumentParser) -> None:
    """Add what `ask` takes."""
    made.add_argument("images", nargs="*", metavar="IMAGE", help="any number of pictures, or none")
    made.add_argument("-q", "--question", required=True, metavar="TEXT", help="what to ask")
    made.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    _add_text_flags(made)


def add_caption_flags(made: argparse.ArgumentParser) -> None:
    """Add what `caption` takes."""
    _add_picture_flags(made)
    made.add_argument(
        "--style", metavar="NAME",
        help="short, detailed, tags, text, or one of --styles (default: detailed); raw sends --question as "
        "the whole prompt",
    )  # fmt: skip
    made.add_argument("--styles", metavar="FILE", help="your own styles: a captions.toml")
    made.add_argument(
        "--question", metavar="TEXT", help="ask this; with --style, ask it besides what the style asks"
    )
    made.add_argument("--shard", default="1/1", metavar="K/N", help="caption only share K of N, one per card")
    _add_target_flags(made.add_argument_group("where captions go"))
    _add_text_flags(made)


def add_score_flags(made: argparse.ArgumentParser) -> None:
    """Add what `score` takes."""
    _add_picture_flags(made)
    made.add_argument("-p", "--prompt", default="", metavar="TEXT", help="what the pictures should show")
    made.add_argument(
        "-q", "--question", metavar="TEXT",
        help='a yes-or-no question; {prompt} marks the prompt (default: "Does this picture show {prompt}?")',
    )  # fmt: skip
    made.add_argument(
        "--keep-best", type=int, default=0, metavar="N", help="print only so many; 0 is all (default)"
    )


def add_choose_flags(made: argparse.ArgumentParser) -> None:
    """Add what `choose` takes."""
    _add_picture_flags(made)
    made.add_argument("-q", "--question", required=True, metavar="TEXT", help="what to ask about each")
    made.add_argument(
        "-c", "--choice", action="append", required=True, metavar="TEXT",
        help="an answer that is allowed; give two or more",
    )  # fmt: skip
    made.add_argument(
        "--temperature", type=float, default=0.0, metavar="T",
        help="0 takes the most probable choice (default), above 0 one is drawn",
    )  # fmt: skip
    made.add_argument(
        "--seed", type=seed, default=0, metavar="S",
        help="picture k uses seed + k; random or -1 takes a new one and prints it (default: 0)",
    )  # fmt: skip


def _add_picture_flags(made: argparse.ArgumentParser) -> None:
    made.add_argument("paths", nargs="+", metavar="PATH", help="pictures, folders or patterns such as *.png")
    made.add_argument("-r", "--recursive", action="store_true", help="look into subfolders too")
    made.add_argument("--batch-size", type=int, default=8, metavar="N", help="pictures at once (default: 8)")


def _add_target_flags(group: argparse._ArgumentGroup) -> None:
    target = group.add_mutually_exclusive_group()
    target.add_argument("--out", metavar="FILE", help="a .jsonl file, a line for each picture")
    target.add_argument("--sidecar", action="store_true", help="a .txt beside each picture")
    group.add_argument("--extension", metavar=".ENDING", help="another ending than .txt; means --sidecar")
    group.add_argument(
        "--key", choices=("file", "file_name"), default="file",
        help="what a line of --out calls the picture; image folders on the hub want file_name",
    )  # fmt: skip
    existing = group.add_mutually_exclusive_group()
    for mode, said in (
        ("skip", "leave pictures alone that have a caption (default)"),
        ("append", "put the new caption behind the one that is there"),
        ("overwrite", "replace the caption that is there"),
    ):
        existing.add_argument(
            f"--{mode}", dest="existing", action="store_const", const=mode, default="skip", help=said
        )
    group.add_argument("--prefix", default="", metavar="TEXT", help="put in front of every caption")
    group.add_argument("--suffix", default="", metavar="TEXT", help="put behind every caption")
    group.add_argument("--one-line", action="store_true", help="no line breaks: trainers read the first line")


def _add_text_flags(made: argparse.ArgumentParser) -> None:
    made.add_argument("--max-new-tokens", type=int, default=512, metavar="N", help="default: 512")
    made.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (default)")
    made.add_argument("--top-p", type=float, default=0.95, metavar="P", help="1 is off (default: 0.95)")
    made.add_argument("--top-k", type=int, default=0, metavar="K", help="0 is off (default)")
    made.add_argument("--min-p", type=float, default=0.0, metavar="P", help="0 is off (default)")
    made.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 repeats less (default: 1)"
    )
    made.add_argument(
        "--seed", type=seed, default=0, metavar="S",
        help="answer k uses seed + k; random or -1 takes a new one and prints it (default: 0)",
    )  # fmt: skip
    made.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="ends an answer; may be repeated"
    )
    made.add_argument("--trim", action="store_true", help="cut an unfinished answer back to a whole sentence")


def seed(text: str) -> int | None:
    """Return a seed, or None for a new one."""
    if text.strip().lower() in ("random", "-1"):
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor random") from None


def text_options(arguments: argparse.Namespace) -> TextOptions:
    """Return the options that the flags stand for.

    Raises:
        SamplingError: one is out of its range.
    """
    from ..options import TextOptions

    return TextOptions(
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
        stop=tuple(arguments.stop),
    )
