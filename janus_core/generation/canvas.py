"""What a drawing starts from: cells whose tokens are given, cells to draw, and what pulls these back.

Kept cells are fed their own token in raster order, so that what is drawn behind them knows them; those before
the first cell to draw are read in one pass. Nothing here knows of pixels, masks or prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import SamplingError
from ..inputs.preprocessing import Fit
from ..model.language_model import LanguageModel
from ..options import MOST_PICTURES, DrawOptions, check_range, check_whole
from .steps import Sequences

_PULL = 64.0  # logits that strength 0.5 adds to the source's own token


@dataclass(frozen=True, kw_only=True)
class RedrawOptions:
    """How a picture is redrawn under a mask.

    Attributes:
        strength: 0 … 1; 1 draws freely, less pulls towards the source, 0 returns it.
        num_images: new pictures of one source; of several sources each gives one.
        candidates: 1 … 64, fills drawn side by side for each picture; the one under which the kept cells are
            likeliest comes out, which takes as much longer as there are fills. With several a model's
            recommended `min_p` is left aside: it takes away fills that begin what only kept cells tell of.
        negative_prompt: what to draw away from.
        fit: how a picture of another size than the model's becomes a square, its mask with it.
        keep_original: outside the redrawn cells return the original pixels, not the decoded ones.
        drawing: guidance and sampling.
    """

    strength: float = 1.0
    num_images: int = 1
    candidates: int = 1
    negative_prompt: str = ""
    fit: Fit = "crop"
    keep_original: bool = True
    drawing: DrawOptions = field(default_factory=DrawOptions)

    def __post_init__(self) -> None:
        check_range("strength", self.strength, 0, 1)
        check_whole("num_images", self.num_images, 1, MOST_PICTURES)
        check_whole("candidates", self.candidates, 1, 64)
        if self.drawing.keep_best:
            raise SamplingError("keep_best is for drawing whole pictures; to redraw one, use candidates.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pull:
    """A pull to the source's own tokens: `weight` times the cosine of every code with that token's code.

    Attributes:
        weight: above 0, in logits.
        directions: (v, c) float32, the unit-length codes.
    """

    weight: float
    directions: Tensor

    @classmethod
    def of(cls, strength: float, directions: Tensor) -> Pull | None:
        """Return the pull of a strength: None at 1, growing without bound towards 0, which is not allowed."""
        return None if strength == 1 else cls(weight=_PULL * (1 - strength) / strength, directions=directions)


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What one picture starts from.

    Attributes:
        tokens: (n,) int64, `UNDRAWN` where a cell has none.
        is_drawn: (n,) bool, True where a cell is drawn; everywhere where it has no token.
        pull: added to the guided logits of cells that are drawn and have a token; None is off.
    """

    tokens: Tensor
    is_drawn: Tensor
    pull: Pull | None = None

    @property
    def is_kept_behind(self) -> bool:
        """Whether cells are kept behind the first that is drawn."""
        return not bool(self.is_drawn[self.kept_first :].all())

    @property
    def kept_first(self) -> int:
        """How many cells are kept before the first that is drawn."""
        drawn = self.is_drawn.nonzero()
        return int(drawn[0]) if len(drawn) else len(self.is_drawn)


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """What the pictures of one batch start from, on the device of their drawing.

    A step reads the cell's number from the device, so that it can be captured.

    Attributes:
        start: cells that every picture keeps before the first that any draws.
        tokens: (b, n) int64, 0 where a cell has none.
        is_drawn: (b, n) bool.
        weights: (b, n) float32, of the pull of each cell, or None where nothing is pulled.
        directions: (v, c) float32, the unit-length codes, or None likewise.
    """

    start: int
    tokens: Tensor
    is_drawn: Tensor
    weights: Tensor | None = None
    directions: Tensor | None = None

    @classmethod
    def of(cls, sources: Sequence[Source], device: torch.device) -> Canvas:
        """Return the canvas of some pictures."""
        tokens = torch.stack([source.tokens for source in sources])  # (b, n)
        canvas = cls(
            start=min(source.kept_first for source in sources),
            tokens=tokens.clamp(min=0).to(device),
            is_drawn=torch.stack([source.is_drawn for source in sources]).to(device),
        )
        pulls = [source.pull for source in sources if source.pull is not None]
        if not pulls:
            return canvas
        weights = torch.tensor([0.0 if source.pull is None else source.pull.weight for source in sources])
        return replace(
            canvas,
            weights=(weights[:, None] * (tokens >= 0)).to(device),  # (b, n), 0 where there is no own token
            directions=pulls[0].directions.to(device),
        )

    def unmasked(self, masked: Tensor, logits: Tensor, cell: Tensor) -> Tensor:
        """Give the source's own token back the logit that a filter masked, so that a pull can reach it.

        Args:
            masked: (b, v), what a filter made of `logits`.
            logits: (b, v).
            cell: (1,) int64.
        """
        if self.weights is None or masked is logits:  # no pull, or nothing masked
            return masked
        own = self.tokens.index_select(1, cell)  # (b, 1)
        is_pulled = self.weights.index_select(1, cell) > 0  # (b, 1)
        return torch.where(is_pulled, masked.scatter(1, own, logits.gather(1, own)), masked)

    def pulled(self, logits: Tensor, cell: Tensor) -> Tensor:
        """Return guided logits (b, v) of a cell (1,), pulled to the source."""
        if self.weights is None or self.directions is None:
            return logits
        own = self.directions.index_select(0, self.tokens.index_select(1, cell)[:, 0])  # (b, c)
        return logits + self.weights.index_select(1, cell) * (own @ self.directions.T)

    def settled(self, chosen: Tensor, cell: Tensor) -> Tensor:
        """Return the tokens (b,) of a cell (1,): those chosen where it is drawn, else its own."""
        own = self.tokens.index_select(1, cell)[:, 0]  # (b,)
        return torch.where(self.is_drawn.index_select(1, cell)[:, 0], chosen, own)

    def select(self, rows: Tensor) -> Canvas:
        """Return the canvas of the pictures at the given places, (b,) int64."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, tokens=self.tokens[rows], is_drawn=self.is_drawn[rows], weights=weights)

    def before_start(self) -> Tensor:
        """Return the tokens (b, start) that every picture keeps before the first cell to draw."""
        return self.tokens[:, : self.start]


def extended(model: LanguageModel, sequences: Sequences, embeddings: Tensor) -> tuple[Sequences, Tensor]:
    """Append embeddings (b, t, d) to every row in one pass; also return the hidden states (b, t, d).

    Args:
        model: the language model.
        sequences: with room in their cache for t more tokens; taken over.
        embeddings: in the dtype of the hidden states.
    """
    rows, count = embeddings.shape[:2]
    steps = torch.arange(1, count + 1, device=embeddings.device)  # behind the last stored token
    positions = sequences.positions[:, None] + steps  # (b, t)
    attended = sequences.attended
    if attended is not None:
        attended = torch.cat((attended, attended.new_ones(rows, count)), dim=1)  # (b, stored + t)
    hidden: Tensor = model(embeddings, positions, cache=sequences.cache, attended=attended)  # (b, t, d)
    longer = Sequences(
        hidden=hidden[:, -1], cache=sequences.cache, positions=positions[:, -1], attended=attended
    )
    return longer, hidden
