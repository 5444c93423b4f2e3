"""Extract an adapter from two models: the largest parts of the difference of each matrix.

What a training run has changed is mostly of low rank, so a thin product holds most of it. Vectors (norms,
biases) are small and kept whole. Matrices are taken one at a time, mapped from their files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoints.layout import Layout
from ..checkpoints.names import POSITIONS, published_names
from ..errors import CheckpointError, OutputError
from ..options import OnStep, check_count
from ..outputs import from_home, partial, ready_folder
from .adapter_files import CONFIG, METADATA_KEY, WEIGHTS

_OUTSIDE = "vq_tokenizer."  # no adapter changes it, see `adapter_names`
_TABLES = ("embed_tokens.weight", "image_token_embedding.weight")
_SPARE = 16  # columns beyond the rank while it is searched for
_ROUNDS = 4  # of the search; each lets small parts fade against large ones
_EXACT = 2**16  # entries; the decomposition of a smaller matrix is computed exactly


@dataclass(frozen=True, kw_only=True, eq=False)
class Extracted:
    """An adapter that was extracted from two models.

    Attributes:
        tensors: by PEFT's names, in the authors' layout.
        config: what PEFT calls `adapter_config.json`.
        kept: share of the squared difference that the adapter holds, 0 … 1.
        worst: our name of the changed matrix of which it holds the least, and its share.
        left_out: our names of changed tensors that no adapter can hold.
    """

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    kept: float
    worst: tuple[str, float]
    left_out: tuple[str, ...]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a single .safetensors with the configuration in its header, or else a PEFT folder.

        Returns: the weight file.

        Raises:
            OutputError: it cannot be written.
        """
        path = from_home(path)
        text = json.dumps(dict(self.config), indent=2)
        is_folder = path.suffix != ".safetensors"
        folder = ready_folder(path if is_folder else path.parent)
        file = folder / WEIGHTS if is_folder else path
        try:
            if is_folder:
                (folder / CONFIG).write_text(text, encoding="utf-8")
            with partial(file) as part:
                save_file(dict(self.tensors), part, metadata={"format": "pt", METADATA_KEY: text})
                part.replace(file)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f'Cannot write the adapter "{file}": {error}. Choose a folder you may write to.'
            ) from error
        return file


def extract(
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    rank: int,
    layout: Layout,
    *,
    base_name: str = "",
    on_step: OnStep | None = None,
) -> Extracted:
    """Return the adapter that brings one model as near to another as a rank allows.

    Args:
        base: all tensors of the model that the adapter will be used with, by our names.
        tuned: those of the model that it is to become.
        rank: of each matrix's product, at least 1.
        layout: whose names the adapter's tensors get.
        base_name: of the base model, for the configuration.
        on_step: called with (tensors done, all).

    Raises:
        CheckpointError: the models are the same, or of different shapes. SamplingError: the rank is below 1.
    """
    check_count("rank", rank)
    _refuse_other_shapes(base, tuned)
    work = _Work(rank, layout)
    for done, name in enumerate(base, 1):
        # stored dtypes may differ, values need not
        if not torch.equal(base[name].float(), tuned[name].float()):
            work.take(name, base[name], tuned[name])
        if on_step is not None:
            on_step(done, len(base))
    return work.result(base_name)


