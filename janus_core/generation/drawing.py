"""Drawing: prompts in, image tokens out, one cell of the grid after the other.

Every distinct prompt row is prefilled once and expanded over the pictures that share it. It knows nothing of
pixels or of the VQ tokenizer. Sources: the authors' generation_inference.py; classifier-free guidance, Ho and
Salimans 2022 (arXiv:2207.12598).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PromptError
from ..inputs.prompting import PromptPlan, plan_drawing, unconditional
from ..inputs.text_tokenizer import TextTokenizer
from ..model.model import Language
from ..options import PUBLISHED_GUIDANCE, Compute, DrawOptions, OnStep, OnTokens
from .fixed_decoder import FixedDecoder, LayerWeights, merged
from .noise import block_cells, keyed_noise, noise_key
from .prefill import Sequences, check_context, is_repeatable, pad_left
from .repeats import Pace, Repeats, capture_for
from .sampling import guide, keep_min_p, next_tokens

_NOISE_BLOCK = 24  # grid cells whose noise is computed together, on a CPU


@dataclass(frozen=True, kw_only=True)
class DrawPlan:
    """One picture to draw: its prompt row, the row it is guided away from, and its seed."""

    cond: PromptPlan
    uncond: PromptPlan
    seed: int


def plan_pictures(
    prompts: Sequence[str],
    negative_prompt: str,
    seeds: Sequence[int],
    tokenizer: TextTokenizer,
    *,
    old_roles: bool,
) -> list[DrawPlan]:
    """Plan a picture of every prompt with every seed, those of one prompt side by side.

    An empty negative prompt guides away from each prompt's own row without its content.

    Raises:
        PromptError: there is no prompt.
    """
    if not prompts:
        raise PromptError("There is no prompt to draw. Give at least one, which may be empty.")
    planned: list[DrawPlan] = []
    for prompt in prompts:
        cond = plan_drawing(prompt, tokenizer, old_roles=old_roles)
        if negative_prompt.strip():
            uncond = plan_drawing(negative_prompt, tokenizer, old_roles=old_roles)
        else:
            uncond = unconditional(cond, tokenizer)
        planned += [DrawPlan(cond=cond, uncond=uncond, seed=seed) for seed in seeds]
    return planned


def generate_image_tokens(
    language: Language,
    pictures: Sequence[DrawPlan],
    options: DrawOptions,
    *,
    num_image_tokens: int,
    pad: int,
    compute: Compute,
    on_step: OnStep | None = None,
    on_tokens: OnTokens | None = None,
) -> Tensor:
    """Draw pictures together.

    Args:
        language: ready on the device of `compute`.
        pictures: what to draw.
        options: guidance and sampling.
        num_image_tokens: cells of the grid.
        pad: id that fills shorter prompt rows.
        compute: device and dtype.
        on_step: receives each step.
        on_tokens: receives the tokens so far after each step.

    Returns: image tokens (b, n) int64 on the device of `compute`.

    Raises:
        PromptError: a prompt leaves no room for the picture in the context.
    """
    drawing = Drawing(
        language, pictures, options, num_image_tokens=num_image_tokens, pad=pad, compute=compute
    )
    noise = _Noise([picture.seed for picture in pictures], options, language, compute.device)
    tokens = torch.empty(len(pictures), num_image_tokens, dtype=torch.int64, device=compute.device)

    def report(cell: int) -> None:
        if on_tokens is not None:
            on_tokens(tokens[:, : cell + 1])
        if on_step is not None:
            on_step(cell + 1, num_image_tokens)

    if is_repeatable(language.language_model, compute):
        with merged(language.language_model) as weights:
            _draw_repeatedly(RepeatedDrawing(drawing, weights, noise, tokens), report)
    else:
        _draw_plainly(drawing, noise, tokens, report)
    return tokens


def _draw_plainly(drawing: Drawing, noise: _Noise, tokens: Tensor, report: Callable[[int], None]) -> None:
    cells = tokens.shape[1]
    for cell in range(cells):
        tokens[:, cell] = drawing.choose(drawing.logits(), noise.at(cell))
        report(cell)
        if cell + 1 < cells:
            drawing.advance(tokens[:, cell])


def _draw_repeatedly(drawing: RepeatedDrawing, report: Callable[[int], None]) -> None:
    device = drawing.tokens.device
    repeats, pace = Repeats(drawing.step, capture_for(device)), Pace(device)
    drawing.begin()
    report(0)
    try:
        for cell in range(1, drawing.tokens.shape[1]):
            drawing.prepare(cell)
            repeats(drawing.decoder.reach(cell - 1))
            pace.step()
            report(cell)
    finally:
        pace.finish()


class _Noise:
    """Gumbel noise of the pictures, computed a block of cells at a time."""

    def __init__(
        self, seeds: Sequence[int], options: DrawOptions, language: Language, device: torch.device
    ) -> None:
        self.cells = block_cells(len(seeds)) if device.type == "cuda" else _NOISE_BLOCK
        self._codes = language.image_token_embedding.num_embeddings
        self._key = noise_key(seeds, device) if options.temperature > 0 else None
        self._block: Tensor | None = None

    def block(self, cell: int) -> Tensor | None:
        """Return noise (b, cells, v) for the block that begins at a cell, or None where nothing is random."""
        if self._key is None:
            return None
        return keyed_noise(self._key, range(cell, cell + self.cells), self._codes)

    def at(self, cell: int) -> Tensor | None:
        """Return noise (b, v) for one cell; cells are asked for in order."""
        if cell % self.cells == 0:
            self._block = self.block(cell)
        return None if self._block is None else self._block[:, cell % self.cells]


class Drawing:
    """The decoder's side of a drawing: a row per picture, then the rows they are guided away from."""

    def __init__(
        self,
        language: Language,
        pictures: Sequence[DrawPlan],
        options: DrawOptions,
        *,
        num_image_tokens: int,
        pad: int,
        compute: Compute,
    ) -> None:
        self._language, self._compute, self._options = language, compute, options
        self._guidance = options.guidance(PUBLISHED_GUIDANCE)
        self._is_guided = self._guidance.cfg_weight != 1 and any(p.cond != p.uncond for p in pictures)
        rows = [p.cond for p in pictures] + ([p.uncond for p in pictures] if self._is_guided else [])
        check_context(rows, language.language_model.config, num_image_tokens)
        distinct = list(dict.fromkeys(rows))
        prompts = pad_left(distinct, pad, compute.device)
        self._sequences = Sequences(language, prompts, None, new_tokens=num_image_tokens, compute=compute)
        self._sequences.select([distinct.index(row) for row in rows])

    @property
    def hidden(self) -> Tensor:
        """The hidden states (rows, d) that the next cell comes from."""
        return self._sequences.hidden

    def logits(self) -> Tensor:
        """Return the guided image logits (b, v) float32 of the next cell."""
        return self.score(self.hidden)

    def score(self, hidden: Tensor) -> Tensor:
        """Return the guided image logits (b, v) float32 that hidden states (rows, d) give."""
        logits: Tensor = self._language.generation_head(hidden).float()
        min_p, cfg_weight = self._guidance.min_p, self._guidance.cfg_weight
        if not self._is_guided:
            return keep_min_p(logits, min_p)
        cond_logits, uncond_logits = logits.chunk(2)
        return guide(keep_min_p(cond_logits, min_p), uncond_logits, cfg_weight)

    def choose(self, logits: Tensor, noise: Tensor | None) -> Tensor:
        """Return the next token (b,) of each picture."""
        options = self._options
        return next_tokens(
            logits,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            noise=noise,
        )

    def for_all_rows(self, embeddings: Tensor) -> Tensor:
        """Give every row (rows, d) the embedding of its picture (b, d)."""
        return torch.cat((embeddings, embeddings)) if self._is_guided else embeddings

    def advance(self, tokens: Tensor) -> None:
        """Feed the chosen tokens (b,) to every row of their picture and compute the next hidden state."""
        self._sequences.feed(self.for_all_rows(self.embed(tokens)))

    def embed(self, tokens: Tensor) -> Tensor:
        """Return embeddings (…, d) of image tokens."""
        return self._language.embed_image_tokens(tokens, self._compute.dtype)

    def embedding_table(self) -> Tensor:
        """Return the embeddings (v, d) of all image tokens."""
        codes = self._language.image_token_embedding.num_embeddings
        return self.embed(torch.arange(codes, device=self._compute.device))

    def fixed(self, weights: Sequence[LayerWeights]) -> FixedDecoder:
        """Hand the rows over to a decoder whose memory never moves."""
        return self._sequences.fixed(weights)


