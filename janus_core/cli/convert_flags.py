"""Flags of `convert`. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse

KIND_NAMES = ("int8", "int8_convrot", "fp8_scaled", "mxfp8", "nvfp4")
EXAMPLES = """
  janus convert path/to/Janus-Pro-1B -o Janus-Pro-1B_bf16.safetensors
  janus convert path/to/Janus-Pro-7B -o Janus-Pro-7B_int8.safetensors --quantise int8 --check
  janus convert Janus-Pro-1B_bf16.safetensors -o path/to/new-folder

A name that ends in .safetensors becomes one file, any other a folder. The result has its name only when
it is complete.
"""


def add_convert_flags(made: argparse.ArgumentParser) -> None:
    """Add the flags of `convert`."""
    made.add_argument("source", metavar="MODEL", help="a folder, a file, or a bundled model's name")
    made.add_argument("-o", "--out", required=True, metavar="FILE", help="a new .safetensors, or folder")
    made.add_argument(
        "--quantise",
        choices=KIND_NAMES,
        help="store the decoder's matrices in 8 or 4 bits (default: no)",
    )
    made.add_argument(
        "--check",
        action="store_true",
        help="load both and compare 32 greedy tokens and the scores behind them",
    )
    made.add_argument(
        "--device", default="auto", help="of --check: auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    made.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the weights that are not quantised (default: as they are)",
    )
