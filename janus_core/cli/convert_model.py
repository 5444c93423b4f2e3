"""`convert`: a model as one file or as a folder, in another dtype, or quantised; compared if asked for."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import torch

from ..comparing import Agreement, compare
from ..converting.convert import convert as convert_model
from ..loading import load_janus
from ..outputs import from_home
from .terminal import progress, remark, report

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def convert(arguments: Namespace) -> None:
    """Write a model anew and say where it is."""
    target = from_home(arguments.out)
    with progress(arguments, target.name, 0, unit="B") as on_progress:
        made = convert_model(
            arguments.source,
            target,
            quantise=arguments.quantise,
            dtype=_DTYPES.get(arguments.dtype),
            on_progress=on_progress,
        )
    content = {
        "model": arguments.source,
        "file": str(made.path),
        "bytes": made.nbytes,
        "tensors": made.tensors,
        "quantised": made.quantised,
    }
    if arguments.check:
        found = _compared(arguments, made.path)
        content["check"] = {what: asdict(agreement) for what, agreement in found.items()}
        for what, agreement in found.items():
            remark(arguments, _sentence(what, agreement))
    report(arguments, content, str(made.path))


def _compared(arguments: Namespace, made: Path) -> dict[str, Agreement]:
    source = load_janus(arguments.source, device=arguments.device)
    return compare(source, load_janus(made, device=arguments.device))


def _sentence(what: str, agreement: Agreement) -> str:
    same = (
        f"all {agreement.tokens} greedy tokens are the same"
        if agreement.same == agreement.tokens
        else f"{agreement.same} greedy tokens are the same before the first that differs"
    )
    return f"{what}: {same}; logits agree to a cosine of {agreement.cosine:.5f} or more"
