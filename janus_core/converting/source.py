"""A checkpoint's tensors under the names that a target stores them by, mapped from the files.

Pages of a mapped file count as memory once they were read. So the files are mapped anew every few hundred
megabytes, and what was read before is let go.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.layout import CheckpointFiles, Layout
from ..checkpoints.load import read_all, to_our_names
from ..checkpoints.names import is_unused, to_published
from ..checkpoints.weight_files import read_weight_file
from ..one_file import TOKENIZER_TENSOR

_MOST_MAPPED = 2**28  # bytes that may have been read since the files were mapped
_PIECE = 2**26  # bytes that are read at once

# How a model's source stands in a target: the sibling keeps its own names, everything else the authors'.
_TARGETS: dict[Layout, Layout] = {"authors": "authors", "transformers": "authors", "janusflow": "janusflow"}


class Source:
    """Tensors of one checkpoint, read in pieces.

    Attributes:
        folder: where they come from.
        layout: whose names the target has.
        kinds: dtype and shape of every tensor, by its name in the target.
    """

    def __init__(self, files: CheckpointFiles, model: nn.Module) -> None:
        """Map the files.

        Args:
            files: of the checkpoint.
            model: on the meta device, as its tensors were checked against.
        """
        self.folder: Path = files.folder
        self.layout = _TARGETS[files.layout]
        self._files = files
        self._model = model
        self._read = 0
        self._tensors = self._map()
        self.kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in self._tensors.items()}

    def each(self) -> Iterator[tuple[str, Tensor]]:
        """Yield names and tensors of which a few pages are read, each valid until the next."""
        for name in self.kinds:
            # some dozens of pages, each of which the system may map with the two megabytes around it
            self._count(min(self._tensors[name].nbytes, _PIECE))
            yield name, self._tensors[name]

    def whole(self, name: str) -> Tensor:
        """Return one tensor, valid until the next is asked for."""
        self._count(self._tensors[name].nbytes)
        return self._tensors[name]

    def pieces(self, name: str) -> Iterator[Tensor]:
        """Yield the entries of one tensor, flat and a few at a time, each piece valid until the next."""
        whole = self._tensors[name]
        entries, step = whole.numel(), _PIECE // whole.itemsize
        for first in range(0, entries, step):
            self._count(min(step, entries - first) * whole.itemsize)
            whole = self._tensors[name]  # perhaps mapped anew
            yield whole.reshape(-1)[first : first + step]

    def _count(self, nbytes: int) -> None:
        """Map the files anew where reading so many bytes would make it too many."""
        if self._read and self._read + nbytes > _MOST_MAPPED:
            self._tensors.clear()  # the old mapping goes with the last tensor
            self._tensors |= self._map()
            self._read = 0
        self._read += nbytes

    def _map(self) -> dict[str, Tensor]:
        stored = read_all(self._files, read_weight_file)
        with torch.no_grad():
            ours = to_our_names(stored, self._model, self._files)
        # what no computation reads stays where the names stay, so that a folder comes back as it was
        kept = {n: t for n, t in stored.items() if is_unused(n)} if self._files.layout == self.layout else {}
        kept.pop(TOKENIZER_TENSOR, None)
        return kept | to_published(ours, self.layout)
