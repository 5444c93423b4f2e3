"""A weight that is no number, anywhere in a model: an error that names dtype and cure, never a result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from PIL import Image

from janus_core import Janus, SamplingError, TextOptions

SHORT = TextOptions(max_new_tokens=4)
CURE = "Load the model in bfloat16 or float32|The weights are probably damaged: fetch them again"
SEEING = "seeing.vision_tower.blocks.0.mlp.fc1.weight"
TEXT = ("language.language_model.layers.0.mlp.up_proj.weight", "language.language_model.norm.weight", SEEING)
DRAWING = (
    "language.generation_head.output.weight",
    "language.generation_aligner.layers.0.bias",
    "language.language_model.layers.1.self_attn.v_proj.weight",
)


@pytest.fixture
def spoilt(make_janus: Callable[[torch.dtype], Janus]) -> Callable[..., Janus]:
    def make(name: str, value: float = float("nan")) -> Janus:
        janus = make_janus(torch.float32)
        with torch.no_grad():
            weight = dict(janus.model.named_parameters())[name]
            weight.data = weight.data.clone()  # the others share it
            weight.view(-1)[weight.numel() // 2] = value
        return janus

    return make


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", TEXT)
def test_no_text_comes_of_it(
    spoilt: Callable[..., Janus], pictures: list[Image.Image], name: str, value: float
) -> None:
    with pytest.raises(SamplingError, match=CURE) as raised:
        spoilt(name, value).caption(pictures, batch_size=2, options=SHORT)
    assert raised.value.rows == (0, 1)


@pytest.mark.parametrize("name", DRAWING)
def test_no_drawing_comes_of_it(spoilt: Callable[..., Janus], name: str) -> None:
    with pytest.raises(SamplingError, match=CURE):
        spoilt(name).draw("a red circle", num_images=2)


@pytest.mark.parametrize("name", ["vq_tokenizer.decoder.conv_in.weight", "vq_tokenizer.post_quant_conv.bias"])
def test_no_pixels_come_of_it(
    spoilt: Callable[..., Janus], janus: Janus, pictures: list[Image.Image], name: str
) -> None:
    tokens = janus.encode(pictures)
    with pytest.raises(SamplingError, match=CURE) as raised:
        spoilt(name).decode(tokens, batch_size=2)
    assert raised.value.rows == (0, 1, 2)


@pytest.mark.parametrize("name", ["vq_tokenizer.encoder.conv_in.weight", "vq_tokenizer.quant_conv.bias"])
def test_no_tokens_come_of_it(spoilt: Callable[..., Janus], pictures: list[Image.Image], name: str) -> None:
    with pytest.raises(SamplingError, match=CURE) as raised:
        spoilt(name).encode(pictures, batch_size=2)
    assert raised.value.rows == (0, 1, 2)
