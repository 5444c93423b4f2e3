"""Plans of pictures: which rows, seed and source each is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PromptError, shown
from ..inputs.prompting import PromptPlan, plan_drawing, unconditional
from ..inputs.text_tokenizer import TextTokenizer
from ..options import check_text
from .canvas import Source


@dataclass(frozen=True, kw_only=True)
class DrawPlan:
    """One picture to draw.

    Attributes:
        cond: its conditional row.
        uncond: its unconditional row.
        seed: of its noise.
        source: what it starts from, or None where every cell is drawn.
        group: number of the prompt; pictures of one group compete where the best are kept.
    """

    cond: PromptPlan
    uncond: PromptPlan
    seed: int
    source: Source | None = None
    group: int = 0


def plan_pictures(
    prompts: Sequence[str],
    negative_prompt: str,
    seeds: Sequence[int],
    tokenizer: TextTokenizer,
    *,
    old_roles: bool,
) -> list[DrawPlan]:
    """Plan a picture of every prompt with every seed, those of one prompt side by side.

    Without a negative prompt the unconditional row is the prompt's own with its content padded out.

    Raises:
        PromptError: there is no prompt.
    """
    check_text("The negative prompt", negative_prompt)
    if not isinstance(prompts, Sequence):
        raise PromptError(f"The prompt is {shown(prompts)}; it must be a text. Connect or write one.")
    if not prompts:
        raise PromptError("There is no prompt to draw. Give at least one, which may be empty.")
    planned: list[DrawPlan] = []
    for group, prompt in enumerate(prompts):
        cond = plan_drawing(prompt, tokenizer, old_roles=old_roles)
        if negative_prompt.strip():
            uncond = plan_drawing(negative_prompt, tokenizer, old_roles=old_roles)
        else:
            uncond = unconditional(cond, tokenizer)
        planned += [DrawPlan(cond=cond, uncond=uncond, seed=seed, group=group) for seed in seeds]
    return planned
