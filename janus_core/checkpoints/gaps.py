"""Find gaps in weights: stretches of zeros where a download has reserved disk space and not yet filled it.

Such a file has its full size and a whole header, so only its content tells. A few pages of every mapped
matrix are sampled; no tensor is read whole. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import CheckpointError

_PAGE = 4096  # bytes
_SAMPLES = 32  # pages sampled in one matrix: in the large ones of a 1B model one in each 0.7 MB
_SHORTEST = 4  # consecutive pages of zeros that no trained matrix has
_SHORTEST_OF_WORDS = 16  # a word embedding may have a few rows that training never reached
_WORDS = ("embed_tokens.weight", "lm_head.weight")


def refuse_gaps(tensors: Iterable[tuple[str, Tensor]], words: int, folder: Path) -> None:
    """Raise CheckpointError if a matrix has a stretch of zeros.

    Args:
        tensors: by name, ours or the authors'; each is done with when the next comes.
        words: how many tokens the tokenizer has; rows of word tables beyond them are padding.
        folder: where the tensors come from.
    """
    hit = [name for name, tensor in tensors if tensor.ndim > 1 and _has_gap(name, tensor, words)]
    if hit:
        count = f"{len(hit)} tensors hold" if len(hit) > 1 else "1 tensor holds"
        raise CheckpointError(
            f'Cannot load "{folder}": {count} long stretches of zeros, first "{hit[0]}". The download has '
            "reserved its space and was never finished: continue it, or fetch the weights again."
        )


def _has_gap(name: str, tensor: Tensor, words: int) -> bool:
    is_words = name.endswith(_WORDS)
    # bytes, since zero is zero in every dtype; a view of the mapped file
    data = (tensor[:words] if is_words else tensor).reshape(-1).view(torch.uint8).numpy()
    count = len(data) // _PAGE
    if count == 0:
        return False
    pages = data[: count * _PAGE].reshape(count, _PAGE)
    step = max(1, count // _SAMPLES)
    empty = np.flatnonzero(~pages[::step].any(axis=1)) * step  # numbers of the sampled pages that are empty
    shortest = min(-(-count // 2), _SHORTEST_OF_WORDS) if is_words else min(count, _SHORTEST)
    return any(_stretch(pages, page, shortest) >= shortest for page in empty.tolist())


def _stretch(pages: npt.NDArray[np.uint8], page: int, enough: int) -> int:
    """Return the length in pages of the longest empty stretch within `enough` pages of an empty one."""
    low = max(0, page - enough + 1)
    longest = length = 0
    for is_empty in np.atleast_1d(~pages[low : page + enough].any(axis=1)):
        length = length + 1 if is_empty else 0
        longest = max(longest, length)
    return longest
