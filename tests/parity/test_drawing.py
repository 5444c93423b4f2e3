from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.testing import assert_close

from janus_core import Drawn, DrawOptions, Janus, to_uint8
from janus_core.generation.prefill import pad_left, prefill
from janus_core.generation.static_decoder import decoder_for
from janus_core.inputs.preprocessing import to_images
from janus_core.inputs.prompting import PromptPlan, plan_drawing, unconditional

ATOL = 1e-4
PROMPTS = ("0", "1")
GuidedLogits = Callable[[Janus, tuple[PromptPlan, PromptPlan], DrawOptions, Tensor], Tensor]
GUIDED = DrawOptions(cfg_weight=5.0, temperature=0.0)
each_prompt = pytest.mark.parametrize("prompt", PROMPTS)


def rows(janus: Janus, facts: dict[str, Any], prompt: str) -> tuple[PromptPlan, PromptPlan]:
    cond = plan_drawing(facts["generation"][prompt]["text"], janus.tokenizer)
    return cond, unconditional(cond, janus.tokenizer)


@torch.inference_mode()
def row_logits(janus: Janus, plans: Sequence[PromptPlan], fed: Tensor) -> Tensor:
    """Return (cells, rows, v): each row's image logits when the ids `fed` (n,) are drawn."""
    language = janus.model.language
    prompts = pad_left(plans, janus.tokenizer.special.pad, janus.compute.device)
    sequences = prefill(language, prompts, None, new_tokens=len(fed), compute=janus.compute)
    decoder = decoder_for(language.language_model, sequences, janus.compute)
    found = [language.generation_head(sequences.hidden)]
    for token in fed[:-1]:
        hidden = decoder.step(language.embed_image_tokens(token.expand(len(plans)), torch.float32))
        found.append(language.generation_head(hidden))
    return torch.stack(found)


@pytest.fixture(scope="session")
def drawn(janus: Janus, facts: dict[str, Any]) -> dict[str, Drawn]:
    return {prompt: janus.draw(facts["generation"][prompt]["text"], options=GUIDED) for prompt in PROMPTS}


def test_every_golden_prompt_is_tested(facts: dict[str, Any]) -> None:
    assert tuple(facts["generation"]) == PROMPTS


def test_golden_guidance_is_the_one_tested(facts: dict[str, Any]) -> None:
    assert {entry["cfg_weight"] for entry in facts["generation"].values()} == {GUIDED.cfg_weight}


@each_prompt
def test_prompt_rows_equal_the_golden_ones(
    janus: Janus, golden: dict[str, Tensor], facts: dict[str, Any], prompt: str
) -> None:
    found = [list(row.token_ids) for row in rows(janus, facts, prompt)]
    assert found == golden[f"gen.{prompt}.prompt_ids"].tolist()


@each_prompt
def test_logits_of_the_first_cell_equal_the_golden_ones(
    janus: Janus, golden: dict[str, Tensor], facts: dict[str, Any], prompt: str
) -> None:
    fed = golden[f"gen.{prompt}.forced_ids"][:1]
    expected = torch.stack((golden[f"gen.{prompt}.first.cond"], golden[f"gen.{prompt}.first.uncond"]))
    assert_close(row_logits(janus, rows(janus, facts, prompt), fed)[0], expected, atol=ATOL, rtol=0)


@each_prompt
def test_guided_logits_of_the_first_cell_equal_the_golden_ones(
    janus: Janus,
    golden: dict[str, Tensor],
    facts: dict[str, Any],
    guided_logits: GuidedLogits,
    prompt: str,
) -> None:
    fed = golden[f"gen.{prompt}.forced_ids"][:1]
    found = guided_logits(janus, rows(janus, facts, prompt), GUIDED, fed)[0]
    assert_close(found, golden[f"gen.{prompt}.first.cfg"], atol=ATOL, rtol=0)


@each_prompt
def test_logits_of_forced_cells_equal_the_golden_ones(
    janus: Janus, golden: dict[str, Tensor], facts: dict[str, Any], prompt: str
) -> None:
    fed = golden[f"gen.{prompt}.forced_ids"]
    expected = (golden[f"gen.{prompt}.forced.cond"], golden[f"gen.{prompt}.forced.uncond"])
    found = row_logits(janus, rows(janus, facts, prompt), fed)
    assert_close(found, torch.stack(expected, dim=1), atol=ATOL, rtol=0)


@each_prompt
def test_guided_logits_of_forced_cells_equal_the_golden_ones(
    janus: Janus,
    golden: dict[str, Tensor],
    facts: dict[str, Any],
    guided_logits: GuidedLogits,
    prompt: str,
) -> None:
    fed = golden[f"gen.{prompt}.forced_ids"]
    found = guided_logits(janus, rows(janus, facts, prompt), GUIDED, fed)
    assert_close(found, golden[f"gen.{prompt}.forced.cfg"], atol=ATOL, rtol=0)


@each_prompt
def test_guided_logits_of_greedy_cells_equal_the_golden_ones(
    janus: Janus,
    golden: dict[str, Tensor],
    facts: dict[str, Any],
    guided_logits: GuidedLogits,
    prompt: str,
) -> None:
    fed = golden[f"gen.{prompt}.greedy_ids"]
    found = guided_logits(janus, rows(janus, facts, prompt), GUIDED, fed)
    assert_close(found, golden[f"gen.{prompt}.greedy.cfg"], atol=ATOL, rtol=0)


@each_prompt
def test_the_greedy_grid_equals_the_golden_one(
    drawn: dict[str, Drawn], golden: dict[str, Tensor], prompt: str
) -> None:
    assert torch.equal(drawn[prompt].tokens.grid.flatten(), golden[f"gen.{prompt}.greedy_ids"])


@each_prompt
def test_two_prompts_drawn_together_give_the_golden_grids(
    janus: Janus, golden: dict[str, Tensor], facts: dict[str, Any], prompt: str
) -> None:
    together = janus.draw([facts["generation"][name]["text"] for name in PROMPTS], options=GUIDED)
    grid = together.tokens.grid[PROMPTS.index(prompt)]
    assert torch.equal(grid.flatten(), golden[f"gen.{prompt}.greedy_ids"])


@each_prompt
@torch.inference_mode()
def test_decoded_pixels_equal_the_golden_ones(janus: Janus, golden: dict[str, Tensor], prompt: str) -> None:
    grid = rearrange(golden[f"gen.{prompt}.greedy_ids"], "(b h w) -> b h w", b=1, h=janus.config.grid_side)
    found = janus.model.vq_tokenizer.decode(grid, torch.float32)
    assert_close(found, golden[f"gen.{prompt}.decoded"], atol=ATOL, rtol=0)


@each_prompt
def test_golden_pixels_are_saved_as_the_golden_samples(golden: dict[str, Tensor], prompt: str) -> None:
    found = to_uint8(to_images(golden[f"gen.{prompt}.decoded"]))
    assert np.array_equal(found, golden[f"gen.{prompt}.decoded_uint8"].numpy())


@each_prompt
def test_a_drawn_picture_is_saved_as_the_golden_samples(
    drawn: dict[str, Drawn], golden: dict[str, Tensor], prompt: str
) -> None:
    """Truncation turns a rounding error into a step of 1 where a value lies beside a whole number."""
    found = torch.from_numpy(to_uint8(drawn[prompt].images)).int()
    steps = (found - golden[f"gen.{prompt}.decoded_uint8"].int()).abs()
    assert steps.max() <= 1
    assert steps.float().mean() < 1e-3
