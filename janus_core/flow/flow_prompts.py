"""Prompts of a flow drawing as rows: the words before the time, and the position at which the time stands.

A row is a drawing prompt without its last token, whose place the embedded time takes. Without content it is
the begin-of-sentence token alone; the authors fill the gap with pads that nothing attends to, and keep the
positions behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PromptError
from ..inputs.prompting import plan_drawing
from ..inputs.text_tokenizer import TextTokenizer
from ..model.config import LanguageConfig


@dataclass(frozen=True, kw_only=True)
class FlowRow:
    """What the language model reads before the time and the latent tokens.

    Attributes:
        token_ids: words from position 0 on.
        time_position: of the embedded time; the latent tokens follow it.
    """

    token_ids: tuple[int, ...]
    time_position: int


@dataclass(frozen=True, kw_only=True)
class FlowPlan:
    """One picture to draw: its prompt's row, the row it is guided away from, and its seed."""

    cond: FlowRow
    uncond: FlowRow
    seed: int


def prompt_row(prompt: str, tokenizer: TextTokenizer) -> FlowRow:
    """Return the row of a prompt; an empty one is without content, so it draws unconditionally."""
    ids = plan_drawing(prompt, tokenizer, old_roles=True).token_ids
    row = FlowRow(token_ids=ids[:-1], time_position=len(ids) - 1)
    return row if prompt.strip() else without_content(row)


def without_content(row: FlowRow) -> FlowRow:
    """Return the row that a prompt is guided away from where there is no negative prompt."""
    return FlowRow(token_ids=row.token_ids[:1], time_position=row.time_position)


def guided_away_from(row: FlowRow, negative_prompt: str, tokenizer: TextTokenizer) -> FlowRow:
    """Return the row of a negative prompt, or the prompt's own row without content."""
    return prompt_row(negative_prompt, tokenizer) if negative_prompt.strip() else without_content(row)


def plan_flow_pictures(
    prompts: Sequence[str], negative_prompt: str, seeds: Sequence[int], tokenizer: TextTokenizer
) -> list[FlowPlan]:
    """Plan a picture of every prompt with every seed, those of one prompt side by side.

    Raises:
        PromptError: there is no prompt.
    """
    if not prompts:
        raise PromptError("There is no prompt to draw. Give at least one, which may be empty.")
    planned: list[FlowPlan] = []
    for prompt in prompts:
        cond = prompt_row(prompt, tokenizer)
        uncond = guided_away_from(cond, negative_prompt, tokenizer)
        planned += [FlowPlan(cond=cond, uncond=uncond, seed=seed) for seed in seeds]
    return planned


def check_flow_context(rows: Sequence[FlowRow], config: LanguageConfig, latent_tokens: int) -> None:
    """Raise PromptError where a row and the latent tokens exceed the model's context."""
    over = max(row.time_position for row in rows) + 1 + latent_tokens - config.max_position_embeddings
    if over > 0:
        raise PromptError(
            f"The prompt is {over} tokens too long: with {latent_tokens} tokens of the picture it must fit "
            f"into {config.max_position_embeddings}. Shorten the text."
        )
