from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from janus_core import Chat, ImageError, ImageTokens, Janus, SamplingError, Turn

RESULTS: dict[str, Callable[[Janus, list[Image.Image]], Tensor]] = {
    "drawn pictures": lambda janus, pictures: janus.draw("a cat").images,
    "drawn tokens": lambda janus, pictures: janus.draw("a cat").tokens.grid,
    "encoded tokens": lambda janus, pictures: janus.encode(pictures).grid,
    "decoded pictures": lambda janus, pictures: janus.decode(janus.encode(pictures)),
}
each_result = pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS.keys())


@each_result
def test_a_result_may_be_changed_in_place(
    janus: Janus, pictures: list[Image.Image], result: Callable[[Janus, list[Image.Image]], Tensor]
) -> None:
    found = result(janus, pictures)
    found[0, 0, 0] = 0
    assert bool((found[0, 0, 0] == 0).all())


def test_changed_tokens_decode_to_another_picture(janus: Janus) -> None:
    drawn = janus.draw("a cat")
    drawn.tokens.grid[0, 0, 0] = (drawn.tokens.grid[0, 0, 0] + 1) % janus.config.vq.codebook_size
    assert not torch.equal(janus.decode(drawn.tokens), drawn.images)


def test_tokens_changed_to_what_is_no_code_are_refused(janus: Janus) -> None:
    drawn = janus.draw("a cat")
    drawn.tokens.grid[0, 0, 0] = janus.config.vq.codebook_size
    with pytest.raises(ImageError, match="The image tokens range from"):
        janus.decode(drawn.tokens)


@each_result
def test_a_result_may_take_part_in_learning(
    janus: Janus, pictures: list[Image.Image], result: Callable[[Janus, list[Image.Image]], Tensor]
) -> None:
    found, weight = result(janus, pictures), torch.ones(1, requires_grad=True)
    assert not found.requires_grad
    (found * weight).sum().backward()
    assert weight.grad is not None


def test_image_embeddings_do_not_require_gradients(janus: Janus, pictures: list[Image.Image]) -> None:
    assert not janus.see(pictures).requires_grad


@pytest.mark.parametrize("batch_size", [0, 1.5])
def test_a_batch_size_that_is_no_count_is_refused(
    janus: Janus, pictures: list[Image.Image], batch_size: Any
) -> None:
    tokens = janus.encode(pictures)
    for task in (
        lambda size: janus.encode(pictures, batch_size=size),
        lambda size: janus.decode(tokens, batch_size=size),
    ):
        with pytest.raises(SamplingError, match=rf"batch_size is {batch_size}; it must be at least 1"):
            task(batch_size)


def test_values_read_well_where_they_are_shown(janus: Janus) -> None:
    named = replace(janus, name="janus-shapes")
    assert str(named) == "janus-shapes, float32, CPU"
    assert str(named.draw("a cat", num_images=2).tokens) == "2 × 4 × 4 tokens of janus-shapes"


def test_saved_tokens_still_know_their_model(janus: Janus, tmp_path: Path) -> None:
    replace(janus, name="janus-shapes").draw("a cat").tokens.save(tmp_path / "tokens.safetensors")
    assert str(ImageTokens.load(tmp_path / "tokens.safetensors")).endswith("tokens of janus-shapes")


def test_tokens_of_an_unknown_model_name_their_codebook(janus: Janus) -> None:
    assert str(janus.draw("a cat").tokens).endswith(f"tokens of the codebook {janus.codebook}")


def test_a_conversation_reads_as_a_transcript(pictures: list[Image.Image]) -> None:
    asked = Turn(role="user", text="What is it?", images=tuple(pictures[:2]))
    told = Chat((asked, Turn(role="assistant", text="A circle.")))
    assert str(told) == "user (2 pictures): What is it?\n\nassistant: A circle."