class RepeatedDrawing:
    """A drawing whose every step is the same work on the same memory: feed the last token, choose the next.

    Attributes:
        decoder: of all rows.
        tokens: (b, n), filled cell by cell.
    """

    def __init__(
        self, drawing: Drawing, weights: Sequence[LayerWeights], noise: _Noise, tokens: Tensor
    ) -> None:
        self.decoder, self.tokens = drawing.fixed(weights), tokens
        self._drawing, self._source, self._table = drawing, noise, drawing.embedding_table()
        self._noise = noise.block(0)
        self._last = torch.zeros_like(tokens[:, 0])
        self._cell = torch.zeros(1, dtype=torch.int64, device=tokens.device)
        self._cell_in_block = torch.zeros_like(self._cell)

    def begin(self) -> None:
        """Choose the first token, from what the prefill left."""
        self._choose(self._drawing.hidden)

    def prepare(self, cell: int) -> None:
        """Renew the noise before a cell that begins a block."""
        if self._noise is not None and cell % self._source.cells == 0:
            fresh = self._source.block(cell)
            if fresh is not None:
                self._noise.copy_(fresh)
            self._cell_in_block.zero_()

    def step(self, reach: int) -> None:
        """Do one step; nothing it does depends on which."""
        embeddings = self._table.index_select(0, self._last)
        self._choose(self.decoder.step(self._drawing.for_all_rows(embeddings), reach))

    def _choose(self, hidden: Tensor) -> None:
        noise = None if self._noise is None else self._noise.index_select(1, self._cell_in_block)[:, 0]
        self._last.copy_(self._drawing.choose(self._drawing.score(hidden), noise))
        self.tokens.index_copy_(1, self._cell, self._last[:, None])
        self._cell.add_(1)
        self._cell_in_block.add_(1)
