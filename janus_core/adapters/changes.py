"""What adapters do to a model's tensors, and the sum of it: no files, no names but ours.

A change covers a tensor, or some rows of one: three matrices of one layout are one matrix of ours. It is
merged in float32, some rows at a time, so that a large matrix takes little memory beside itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..quantised.linear import expand_layer

_ROWS_AT_ONCE = 2048  # of a matrix while it is merged


@dataclass(frozen=True, kw_only=True)
class Place:
    """Rows of one of our tensors.

    Attributes:
        tensor: its name, a key of the model's `state_dict()`.
        first_row: where they begin.
        shape: of these rows, (rows, …).
    """

    tensor: str
    first_row: int
    shape: torch.Size


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRank:
    """A product of two thin matrices that is added.

    Attributes:
        place: the rows that it is added to.
        up: (rows, r).
        down: (r, columns); the product has as many columns as the rows have entries.
        scale: of the product at strength 1.
    """

    place: Place
    up: Tensor
    down: Tensor
    scale: float

    def difference(self, first: int, rows: Tensor) -> Tensor:
        """Return what is added at strength 1 to `rows`, float32, which begin at row `first` of the place."""
        up = self.up[first : first + len(rows)].to(rows.device, torch.float32)  # (rows, r)
        product = up @ self.down.to(rows.device, torch.float32)
        return (self.scale * product).reshape(rows.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Whole:
    """A tensor that takes the place of another one, or is added to it.

    Attributes:
        place: the rows that it is for.
        value: of the place's shape.
        is_added: it is added; else it is what the tensor becomes at strength 1.
    """

    place: Place
    value: Tensor
    is_added: bool = False

    def difference(self, first: int, rows: Tensor) -> Tensor:
        """Return what is added at strength 1 to `rows`, float32, which begin at row `first` of the place."""
        value = self.value[first : first + len(rows)].to(rows.device, torch.float32)
        return value if self.is_added else value - rows


Change: TypeAlias = "LowRank | Whole"
# A tensor's changes, each with its strength.
Weighted: TypeAlias = "Sequence[tuple[Change, float]]"
Stack: TypeAlias = "Mapping[str, Weighted]"


def stacked(adapters: Iterable[tuple[Sequence[Change], float]]) -> Stack:
    """Return the changes of several adapters by the tensor they are for; those of strength 0 are left out."""
    stack: dict[str, list[tuple[Change, float]]] = {}
    for changes, strength in adapters:
        for change in changes if strength else ():
            stack.setdefault(change.place.tensor, []).append((change, strength))
    return stack


def merge_into(model: nn.Module, stack: Stack, under: str = "") -> None:
    """Give a model's parameters their changes; tensors that they shared with others stay as they are.

    A quantised matrix that is changed is expanded first, and stays so.

    Args:
        model: whose parameters have the names of `stack`.
        stack: the changes.
        under: the path of the module whose parameters are meant; empty means all.
    """
    for name, changes in stack.items():
        if not under or name.startswith(f"{under}."):
            expand_layer(model, name)
            parameter = model.get_parameter(name)
            parameter.data = merged(parameter.data, changes)


def merged(tensor: Tensor, changes: Weighted) -> Tensor:
    """Return a tensor with its changes, in its dtype and on its device; the tensor itself stays as it is.

    Differences are summed before they are added, so that two adapters give the same bits in any order.
    """
    result = torch.empty_like(tensor)
    for start in range(0, len(tensor), _ROWS_AT_ONCE):
        rows = tensor[start : start + _ROWS_AT_ONCE].float()
        total = torch.zeros_like(rows)
        for change, strength in changes:
            _accumulate(total, rows, start, change, strength)
        result[start : start + len(rows)] = (rows + total).to(tensor.dtype)
    return result


def _accumulate(total: Tensor, rows: Tensor, start: int, change: Change, strength: float) -> None:
    """Add to `total` what one change does to `rows`, which begin at row `start` of their tensor."""
    place = change.place
    begin = max(start, place.first_row)
    end = min(start + len(rows), place.first_row + place.shape[0])
    if begin < end:
        part = slice(begin - start, end - start)
        total[part] += strength * change.difference(begin - place.first_row, rows[part])
