"""The check before any timing: all contenders compute the same tokens from the same float32 weights.

In half precision they need not: another order of summation may flip a near-tie. There the first difference is
reported with its margin.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from janus_core.generation.drawing import DrawingStep
from janus_core.generation.plans import DrawPlan
from janus_core.inputs.prompting import unconditional
from janus_core.options import DrawOptions

from .contenders import CFG_WEIGHT, Ours, prompt_plan
from .rows import Bench, Contenders, grid, picture

_MOST_ANSWER_TOKENS = 16
_TOGETHER = 2  # pictures of a batch that are compared with each alone
_PIXEL_TOLERANCE = 1e-3


def check_equality(bench: Bench) -> dict[str, float]:
    """Compare greedy image tokens, greedy answers and a decoded picture, in float32.

    Ours is also compared with itself in a batch: every picture and answer must equal the one computed alone.

    Returns: how many image tokens and answer tokens were compared, the largest difference of a pixel value.

    Raises:
        SystemExit: something differs, with where.
    """
    contenders, work, config = bench.contenders, bench.work, bench.size.config
    ours, reference, steps = contenders["ours"], contenders["transformers"], work.check_steps
    drawn = ours.draw(steps, greedy=True)
    for name, who in contenders.items():
        _refuse(f"Greedy image tokens of {name}", drawn[0], who.draw(steps, greedy=True)[0])
    for row in ours.draw(steps, greedy=True, pictures=_TOGETHER):
        _refuse("Greedy image tokens of a picture in a batch", drawn[0], row)
    tokens = min(work.answer_tokens, _MOST_ANSWER_TOKENS)
    images = [picture(config, seed) for seed in range(_TOGETHER)]
    for image, together in zip(images, ours.answer(images, tokens), strict=True):
        alone = ours.answer([image], tokens)[0]
        _refuse("The greedy answer of transformers", alone, reference.answer([image], tokens)[0])
        _refuse("A greedy answer in a batch", alone, together)
    codes = grid(config, bench.device)
    difference = float((ours.decode(codes) - reference.decode(codes)).abs().max())
    if not difference <= _PIXEL_TOLERANCE:  # written so that NaN fails too
        raise SystemExit(f"Decoded pixel values of transformers differ from ours by {difference}.")
    return {"image_tokens": steps, "answer_tokens": tokens, "largest_pixel_difference": difference}


def _refuse(what: str, ours: Tensor, theirs: Tensor) -> None:
    if not torch.equal(ours, theirs):
        at = first_difference(ours, theirs)
        raise SystemExit(f"{what} differ from ours from number {at} on; nothing was timed.")


def first_difference(ours: Tensor, theirs: Tensor) -> int | None:
    """Return the first place where two rows of tokens differ, or None."""
    if ours.shape != theirs.shape:
        return min(len(ours), len(theirs))
    places = (ours != theirs).nonzero()
    return int(places[0]) if len(places) else None


def near_ties(ours: Ours, contenders: Contenders, steps: int) -> dict[str, dict[str, Any]]:
    """Return for each contender where its greedy image tokens first differ from ours, and by what margin.

    `margin` is the difference of our two logits there, `spread` the standard deviation of our logits.
    """
    mine = ours.draw(steps, greedy=True)[0]
    found: dict[str, dict[str, Any]] = {}
    for name, who in contenders.items():
        theirs = who.draw(steps, greedy=True)[0]
        place = first_difference(mine, theirs)
        found[name] = {"compared": steps, "first_difference": place}
        if place is not None:
            logits = _logits_at(ours, mine[:place])
            margin = float(logits[mine[place]] - logits[theirs[place]])
            found[name] |= {"margin": margin, "spread": float(logits.std())}
    return found


@torch.inference_mode()
def _logits_at(ours: Ours, drawn: Tensor) -> Tensor:
    """Return our guided logits (v,) after some image tokens."""
    janus = ours.janus
    cond = prompt_plan(janus.tokenizer, 0)
    plan = DrawPlan(cond=cond, uncond=unconditional(cond, janus.tokenizer), seed=0)
    step = DrawingStep(
        janus.model.language,
        [plan],
        DrawOptions(cfg_weight=CFG_WEIGHT, temperature=0.0).decided(),
        num_image_tokens=len(drawn) + 1,
        pad=janus.tokenizer.special.pad,
        compute=janus.compute,
    )
    hidden = step.first
    for token in drawn:
        hidden = step.feed(token[None])
    return step.steered(step.image_logits(hidden))[0]
