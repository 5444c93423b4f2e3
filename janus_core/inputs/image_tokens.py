"""`ImageTokens`: drawn or encoded pictures as a value that can be saved, loaded and decoded.

It carries the identity of its codebook, without which the numbers mean nothing, and no reference to a model.
`Drawn` is the result of drawing: image tokens and the pictures decoded from them.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ImageError, OutputError

UNDRAWN = -1  # in place of a token that is still to be drawn

_FORMAT = "janus-image-tokens-1"


def codebook_identity(codebook: Tensor) -> str:
    """Return a short fingerprint of a codebook (v, c), the same in every storage dtype.

    Published codebooks are bfloat16, so rounding to it makes the fingerprint independent of how they were
    loaded.
    """
    rounded = codebook.detach().to("cpu", torch.bfloat16).contiguous()  # (v, c)
    # as bytes, since numpy has no bfloat16
    digest = hashlib.sha256(rounded.view(torch.uint8).numpy().tobytes()).hexdigest()
    return f"{codebook.shape[0]}x{codebook.shape[1]}-{digest[:16]}"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTokens:
    """Image tokens of b pictures.

    Attributes:
        grid: (b, rows, columns) int64 on the CPU, each at least 0 and below the codebook's size; `UNDRAWN` in
            the last cells, row by row, of a drawing that was interrupted.
        codebook: identity of the codebook, from `codebook_identity`.
        model: name of the model that made them, for people only; empty if nobody knows it.
    """

    grid: Tensor
    codebook: str
    model: str = ""

    def __post_init__(self) -> None:
        if self.grid.ndim != 3 or self.grid.dtype != torch.int64 or 0 in self.grid.shape:
            raise ImageError(
                f"Image tokens must be whole numbers in a grid (pictures, rows, columns); got shape "
                f"{tuple(self.grid.shape)} of {self.grid.dtype}."
            )

    def __len__(self) -> int:
        """Return the number of pictures."""
        return int(self.grid.shape[0])

    def __str__(self) -> str:
        """Return what a person would call them: "4 × 8 × 8 tokens of janus-shapes"."""
        size = " × ".join(str(length) for length in self.grid.shape)
        return f"{size} tokens of {self.model or f'the codebook {self.codebook}':.80}"

    @classmethod
    def undrawn(cls, count: int, side: int, codebook: str) -> ImageTokens:
        """Return tokens of pictures of which nothing is drawn yet."""
        return cls(grid=torch.full((count, side, side), UNDRAWN), codebook=codebook)

    @property
    def cells_drawn(self) -> list[int]:
        """How many cells of each picture are drawn."""
        drawn: list[int] = (self.grid != UNDRAWN).sum(dim=(1, 2)).tolist()
        return drawn

    def check_decodable(self, codebook: str, codebook_size: int, side: int) -> None:
        """Raise ImageError unless a model with this codebook and grid side can decode the tokens."""
        self.check_drawable(codebook, codebook_size, side)
        cells, drawn = self.grid.shape[1:].numel(), self.cells_drawn
        unfinished = [number for number, count in enumerate(drawn, start=1) if count < cells]
        if unfinished:
            raise ImageError(
                f"{len(unfinished)} of {len(self)} pictures are not finished, the first of them, number "
                f"{unfinished[0]}, after {drawn[unfinished[0] - 1]} of {cells} image tokens: their drawing "
                "was interrupted. Go on with it in Janus Draw (image_tokens), or by draw --tokens."
            )

    def is_decodable(self, codebook: str, codebook_size: int, side: int) -> bool:
        """Tell whether a model with this codebook and grid side can decode the tokens."""
        try:
            self.check_decodable(codebook, codebook_size, side)
        except ImageError:
            return False
        return True

    def check_drawable(self, codebook: str, codebook_size: int, side: int) -> None:
        """Raise ImageError unless a model with this codebook and grid side can go on from the tokens."""
        if self.codebook != codebook:
            raise ImageError(
                f"These image tokens were made with the codebook {self.codebook:.80}, the model has "
                f"{codebook}. Use them with the model that made them."
            )
        if tuple(self.grid.shape[1:]) != (side, side):
            raise ImageError(
                f"The image tokens form a grid of {self.grid.shape[1]} × {self.grid.shape[2]}; this model "
                f"draws {side} × {side}."
            )
        low, high = int(self.grid.min()), int(self.grid.max())
        missing = (self.grid == UNDRAWN).flatten(1)  # (b, n)
        has_gaps = bool((missing[:, :-1] & ~missing[:, 1:]).any())
        if has_gaps or low < UNDRAWN or high >= codebook_size:
            raise ImageError(
                f"The image tokens range from {low} to {high}, but the codebook has codes 0 to "
                f"{codebook_size - 1}. The tokens are damaged; make them again."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokens to a `.safetensors` file.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            made_by = {"model": self.model} if self.model else {}
            metadata = {"format": _FORMAT, "codebook": self.codebook} | made_by
            save_file({"grid": self.grid.contiguous()}, path, metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f'Cannot write image tokens to "{os.fspath(path)}": {error}. Choose a folder you may write '
                "to."
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ImageTokens:
        """Read tokens that `save` wrote.

        Raises:
            ImageError: no such file, not a file of image tokens, or a damaged one.
        """
        name = os.fspath(path)
        try:
            exists = Path(path).is_file()
        except (OSError, ValueError):  # a name too long, or with a null character
            exists = False
        if not exists:
            raise ImageError(f'There is no file of image tokens at "{name}".')
        try:
            with safe_open(name, framework="pt") as file:
                metadata = file.metadata() or {}
                grid = file.get_tensor("grid") if "grid" in file.keys() else None  # noqa: SIM118 - not a container
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise ImageError(
                f'Cannot read image tokens from "{name}": {error!s:.200}. Make them again.'
            ) from error
        if grid is None or metadata.get("format") != _FORMAT or not metadata.get("codebook"):
            raise ImageError(
                f'"{name}" holds no image tokens of Janus. Choose a file that "Save Janus Tokens" or '
                '"encode" wrote.'
            )
        # a copy: the file is mapped
        return cls(grid=grid.clone(), codebook=metadata["codebook"], model=metadata.get("model", ""))


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Drawn pictures.

    Attributes:
        images: (b, h, w, 3) float32 in 0..1 on the CPU.
        tokens: the image tokens they were decoded from.
        seeds: of each picture; drawn alone with its seed, a picture is the same (in float32).
        scores: where the best were kept, how much likelier each picture is with its prompt than without it,
            in logarithms; else empty.
    """

    images: Tensor
    tokens: ImageTokens
    seeds: tuple[int, ...]
    scores: tuple[float, ...] = ()
