from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from janus_core import Janus
from janus_core.residency.placement import Placement

CPU = torch.device("cpu")


@pytest.fixture
def placed(make_janus: Callable[[torch.dtype], Janus]) -> Janus:
    """Return a model whose weights rest in half precision, so that float32 tells what was brought."""
    janus = make_janus(torch.float32)
    janus.model.to(torch.bfloat16)
    return replace(janus, owner=Placement(janus.model, janus.compute, torch.float32))


def brought(janus: Janus) -> set[str]:
    """Return the parts that are in the dtype they run in, by their path."""
    paths = [
        *(
            f"language.{name}"
            for name, _ in janus.model.language.named_children()
            if name != "language_model"
        ),
        *(
            f"language.language_model.{name}"
            for name, _ in janus.model.language.language_model.named_children()
        ),
        *(f"vq_tokenizer.{name}" for name, _ in janus.model.vq_tokenizer.named_children()),
        "seeing",
    ]
    modules: list[tuple[str, nn.Module]] = [(path, janus.model.get_submodule(path)) for path in paths]
    return {path for path, module in modules if next(module.parameters()).dtype == torch.float32}


def test_nothing_is_brought_before_it_is_needed(placed: Janus) -> None:
    assert brought(placed) == set()


def test_drawing_leaves_text_head_words_eyes_and_the_encoder_where_they_rest(placed: Janus) -> None:
    placed.draw("a cat")
    assert brought(placed) == {
        "language.language_model.layers",
        "language.language_model.norm",
        "language.image_token_embedding",
        "language.generation_aligner",
        "language.generation_head",
        "vq_tokenizer.codebook",
        "vq_tokenizer.decoder",
        "vq_tokenizer.post_quant_conv",
    }


def test_answering_without_a_picture_brings_the_language_model_alone(placed: Janus) -> None:
    placed.ask("Who?")
    names = ("layers", "norm", "embed_tokens", "lm_head")
    assert brought(placed) == {f"language.language_model.{name}" for name in names}


def test_a_picture_brings_the_eyes(placed: Janus, pictures: list[Image.Image]) -> None:
    placed.ask("Who?", pictures[:1])
    assert "seeing" in brought(placed)


def test_encoding_brings_one_half_of_the_vq_tokenizer(placed: Janus, pictures: list[Image.Image]) -> None:
    placed.encode(pictures[:1])
    assert brought(placed) == {f"vq_tokenizer.{name}" for name in ("codebook", "encoder", "quant_conv")}


def test_brought_parts_compute_what_whole_models_do(
    placed: Janus, make_janus: Callable[[torch.dtype], Janus], pictures: list[Image.Image]
) -> None:
    whole = make_janus(torch.float32)
    whole.model.to(torch.bfloat16).float()
    assert torch.equal(placed.draw("a cat", seed=3).images, whole.draw("a cat", seed=3).images)
    assert placed.ask("Who?", pictures[:1]) == whole.ask("Who?", pictures[:1])
    assert torch.equal(placed.encode(pictures).grid, whole.encode(pictures).grid)


def test_a_part_is_brought_once(placed: Janus, monkeypatch: pytest.MonkeyPatch) -> None:
    placed.draw("a cat")
    monkeypatch.setattr(nn.Module, "to", lambda *_: pytest.fail("moved again"))
    placed.draw("a cat")
