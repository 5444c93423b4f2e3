"""Packed products equal plain ones, and nothing is packed that is not ours to pack."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from janus_core import Compute, build_model
from janus_core.errors import ConfigError
from janus_core.generation.drawing import generate_image_tokens
from janus_core.generation.plans import DrawPlan
from janus_core.inputs.prompting import PromptPlan
from janus_core.model.kv_cache import KVCache
from janus_core.model.language_model import SelfAttention
from janus_core.options import DrawOptions
from janus_core.residency import packing
from janus_core.residency.packing import (
    PackedAttention,
    PackedLinear,
    PackedMLP,
    pack_for_answering,
    pack_for_drawing,
    pack_matrix,
    survives_half_storage,
)

from ..conftest import TINY

# Wide enough that every matrix of the decoder is worth packing.
WIDE = replace(
    TINY,
    language=replace(
        TINY.language,
        hidden_size=256,
        intermediate_size=512,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
    ),
    understanding_aligner=replace(TINY.understanding_aligner, output_width=256),
    generation_aligner=replace(TINY.generation_aligner, output_width=256),
    generation_head=replace(TINY.generation_head, input_width=256, inner_width=256),
)
CPU = torch.device("cpu")


# Half as many key heads as query heads: queries, keys and values differ in width.
GROUPED = replace(WIDE, language=replace(WIDE.language, num_key_value_heads=2))


def language_of(dtype=torch.float32, rounded_to=torch.float32, config=WIDE):
    """Return the language part with seeded weights; rounded to bfloat16 they are as published ones."""
    model = build_model(config).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = (torch.ones_like(values) if is_scale else values).to(rounded_to).float()
    return model.to(dtype).requires_grad_(False).language


@torch.inference_mode()
def greedy(language):
    cond = PromptPlan(token_ids=(1, 2, 3, 4), is_image=(False,) * 4, num_images=0)
    uncond = PromptPlan(token_ids=(1, 9, 9, 4), is_image=(False,) * 4, num_images=0)
    return generate_image_tokens(
        language,
        [DrawPlan(cond=cond, uncond=uncond, seed=0)],
        DrawOptions(temperature=0).decided(),
        num_image_tokens=16,
        pad=9,
        compute=Compute(device=CPU, dtype=torch.float32),
    )


@torch.inference_mode()
def hidden(language, rows=2, length=5):
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(rows, length, WIDE.language.hidden_size, generator=generator)
    return language.language_model(embeddings, torch.arange(length)[None].expand(rows, -1))


@pytest.mark.parametrize("values", [torch.float32, torch.bfloat16])
def test_packed_decoder_equals_the_plain_one(values):
    plain, packed = language_of(rounded_to=values), language_of(rounded_to=values)
    pack_for_drawing(packed)
    torch.testing.assert_close(hidden(packed), hidden(plain), rtol=1e-5, atol=1e-5)


def test_packed_decoder_with_shared_key_heads_equals_the_plain_one():
    plain, packed = language_of(config=GROUPED), language_of(config=GROUPED)
    pack_for_drawing(packed)
    assert type(packed.language_model.layers[0].self_attn) is PackedAttention
    torch.testing.assert_close(hidden(packed), hidden(plain), rtol=1e-5, atol=1e-5)


def test_packed_drawing_has_the_same_greedy_tokens():
    plain, packed = language_of(), language_of()
    pack_for_drawing(packed)
    assert isinstance(packed.generation_head.inner, PackedLinear)
    assert torch.equal(greedy(packed), greedy(plain))


def test_packed_text_head_gives_the_same_logits():
    plain, packed = language_of(), language_of()
    pack_for_answering(packed)
    states = hidden(plain)
    assert isinstance(packed.language_model.lm_head, PackedLinear)
    with torch.inference_mode():
        torch.testing.assert_close(
            packed.language_model.lm_head(states), plain.language_model.lm_head(states), rtol=1e-5, atol=1e-5
        )


def test_packing_merges_attention_and_leaves_gate_and_up_apart():
    language = language_of()
    pack_for_drawing(language)
    for layer in language.language_model.layers:
        assert type(layer.self_attn) is PackedAttention
        assert layer.self_attn.projections.out_features == 3 * 256
        assert type(layer.mlp) is PackedMLP
        assert [layer.mlp.gate_proj.out_features, layer.mlp.up_proj.out_features] == [512, 512]
        assert isinstance(layer.mlp.gate_proj, PackedLinear)
        assert isinstance(layer.mlp.up_proj, PackedLinear)


def test_packing_twice_changes_nothing():
    language = language_of()
    pack_for_drawing(language)
    modules = list(language.modules())
    pack_for_drawing(language)
    assert list(language.modules()) == modules


def test_foreign_layers_are_left_alone():
    class Streamed(nn.Linear):
        """A host's layer."""

    language = language_of()
    for layer in language.language_model.layers:
        layer.self_attn.q_proj.__class__ = Streamed
    pack_for_drawing(language)
    assert all(type(layer.self_attn) is SelfAttention for layer in language.language_model.layers)