def _refuse_other_shapes(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    for name in base:
        if name not in tuned or base[name].shape != tuned[name].shape:
            there = list(tuned[name].shape) if name in tuned else "absent"
            raise CheckpointError(
                f"The two models are of different sizes: {name} is {list(base[name].shape)} in the base and "
                f"{there} in the other. Give a model and a fine-tune of it."
            )


class _Work:
    """The adapter so far, and how much of the difference it holds."""

    def __init__(self, rank: int, layout: Layout) -> None:
        self._rank = rank
        self._layout = layout
        self._tensors: dict[str, Tensor] = {}
        self._targets: list[str] = []
        self._whole: list[str] = []
        self._left_out: list[str] = []
        self._smaller: dict[str, int] = {}  # ranks of matrices that have no larger one
        self._shares: dict[str, float] = {}
        self._kept = 0.0
        self._all = 0.0

    def take(self, ours: str, base: Tensor, tuned: Tensor) -> None:
        """Add a changed tensor."""
        difference = tuned.float() - base.float()
        total = float(difference.double().square().sum())
        self._all += total
        if ours.startswith(_OUTSIDE):
            self._left_out.append(ours)
            return
        [name] = published_names(ours, self._layout)
        name = f"base_model.model.{name}"
        if ours == POSITIONS or difference.ndim == 1:
            stored = tuned[None] if ours == POSITIONS else tuned
            self._tensors[name] = stored.clone(memory_format=torch.contiguous_format)
            self._whole.append(name.rpartition(".")[0].removeprefix("base_model.model."))
            self._kept += total
            return
        up, down, kept = low_rank(difference.flatten(1), self._rank)
        self._put(ours, name.removesuffix(".weight"), up.to(tuned.dtype), down.to(tuned.dtype), difference)
        self._kept += kept
        self._shares[ours] = kept / total

    def _put(self, ours: str, module: str, up: Tensor, down: Tensor, difference: Tensor) -> None:
        if ours.endswith(_TABLES):
            factors = {"lora_embedding_A": up.T, "lora_embedding_B": down.T}
        else:
            ones = (1,) * (difference.ndim - 2)  # of a convolution, whose second factor sees one cell
            factors = {
                "lora_A.weight": down.reshape(len(down), *difference.shape[1:]),
                "lora_B.weight": up.reshape(*up.shape, *ones),
            }
        self._tensors |= {f"{module}.{part}": tensor.contiguous() for part, tensor in factors.items()}
        self._targets.append(module.removeprefix("base_model.model."))
        if len(down) < self._rank:
            self._smaller[self._targets[-1]] = len(down)

    def result(self, base_name: str) -> Extracted:
        """Return the adapter.

        Raises:
            CheckpointError: nothing has changed that an adapter could hold.
        """
        if not self._tensors:
            raise CheckpointError(
                "The two models do not differ in anything that an adapter can hold. Give a model and a "
                "fine-tune of it."
            )
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": base_name,
            "r": self._rank,
            "lora_alpha": self._rank,  # a scale of 1, also for readers that know no configuration
            "rank_pattern": self._smaller,
            "alpha_pattern": self._smaller,
            "target_modules": self._targets,
            "modules_to_save": sorted(set(self._whole) - set(self._targets)) or None,
            "bias": "none",
        }
        worst = min(self._shares, key=lambda name: self._shares[name], default="")
        return Extracted(
            tensors=self._tensors,
            config=config,
            kept=self._kept / self._all,
            worst=(worst, self._shares.get(worst, 1.0)),
            left_out=tuple(self._left_out),
        )


def low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Return the nearest product of two thin matrices.

    A large matrix is first projected on the space of its largest parts, found by subspace iteration from
    fixed noise: the result is the same each time, and its share is exact whatever the projection missed.

    Args:
        matrix: (out, in) float32.
        rank: of the product; less where the matrix has less.

    Returns: (out, r), (r, in), and the squared length of their product.
    Source: Halko, Martinsson and Tropp 2011 (arXiv:0909.4061), algorithm 4.4.
    """
    small = min(matrix.shape)
    rank, searched = min(rank, small), rank + _SPARE
    if matrix.numel() <= _EXACT or searched >= small:
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    else:
        generator = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(matrix @ torch.randn(matrix.shape[1], searched, generator=generator))[0]
        for _ in range(_ROUNDS):
            basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis)[0])[0]  # (out, searched)
        u, s, v = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
        u = basis @ u
    s = s[:rank]
    root = s.sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank], float(s.double().square().sum())
