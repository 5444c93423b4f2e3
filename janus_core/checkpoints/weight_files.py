"""Read one weight file: mapped safetensors, or a pickle of plain tensors, which can run no code."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError, shown
from .wrappers import find_table, is_training_state

_ZIP_MARK = b"PK\x03\x04"
_LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library too
# How torch's unpickler says that a file asks for more than tensors; anything else it says means damage.
_CODE = re.compile(
    r"(?:GLOBAL|Unsupported class) ([\w.]+)|unrecognized function|Can only (?:build|create)|TorchScript"
)


def read_weight_file(path: Path) -> dict[str, Tensor]:
    """Read all tensors of one weight file, mapped from disk.

    Raises:
        CheckpointError: the file is damaged, or a pickle that wants to run code.
    """
    if path.suffix != ".safetensors":
        return _read_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable itself
    except Exception as error:
        raise unreadable(path, str(error)) from error


def refuse_cut_off(path: Path) -> None:
    """Raise CheckpointError if a weight file is shorter than it says itself."""
    try:
        if path.suffix == ".safetensors":
            _require_length(path)
        else:
            _is_plain_zip(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise unreadable(path, str(error)) from error
    except Exception as error:  # whatever a damaged header makes of its readers
        raise unreadable(path, "its header is broken") from error


def _require_length(path: Path) -> None:
    """Raise OSError unless a safetensors file is as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length + 8 > size:
            raise OSError("its header is cut off")
        if length > _LARGEST_HEADER:
            raise OSError(f"its header claims {length:,} bytes")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise OSError("its header lists no tensors")
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    missing = 8 + length + max(ends, default=0) - size
    if missing > 0:
        raise OSError(f"{missing} bytes are missing at its end")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        is_zip = _is_plain_zip(path)  # what torch wrote before 1.6 is no zip file and cannot be mapped
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged files make torch talk of their pickle protocol
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:
        found = _CODE.search(str(error))
        if found:
            what = f"something other than plain tensors{f' ({found[1]})' if found[1] else ''}"
            raise CheckpointError(
                f'"{path}" was refused: it holds {what}, which could run code on this computer. Use the '
                "safetensors version of this model, or fetch the file from its publisher."
            ) from error
        # torch's own text for a broken pickle recommends to load it unsafely
        is_broken = isinstance(error, pickle.UnpicklingError)
        raise unreadable(path, "its list of tensors is broken" if is_broken else str(error)) from error
    table = find_table(content)
    if table is None:
        what = (
            "is the state of an optimiser" if is_training_state(content) else "is no table of named tensors"
        )
        raise CheckpointError(f'"{path}" {what}, not a model. Fetch the model weights again.')
    return {name: _backed(name, tensor, path) for name, tensor in table.items()}


def _backed(name: str, tensor: Tensor, path: Path) -> Tensor:
    """Return a tensor for whose every number there is one in the file; a pickle may claim any size."""
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f'"{path}" claims {tensor.numel():,} numbers for {shown(name)} and holds fewer. Fetch the model '
            "weights again."
        )
    return tensor.detach()


def _is_plain_zip(path: Path) -> bool:
    """Tell zip files from older ones; mapped, a compressed entry would silently be read as numbers."""
    with path.open("rb") as file:
        if file.read(len(_ZIP_MARK)) != _ZIP_MARK:
            return False
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise OSError("it was compressed after it was written")
    return True


def unreadable(path: Path, reason: str) -> CheckpointError:
    """Return the error for a file that cannot be read, with the first line of the reason."""
    first_line = reason.partition("\n")[0].rstrip(".?")[:200] or "it ends too early"
    return CheckpointError(
        f'Cannot read "{path}": {first_line}. The file is damaged or incomplete: fetch it again.'
    )