def test_layers_with_hooks_are_left_alone():
    language = language_of()
    seen = []
    head = language.generation_head.inner
    head.register_forward_hook(lambda *_: seen.append(True))
    pack_for_drawing(language)
    greedy(language)
    assert language.generation_head.inner is head
    assert seen


def test_nothing_is_packed_where_this_computer_has_no_packed_product(monkeypatch):
    monkeypatch.setattr(packing, "_packers", lambda dtype: ())
    language = language_of()
    pack_for_drawing(language)
    assert not any(isinstance(module, PackedLinear) for module in language.modules())


def test_a_way_to_pack_that_raises_or_errs_does_not_count_as_working():
    def raises(weight, bias):
        raise RuntimeError("no such operation")

    def errs(weight, bias):
        return lambda x: nn.functional.linear(x, weight, bias) * 1.1

    assert not packing._works(raises, torch.float32)
    assert not packing._works(errs, torch.float32)


def test_matrices_of_two_dtypes_are_not_merged():
    language = language_of()
    attention = language.language_model.layers[0].self_attn
    attention.k_proj.to(torch.bfloat16)
    pack_for_drawing(language)
    assert language.language_model.layers[0].self_attn is attention


def test_a_step_of_a_packed_decoder_equals_its_whole_pass():
    language = language_of()
    pack_for_drawing(language)
    whole = hidden(language)
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(2, 5, WIDE.language.hidden_size, generator=generator)
    cache = KVCache(WIDE.language, rows=2, capacity=5, dtype=torch.float32, device=CPU)
    with torch.inference_mode():
        steps = [
            language.language_model(embeddings[:, i : i + 1], torch.full((2, 1), i), cache=cache)
            for i in range(5)
        ]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_half_precision_gives_close_numbers_packed_or_not():
    plain, packed = language_of(torch.bfloat16), language_of(torch.bfloat16)
    pack_for_drawing(packed)
    with torch.inference_mode():
        x = torch.ones(1, 3, WIDE.language.hidden_size, dtype=torch.bfloat16)
        positions = torch.arange(3)[None]
        expected, found = (part.language_model(x, positions) for part in (plain, packed))
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)


def test_a_model_that_learns_is_not_packed():
    language = language_of().requires_grad_(True)
    pack_for_drawing(language)
    assert not any(isinstance(module, PackedLinear) for module in language.modules())


def test_a_packed_product_refuses_gradients():
    language = language_of()
    pack_for_drawing(language)
    with pytest.raises(ConfigError, match="cannot learn"):
        language.generation_head(torch.zeros(1, WIDE.language.hidden_size, requires_grad=True))


def test_small_matrices_stay_plain():
    language = language_of()
    pack_for_drawing(language)
    assert type(language.generation_aligner.layers[0]) is nn.Linear


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 200])
@pytest.mark.parametrize("has_bias", [True, False])
def test_packed_matrix_equals_the_plain_product(rows, has_bias):
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(300, 260, generator=generator)
    bias = torch.randn(300, generator=generator) if has_bias else None
    x = torch.randn(rows, 260, generator=generator)
    product = pack_matrix(weight, bias)
    assert product is not None
    expected = nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(product(x), expected, rtol=1e-4, atol=1e-4)


def test_published_values_survive_half_storage_and_arbitrary_ones_do_not():
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    assert survives_half_storage(weight.bfloat16().float())
    assert not survives_half_storage(weight)


def test_values_beyond_float16_do_not_survive_half_storage():
    weight = torch.ones(64, 64)
    weight[0, 0] = 1e6
    assert not survives_half_storage(weight)
