"""Write a model anew: any layout as one file, one file as a folder, in another dtype, or quantised.

What is written has the authors' names and is whole or not there: it gets its name when it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.folders import resolve_model
from ..checkpoints.gaps import refuse_gaps
from ..checkpoints.layout import CheckpointFiles, find_files
from ..checkpoints.load import read_all, read_checkpoint_and_model
from ..checkpoints.names import is_unused
from ..checkpoints.quantised_files import is_quantised
from ..checkpoints.weight_files import read_weight_file
from ..errors import CheckpointError, OutputError
from ..flow.flow_checkpoint import read_flow_checkpoint
from ..one_file import SUFFIX, TOKENIZER, TOKENIZER_TENSOR, read_model_text
from ..options import OnStep
from ..outputs import partial, ready_folder
from .quantising import KINDS, QuantisedKind, is_quantisable, planned_parts, quantised_parts
from .source import Source
from .streaming import Planned, write_streamed
from .texts import texts_of

_WEIGHTS = "model.safetensors"
# Of weight files: a folder of such a name is surely not meant.
_OTHER_ENDINGS = (
    SUFFIX, ".safetensor", ".sft", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".json",
)  # fmt: skip
_SPARE = 2**27  # bytes that stay free on the disk


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written.

    Attributes:
        path: the file or folder.
        nbytes: of the weights.
        tensors: how many.
        quantised: how many matrices were quantised.
    """

    path: Path
    nbytes: int
    tensors: int
    quantised: int


def convert(
    model: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    quantise: str | None = None,
    dtype: torch.dtype | None = None,
    on_progress: OnStep | None = None,
) -> Conversion:
    """Write a model as one file, or as a folder.

    Args:
        model: a folder of any layout, one file, or the name of a bundled model.
        target: where; a name that ends in .safetensors becomes one file, any other a folder.
        quantise: a key of `KINDS`, for the decoder's matrices, or None.
        dtype: of the other tensors; None keeps each as it is.
        on_progress: called with the bytes done and the bytes in all.

    Raises:
        CheckpointError, ConfigError: the model cannot be used, or is quantised already. OutputError: the
        target exists or cannot be written.
    """
    path, kind = Path(target), _kind(quantise)
    _refuse_other_endings(path)
    _refuse_existing(path)
    files = find_files(resolve_model(model))
    _refuse_quantised(files)
    config, source = _read(files)
    texts, tokenizer = texts_of(files, config), read_model_text(files.folder / TOKENIZER)
    job = _Job(source, dtype, kind, _tokenizer_tensor(tokenizer) if path.suffix == SUFFIX else None)
    ready_folder(path.parent)
    _check_space(path.parent, job.nbytes)
    if path.suffix == SUFFIX:
        with partial(path) as part:
            job.write(part, texts, on_progress)
            _rename(part, path)
    else:
        _write_folder(job, path, texts | {TOKENIZER: tokenizer}, on_progress)
    return Conversion(path=path, nbytes=job.nbytes, tensors=len(job.planned), quantised=len(job.quantisable))


def _kind(name: str | None) -> QuantisedKind | None:
    if name is not None and name not in KINDS:
        raise CheckpointError(
            f'There is no kind "{name}" of quantised files. Choose one of {", ".join(KINDS)}.'
        )
    return None if name is None else KINDS[name]


def _refuse_quantised(files: CheckpointFiles) -> None:
    if is_quantised(read_all(files, read_weight_file), files):
        raise CheckpointError(
            f'"{files.folder}" is quantised already: converting it again would lose more, and gain nothing. '
            "Convert the original model."
        )


def _read(files: CheckpointFiles) -> tuple[object, Source]:
    """Read a model to check all of it; return its configuration and its tensors."""
    if files.layout == "janusflow":
        flow, flow_model = read_flow_checkpoint(files.folder)
        return flow.config, Source(files, flow_model)
    checkpoint, model = read_checkpoint_and_model(files.folder, looks_for_gaps=False)
    config, words = checkpoint.config, checkpoint.tokenizer.vocab_size
    del checkpoint  # and with it the files' mapping
    source = Source(files, model)
    # what no computation reads may well be zeros: running means that nobody has updated
    looked_at = (pair for pair in source.each() if not is_unused(pair[0]))
    refuse_gaps(looked_at, words, files.folder)
    return config, source


