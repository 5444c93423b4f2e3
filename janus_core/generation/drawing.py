"""Drawing: prompts in, image tokens out, one cell of the grid after the other.

Each distinct prompt row is prefilled once and repeated for the pictures that share it. Nothing here knows of
pixels or of the VQ tokenizer. Sources: the authors' generation_inference.py; classifier-free guidance, Ho and
Salimans 2022 (arXiv:2207.12598).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ..inputs.prompting import PromptPlan
from ..model.model import Language
from ..options import Compute, DrawOptions, OnStep, OnTokens
from .canvas import Canvas, extended
from .capturing import Stepper
from .noise import NoiseBlocks, block_cells
from .plans import DrawPlan
from .prefill import check_context, pad_left, prefill
from .sampling import are_finite, guide, keep_min_p, log_probability, next_tokens, not_finite
from .static_decoder import decoder_for
from .steps import Sequences

Judge: TypeAlias = Literal["prompt", "kept"]

_SCORED_TOGETHER = 24  # cells whose logits are held at once where kept ones are scored
_NOISE_BLOCK = 24  # cells whose noise is computed together on a CPU: one row of the published models' grid


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
        pictures: what to draw; all of them start from something, or none does.
        options: guidance, decided, and sampling.
        num_image_tokens: cells of the grid.
        pad: id that fills shorter prompt rows.
        compute: device and dtype.
        on_step: called after each step.
        on_tokens: called after each step with the tokens so far of `pictures`.

    Returns: image tokens (b, n) int64 on the device of `compute`.

    Raises:
        PromptError: a prompt leaves no room for the picture in the context.
        SamplingError: the logits of a picture are not finite; `rows` tells which.
    """
    finished = _all_kept(pictures, compute.device)
    if finished is not None:
        return finished
    step = DrawingStep(
        language, pictures, options, num_image_tokens=num_image_tokens, pad=pad, compute=compute
    )
    with Stepper(compute.device, captures=step.can_be_captured) as stepper:
        draw_until(num_image_tokens, step, stepper, on_step=on_step, on_tokens=on_tokens)
    step.check_finite()  # on a GPU only now: reading the flags waits for the device
    return step.tokens


def draw_until(
    cells: int,
    step: DrawingStep,
    stepper: Stepper,
    *,
    on_step: OnStep | None = None,
    on_tokens: OnTokens | None = None,
) -> None:
    """Take steps until the first `cells` cells are drawn."""
    while step.done < cells:
        if step.done == step.start:
            step.choose(step.first)  # the first cell comes from the prefill, without a step
        else:
            stepper.run(step, step.prepare(step.done))
        step.done += 1
        step.report(on_step, on_tokens)


