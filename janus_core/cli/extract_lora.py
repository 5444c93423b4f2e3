"""`extract-lora`: an adapter out of the difference of two models."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass

from torch import Tensor

from ..adapters.extraction import extract
from ..checkpoints.folders import is_janusflow_folder, resolve_model
from ..checkpoints.layout import Layout
from ..checkpoints.load import read_checkpoint
from ..flow.flow_checkpoint import read_flow_checkpoint
from .terminal import progress, remark, report


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """A model's tensors by our names, and whose names its adapter gets."""

    tensors: dict[str, Tensor]
    layout: Layout
    name: str


def extract_lora(arguments: Namespace) -> None:
    """Write the adapter and say how much of the difference it holds."""
    base, tuned = _read(arguments.base), _read(arguments.tuned)
    with progress(arguments, "tensors", len(base.tensors)) as on_step:
        found = extract(
            base.tensors,
            tuned.tensors,
            arguments.rank,
            base.layout,
            base_name=base.name,
            on_step=on_step,
        )
    file = found.save(arguments.out)
    if found.left_out:
        remark(
            arguments,
            f"{len(found.left_out)} tensors of the VQ tokenizer differ and are not in the adapter, first "
            f"{found.left_out[0]}.",
        )
    worst, share = found.worst
    content = {
        "file": str(file),
        "rank": arguments.rank,
        "tensors": len(found.tensors),
        "bytes": file.stat().st_size,
        "kept": found.kept,
        "worst": worst,
        "worst_kept": share,
        "left_out": list(found.left_out),
    }
    least = f", least in {worst} ({share:.1%})" if worst else ""
    report(arguments, content, f"{file}\n{found.kept:.1%} of the squared difference is kept{least}.")


def _read(name_or_path: str) -> _Weights:
    folder = resolve_model(name_or_path)
    if is_janusflow_folder(folder):
        flow = read_flow_checkpoint(folder)[0]
        return _Weights(tensors=flow.state_dict, layout="janusflow", name=folder.name)
    # names of the authors' layout, whatever the files have: every tool knows them
    return _Weights(tensors=read_checkpoint(folder).state_dict, layout="authors", name=folder.name)
