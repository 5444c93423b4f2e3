"""`train`: a recipe in, a model folder and charts out."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import torch

from ..errors import SamplingError
from ..training.loop import Slice
from ..training.run import Run, run_training
from .terminal import report


def train(arguments: Namespace) -> None:
    """Train for as long as the options allow; a second call goes on where the first one stopped."""
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise SamplingError(f"--threads is {arguments.threads}; it must be at least 1.")
        torch.set_num_threads(arguments.threads)
    run = Run(
        recipe=arguments.recipe,
        folder=Path(arguments.run_folder),
        limit=Slice(minutes=arguments.minutes, steps=arguments.steps),
        device=arguments.device,
        out=None if arguments.out is None else Path(arguments.out),
        start=arguments.start,
        is_quiet=arguments.quiet or not sys.stderr.isatty(),
    )
    is_finished, model = run_training(run)
    state = "finished" if is_finished else "unfinished; the same command goes on"
    report(arguments, {"finished": is_finished, "model": str(model)}, f"{model}  ({state})")
