"""Write a `.safetensors` file tensor by tensor, so that no more than one of them is ever in memory.

Names, dtypes and shapes are planned first, since they stand in the header. Tensors whose bytes are no
multiple of 8 are kept and written last, so that every other one begins where its dtype may. Source of the
format: the README of huggingface/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..errors import OutputError

_ALIGNED = 8  # bytes; the widest dtype's
_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One tensor that is to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the file."""
        return prod(self.shape) * self.dtype.itemsize


def write_streamed(
    path: Path,
    texts: Mapping[str, str],
    planned: Iterable[Planned],
    pieces: Iterable[tuple[str, Tensor]],
    on_bytes: Callable[[int], None],
) -> None:
    """Write a file.

    Args:
        path: replaced if there is one.
        texts: the header's metadata.
        planned: every tensor, those that fill whole steps of 8 bytes in the order in which they come.
        pieces: names and entries of tensors, in one piece or in several that follow each other.
        on_bytes: called with the number of bytes after each piece.

    Raises:
        OutputError: the file cannot be written.
    """
    order = sorted(planned, key=_place)
    late: dict[str, list[Tensor]] = {tensor.name: [] for tensor in order if not _fits(tensor)}
    try:
        with path.open("wb") as file:
            file.write(_header(texts, order))
            for name, piece in pieces:
                if name in late:
                    late[name].append(piece.clone())
                else:
                    file.write(_bytes(piece))
                on_bytes(piece.nbytes)
            for kept in late.values():
                for piece in kept:
                    file.write(_bytes(piece))
    except OSError as error:
        raise OutputError(f'Cannot write "{path}": {error}. Choose another place.') from error


def _fits(tensor: Planned) -> bool:
    return tensor.nbytes % _ALIGNED == 0


def _place(tensor: Planned) -> int:
    """Order tensors: those that fill whole steps as they come, then the others, the widest dtypes first."""
    return -_ALIGNED - 1 if _fits(tensor) else -tensor.dtype.itemsize


def _bytes(piece: Tensor) -> memoryview:
    return piece.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _header(texts: Mapping[str, str], order: Iterable[Planned]) -> bytes:
    content: dict[str, object] = {"__metadata__": dict(texts)}
    end = 0
    for tensor in order:
        begin, end = end, end + tensor.nbytes
        content[tensor.name] = {
            "dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end],
        }  # fmt: skip
    header = json.dumps(content, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNED)
    return len(header).to_bytes(8, "little") + header
