"""The same weights in transformers' own Janus, computed in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.testing import assert_close

from janus_core import DrawOptions, Janus, TextOptions, Turn
from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values
from janus_core.inputs.prompting import PromptPlan, plan_drawing, unconditional

pytestmark = pytest.mark.filterwarnings(r"ignore:::transformers\..*")

GuidedLogits = Callable[[Janus, tuple[PromptPlan, PromptPlan], DrawOptions, Tensor], Tensor]
FOLDER = Path(__file__).parent / "golden" / "janus-tiny-hf"
ATOL = 1e-4
PROMPT = "Two red cubes on a table, seen from above."
GUIDED = DrawOptions(cfg_weight=3.0, temperature=0.0)
QUESTIONS = {
    "no picture": ("Where is the river?", ()),
    "one picture": ("Is it night?", ("portrait",)),
    "two pictures": ("What differs?", ("tiny", "landscape")),
}
each_question = pytest.mark.parametrize(("question", "images"), QUESTIONS.values(), ids=QUESTIONS.keys())


@pytest.fixture(scope="module")
def janus(load_whole: Callable[[Path], Janus]) -> Janus:
    return load_whole(FOLDER)


@pytest.fixture(scope="module")
def reference() -> Any:
    transformers = pytest.importorskip("transformers", minversion="5.0")
    loaded = transformers.JanusForConditionalGeneration.from_pretrained(
        FOLDER, dtype=torch.float32, attn_implementation="sdpa"
    )
    return loaded.eval()


@pytest.fixture(scope="module")
def rows(janus: Janus) -> tuple[PromptPlan, PromptPlan]:
    cond = plan_drawing(PROMPT, janus.tokenizer)
    return cond, unconditional(cond, janus.tokenizer)


def ids_of(*plans: PromptPlan) -> Tensor:
    return torch.tensor([plan.token_ids for plan in plans])


def turn(question: str, images: tuple[str, ...], pictures: dict[str, Path]) -> Turn:
    return Turn(role="user", text=question, images=tuple(pictures[image] for image in images))


def greedy_grid(reference: Any, prompt: Tensor) -> Tensor:
    drawn: Tensor = reference.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        generation_mode="image",
        do_sample=False,
        guidance_scale=GUIDED.cfg_weight,
    )
    return rearrange(drawn, "b (h w) -> b h w", h=4)


@each_question
@torch.inference_mode()
def test_text_logits_equal_those_of_transformers(
    janus: Janus, reference: Any, pictures: dict[str, Path], question: str, images: tuple[str, ...]
) -> None:
    plan = janus.plan_conversation([turn(question, images, pictures)])
    ids, is_image = ids_of(plan), torch.tensor([plan.is_image])
    seen, pixels = None, None
    if images:
        paths = [pictures[image] for image in images]
        seen, pixels = janus.see(paths), janus_pixels(janus, paths)
    language = janus.model.language
    embeddings = language.embed_prompt(ids, is_image, seen, torch.float32)
    model = language.language_model
    found = model.lm_head(model(embeddings, torch.arange(len(plan))[None]))
    expected = reference(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits
    assert_close(found, expected, atol=ATOL, rtol=0)


def janus_pixels(janus: Janus, paths: list[Path]) -> Tensor:
    """Return our pixel values: transformers resizes otherwise, which is no matter of the model."""
    return torch.stack([to_pixel_values(read_picture(path), janus.config.preprocess) for path in paths])


@each_question
def test_greedy_answers_equal_those_of_transformers(
    janus: Janus, reference: Any, pictures: dict[str, Path], question: str, images: tuple[str, ...]
) -> None:
    asked = [turn(question, images, pictures)]
    [answer] = janus.answer([asked], options=TextOptions(temperature=0.0, max_new_tokens=12))
    ids = ids_of(janus.plan_conversation(asked))
    paths = [pictures[image] for image in images]
    seen = {"pixel_values": janus_pixels(janus, paths)} if images else {}
    expected = reference.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, **seen
    )
    assert list(answer.token_ids) == expected[0, ids.shape[1] :].tolist()


@torch.inference_mode()
def test_guided_image_logits_equal_those_of_transformers(
    janus: Janus, reference: Any, rows: tuple[PromptPlan, PromptPlan], guided_logits: GuidedLogits
) -> None:
    fed = torch.arange(16) * 7 % janus.config.vq.codebook_size
    drawn = reference.prepare_embeddings_for_image_generation(fed[:-1].expand(2, -1))
    prompts = reference.get_input_embeddings()(ids_of(*rows))
    hidden = reference.model.language_model(inputs_embeds=torch.cat((prompts, drawn), dim=1))
    cond, uncond = reference.model.generation_head(hidden.last_hidden_state[:, -len(fed) :])
    expected = uncond + GUIDED.cfg_weight * (cond - uncond)
    assert_close(guided_logits(janus, rows, GUIDED, fed), expected, atol=ATOL, rtol=0)


def test_the_greedy_grid_equals_that_of_transformers(
    janus: Janus, reference: Any, rows: tuple[PromptPlan, PromptPlan]
) -> None:
    assert torch.equal(
        janus.draw(PROMPT, options=GUIDED).tokens.grid, greedy_grid(reference, ids_of(rows[0]))
    )


@torch.inference_mode()
def test_decoded_pixels_equal_those_of_transformers(
    janus: Janus, reference: Any, rows: tuple[PromptPlan, PromptPlan]
) -> None:
    expected = reference.decode_image_tokens(greedy_grid(reference, ids_of(rows[0])).flatten(1))
    found = (janus.draw(PROMPT, options=GUIDED).images * 2) - 1
    assert_close(found, expected.clamp(-1, 1), atol=ATOL, rtol=0)


@torch.inference_mode()
def test_image_embeddings_equal_those_of_transformers(
    janus: Janus, reference: Any, pictures: dict[str, Path]
) -> None:
    paths = list(pictures.values())
    expected = reference.model.get_image_features(janus_pixels(janus, paths)).pooler_output
    assert_close(janus.see(paths), expected, atol=ATOL, rtol=0)