class DrawingStep:
    """One step of drawing: embed the tokens chosen last, decode, score, guide, pick, write.

    Every step does the same work on the same buffers, so that it can be captured. The decoder's rows are the
    conditional rows of all pictures, followed, under guidance and where the best are kept, by their
    unconditional rows.

    Pictures may be judged: by "prompt", how much likelier their cells are with the prompt than without it, or
    by "kept", how likely the prompt and what was drawn make the cells that are kept.

    Attributes:
        tokens: (b, n) int64, filled cell by cell.
        start: the first cell that is chosen; those before it are kept.
        first: (rows, d), the hidden states that it is chosen from.
        done: cells drawn or kept so far, counted by who takes the steps.
        rows: which of the pictures that it began with these are.
        scores: (b,) float32, the sum of the logarithms that pictures are judged by; None if they are not.
        can_be_captured: whether the step may be captured.
    """

    def __init__(
        self,
        language: Language,
        pictures: Sequence[DrawPlan],
        options: DrawOptions,
        *,
        num_image_tokens: int,
        pad: int,
        compute: Compute,
        judged_by: Judge | None = None,
    ) -> None:
        """Prefill the prompts; see `generate_image_tokens`."""
        self._language = language
        self._compute = compute
        self._options = options
        assert options.cfg_weight is not None
        assert options.min_p is not None
        self._cfg_weight = options.cfg_weight
        self._min_p = options.min_p
        self._judged_by = judged_by
        is_wanted = self._cfg_weight != 1 or judged_by == "prompt"
        # without a use for it, or where both rows are equal, the second half of the batch changes nothing
        self._has_both = is_wanted and any(p.cond != p.uncond for p in pictures)
        rows = [p.cond for p in pictures] + ([p.uncond for p in pictures] if self._has_both else [])
        check_context(rows, language.language_model.config, num_image_tokens)
        self._canvas = _canvas_of(pictures, compute.device)
        self.start = 0 if self._canvas is None else self._canvas.start
        self.done = self.start
        self.rows = list(range(len(pictures)))
        device, images = compute.device, len(pictures)
        self.scores = None if judged_by is None else torch.zeros(images, device=device)
        sequences = self._with_kept(_prefilled(language, rows, pad, num_image_tokens, compute))
        self.first = sequences.hidden
        self._decoder = decoder_for(language.language_model, sequences, compute)
        self.can_be_captured = self._decoder.can_be_captured
        self._table = self._embedding_table() if self.can_be_captured else None  # (v, d)
        self._noise = _noise_of(pictures, options, language, compute.device, first=self.start)
        # Fixed buffers from here on: written in place, indexed by a counter on the device.
        self.tokens = torch.empty(images, num_image_tokens, dtype=torch.int64, device=device)
        self._last = torch.zeros(images, dtype=torch.int64, device=device)  # the tokens chosen last
        if self._canvas is not None:
            self.tokens[:, : self.start] = self._canvas.before_start()
        self._cell = torch.full((1,), self.start, device=device)  # where the next ones are written
        self._is_finite = torch.ones(images, dtype=torch.bool, device=device)

    def _with_kept(self, sequences: Sequences) -> Sequences:
        """Append the cells that all pictures keep before the first that any draws, and judge them."""
        if self._canvas is None or not self.start:
            return sequences
        is_judged = self._judged_by == "prompt"  # by what was drawn nothing can be judged yet
        length = _SCORED_TOGETHER if is_judged else self.start
        for begin in range(0, self.start, length):
            tokens = self._canvas.tokens[:, begin : min(begin + length, self.start)]  # (b, t)
            before = sequences.hidden[:, None]  # (rows, 1, d)
            sequences, hidden = extended(
                self._language.language_model, sequences, self._both_rows(self._embed(tokens))
            )
            if is_judged and self.scores is not None:  # each cell by the state that stands before it
                before = torch.cat((before, hidden[:, :-1]), dim=1)  # (rows, t, d)
                self.scores += self._fit(self.image_logits(before), tokens).sum(dim=1)
        return sequences

    def prepare(self, cell: int) -> int:
        """Prepare the step that chooses a cell; return the number that its shapes depend on."""
        if self._noise is not None:
            self._noise.prepare(cell)
        return self._decoder.prepare(cell - self.start - 1)  # the first cell took no step

    def __call__(self) -> None:
        """Take one step."""
        self.choose(self.feed(self._last))

    def feed(self, tokens: Tensor) -> Tensor:
        """Append tokens (b,) to both rows of their picture; return the next hidden states (rows, d)."""
        embeddings = self._embed(tokens) if self._table is None else self._table.index_select(0, tokens)
        return self._decoder.step(self._both_rows(embeddings))  # (rows, d)

    def _both_rows(self, embeddings: Tensor) -> Tensor:
        """Return embeddings (rows, …) from those of pictures (b, …): both rows continue with the same."""
        return torch.cat((embeddings, embeddings)) if self._has_both else embeddings

    def image_logits(self, hidden: Tensor) -> Tensor:
        """Return the image logits (rows, …, v) float32 of hidden states (rows, …, d)."""
        # float32 before guidance, which multiplies the difference of two close numbers
        logits: Tensor = self._language.generation_head(hidden).float()
        return logits

    def steered(self, logits: Tensor) -> Tensor:
        """Return what to choose from, (b, v), of image logits (rows, v): guided and pulled."""
        guided = self._guided(logits)
        return guided if self._canvas is None else self._canvas.pulled(guided, self._cell)

    def _guided(self, logits: Tensor) -> Tensor:
        if not self._has_both:
            return self._likely(logits)
        cond_logits, uncond_logits = logits.chunk(2)  # (b, v) each
        return guide(self._likely(cond_logits), uncond_logits, self._cfg_weight)

    def _fit(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Return how much likelier tokens (b, …) are with the prompt, by image logits (rows, …, v)."""
        cond_logits, uncond_logits = logits.chunk(2)
        return log_probability(cond_logits, tokens) - log_probability(uncond_logits, tokens)

    def _likely(self, logits: Tensor) -> Tensor:
        """Mask the tokens of conditional logits (b, v) that min-p leaves out."""
        kept = keep_min_p(logits, self._min_p)
        return kept if self._canvas is None else self._canvas.unmasked(kept, logits, self._cell)

    def _judged(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Return what tokens (b,) of the current cell add to the scores, by image logits (rows, v)."""
        if self._judged_by == "prompt":
            return self._fit(logits, tokens)
        assert self._canvas is not None
        likely = log_probability(logits[: len(tokens)], tokens)  # by the conditional rows
        return likely.masked_fill(self._canvas.is_drawn.index_select(1, self._cell)[:, 0], 0.0)

    def choose(self, hidden: Tensor) -> None:
        """Choose the next token of each picture from hidden states (rows, d), and write it."""
        both = self.image_logits(hidden)  # (rows, v)
        logits = self.steered(both)  # (b, v)
        chosen = next_tokens(
            logits,
            temperature=self._options.temperature,
            top_k=self._options.top_k,
            top_p=self._options.top_p,
            noise=None if self._noise is None else self._noise.next(),
        )  # (b,)
        self._is_finite.logical_and_(are_finite(logits, chosen))  # a flag on the device; nothing waits
        if self._canvas is not None:
            chosen = self._canvas.settled(chosen, self._cell)
        if self.scores is not None:
            self.scores.add_(self._judged(both, chosen))
        self._last.copy_(chosen)
        self.tokens.index_copy_(1, self._cell, chosen[:, None])
        self._cell.add_(1)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all pictures but those at the given places; the others move to new buffers."""
        index = torch.tensor(rows, device=self._last.device)
        images = len(self.rows)
        both = [*rows, *(images + row for row in rows)] if self._has_both else list(rows)
        self._decoder = self._decoder.select(both)
        self.first = self.first[torch.tensor(both, device=index.device)]
        if self._noise is not None:
            self._noise.select(rows)
        if self._canvas is not None:
            self._canvas = self._canvas.select(index)
        self.rows = [self.rows[row] for row in rows]
        self.scores = None if self.scores is None else self.scores[index]
        self.tokens = self.tokens[index]
        self._last = self._last[index]
        self._is_finite = self._is_finite[index]

    def reorder(self, rows: Sequence[int], scores: Sequence[float]) -> None:
        """Let place i go on with what is drawn at place `rows[i]`, and with a score; noise stays as it is.

        Every buffer stays where it is, so that a captured step stays valid. A place and the one it goes on
        with belong to the same picture: prompt, seed's group and canvas are equal.
        """
        assert self.scores is not None
        index = torch.tensor(rows, device=self._last.device)
        both = torch.cat((index, index + len(index))) if self._has_both else index
        self._decoder.reorder(both)
        for buffer in (self.tokens, self._last, self._is_finite):
            buffer.copy_(buffer[index])
        self.scores.copy_(torch.tensor(scores))

    def report(self, on_step: OnStep | None, on_tokens: OnTokens | None) -> None:
        """Call the callbacks with the cells so far."""
        if self._compute.device.type == "cpu":  # where reading the flags costs nothing: fail early
            self.check_finite()
        if on_tokens is not None:
            on_tokens(self.tokens[:, : self.done], self.rows)
        if on_step is not None:
            on_step(self.done, self.tokens.shape[1])

    def check_finite(self) -> None:
        """Raise SamplingError if the logits of a picture were not finite; this waits for the device."""
        flags = zip(self.rows, self._is_finite.tolist(), strict=True)
        broken = tuple(row for row, is_finite in flags if not is_finite)
        if broken:
            raise not_finite(broken, self._compute.dtype)

    def _embed(self, tokens: Tensor) -> Tensor:
        """Return embeddings (…, d) of image tokens."""
        return self._language.embed_image_tokens(tokens, self._compute.dtype)

    def _embedding_table(self) -> Tensor:
        """Return the embeddings (v, d) of all image tokens, so that a step looks up what it would compute."""
        codes = self._language.image_token_embedding.num_embeddings
        return self._embed(torch.arange(codes, device=self._compute.device))


def _prefilled(
    language: Language, rows: Sequence[PromptPlan], pad: int, new_tokens: int, compute: Compute
) -> Sequences:
    """Prefill every distinct row once, then repeat it for the pictures that share it."""
    distinct = list(dict.fromkeys(rows))  # in order of first use
    prompts = pad_left(distinct, pad, compute.device)
    sequences = prefill(language, prompts, None, new_tokens=new_tokens, compute=compute)
    return sequences.select([distinct.index(row) for row in rows])


def _all_kept(pictures: Sequence[DrawPlan], device: torch.device) -> Tensor | None:
    """Return the tokens (b, n) of pictures that have no cell to draw, or None where one has."""
    sources = [picture.source for picture in pictures if picture.source is not None]
    if len(sources) < len(pictures) or any(bool(source.is_drawn.any()) for source in sources):
        return None
    return torch.stack([source.tokens for source in sources]).to(device)


def _canvas_of(pictures: Sequence[DrawPlan], device: torch.device) -> Canvas | None:
    """Return what the pictures start from, or None where every cell of every picture is drawn."""
    sources = [picture.source for picture in pictures if picture.source is not None]
    return Canvas.of(sources, device) if sources else None


def _noise_of(
    pictures: Sequence[DrawPlan],
    options: DrawOptions,
    language: Language,
    device: torch.device,
    *,
    first: int,
) -> NoiseBlocks | None:
    """Return the noise that image tokens from cell `first` on are sampled with, or None at temperature 0."""
    if options.temperature == 0:
        return None
    seeds = [picture.seed for picture in pictures]
    length = block_cells(len(seeds)) if device.type == "cuda" else _NOISE_BLOCK
    codes = language.image_token_embedding.num_embeddings
    return NoiseBlocks(seeds, codes, device, length=length, first=first)