class _Job:
    """One set of weights that is to be written."""

    def __init__(
        self,
        source: Source,
        dtype: torch.dtype | None,
        kind: QuantisedKind | None,
        tokenizer: Tensor | None,
    ) -> None:
        self._source = source
        self._dtype = dtype
        self._kind = kind
        self._tokenizer = tokenizer
        self.quantisable = {
            name
            for name, (_, shape) in source.kinds.items()
            if kind is not None and is_quantisable(kind, name, shape)
        }
        self.planned = [
            Planned(name=part, dtype=stored, shape=shape)
            for name in sorted(source.kinds)
            for part, (stored, shape) in self._parts(name).items()
        ]
        if tokenizer is not None:
            self.planned.append(
                Planned(name=TOKENIZER_TENSOR, dtype=torch.uint8, shape=tuple(tokenizer.shape))
            )
        self.nbytes = sum(tensor.nbytes for tensor in self.planned)

    def write(self, path: Path, texts: dict[str, str], on_progress: OnStep | None) -> None:
        write_streamed(
            path, {"format": "pt", **texts}, self.planned, self._pieces(), self._counted(on_progress)
        )

    def _parts(self, name: str) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Return dtype and shape of what a tensor of the source becomes, by name."""
        stored, shape = self._source.kinds[name]
        if self._kind is not None and name in self.quantisable:
            return planned_parts(self._kind, name, shape)
        return {name: (self._stored(stored), shape)}

    def _stored(self, dtype: torch.dtype) -> torch.dtype:
        return self._dtype if self._dtype is not None and dtype.is_floating_point else dtype

    def _pieces(self) -> Iterator[tuple[str, Tensor]]:
        for name in sorted(self._source.kinds):
            if self._kind is not None and name in self.quantisable:
                yield from quantised_parts(self._kind, name, self._source.whole(name)).items()
                continue
            for piece in self._source.pieces(name):
                yield name, piece.to(self._stored(piece.dtype))
        if self._tokenizer is not None:
            yield TOKENIZER_TENSOR, self._tokenizer

    def _counted(self, on_progress: OnStep | None) -> Callable[[int], None]:
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            if on_progress is not None:
                on_progress(done, self.nbytes)

        return on_bytes


def _tokenizer_tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode("utf-8")), dtype=torch.uint8)


def _write_folder(job: _Job, path: Path, texts: dict[str, str], on_progress: OnStep | None) -> None:
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        ready_folder(part)
        job.write(part / _WEIGHTS, {}, on_progress)
        for name, text in texts.items():
            (part / name).write_bytes(text.encode("utf-8"))
        _rename(part, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f'Cannot write "{path}": {error}. Choose another place.') from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _rename(part: Path, path: Path) -> None:
    try:
        part.rename(path)
    except OSError as error:
        raise OutputError(f'Cannot write "{path}": {error}. Choose another place.') from error


def _refuse_other_endings(path: Path) -> None:
    if path.suffix != SUFFIX and path.suffix.lower() in _OTHER_ENDINGS:
        raise OutputError(
            f'Cannot write "{path}": one file is written as {SUFFIX}, and its name has to end so. Choose '
            "such a name, or one without an ending for a folder."
        )


def _refuse_existing(path: Path) -> None:
    try:
        is_there = path.exists() or path.is_symlink()
    except OSError as error:  # a name that is too long
        raise OutputError(f'Cannot write "{path}": {error.strerror}. Choose another place.') from error
    if is_there:
        raise OutputError(f'"{path}" exists already, and nothing is written over it. Choose another name.')


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise OutputError(
            f'The model takes {needed / 1e9:.2f} GB, and the disk of "{folder}" has {free / 1e9:.2f} GB '
            "free. Make room, or choose another disk."
        )
