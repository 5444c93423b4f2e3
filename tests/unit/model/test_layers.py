from __future__ import annotations

import math
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from janus_core.model.layers import MLP, GatedMLP, attend, full_precision_convolutions, rotary_table, rotate


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def heads(count: int, tokens: int, seed: int) -> Tensor:
    return numbers(2, count, tokens, 8, seed=seed)  # (b, heads, t, head_dim)


def turned(x: Tensor, position: int) -> Tensor:
    positions = torch.full((x.shape[0], x.shape[2]), position)
    return rotate(x, rotary_table(positions, x.shape[-1], 10000.0, torch.float32))


# attention


@pytest.mark.parametrize("tokens", [1, 3])
def test_keys_in_a_wider_dtype_decide_the_arithmetic(tokens: int) -> None:
    q, k, v = heads(4, tokens, 1).bfloat16(), heads(4, 5, 2), heads(4, 5, 3)
    found = attend(q, k, v)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, attend(q.float(), k, v).bfloat16())


def test_attention_is_a_softmax_of_scaled_products() -> None:
    q, k, v = heads(4, 3, 1), heads(4, 5, 2), heads(4, 5, 3)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(8)).softmax(dim=-1)
    assert_close(attend(q, k, v), (weights @ v).transpose(1, 2).flatten(2))


def test_neighbouring_query_heads_share_a_key_head() -> None:
    q, k, v = heads(4, 3, 1), heads(2, 3, 2), heads(2, 3, 3)
    spread = torch.tensor([0, 0, 1, 1])
    assert_close(attend(q, k, v), attend(q, k[:, spread], v[:, spread]))


def test_causal_attention_equals_a_triangular_mask() -> None:
    q, k, v = heads(4, 3, 1), heads(2, 3, 2), heads(2, 3, 3)
    mask = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    assert_close(attend(q, k, v, is_causal=True), attend(q, k, v, mask=mask[None, None]))


def test_masked_keys_have_no_influence() -> None:
    q, k, v = heads(4, 3, 1), heads(4, 5, 2), heads(4, 5, 3)
    mask = torch.tensor([True, True, False, True, False]).expand(2, 1, 3, 5)
    other_k, other_v = k.clone(), v.clone()
    other_k[:, :, [2, 4]], other_v[:, :, [2, 4]] = 9.0, 9.0
    assert_close(attend(q, k, v, mask=mask), attend(q, other_k, other_v, mask=mask))


# rotary embedding


def test_position_zero_is_not_turned() -> None:
    assert torch.equal(turned(heads(2, 3, 1), 0), heads(2, 3, 1))


def test_the_first_pair_is_turned_by_one_radian_per_position() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 1, 1, 4)
    expected = torch.tensor([math.cos(3.0), 0.0, math.sin(3.0), 0.0])
    assert_close(turned(x, 3).flatten(), expected)


def test_the_second_pair_of_four_channels_is_turned_a_hundred_times_slower() -> None:
    x = torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(1, 1, 1, 4)
    expected = torch.tensor([0.0, math.cos(0.03), 0.0, math.sin(0.03)])
    assert_close(turned(x, 3).flatten(), expected)


def test_products_of_turned_vectors_depend_on_their_distance_alone() -> None:
    q, k = heads(2, 1, 1), heads(2, 1, 2)
    near = turned(q, 7) @ turned(k, 4).transpose(-1, -2)
    far = turned(q, 107) @ turned(k, 104).transpose(-1, -2)
    assert_close(near, far, atol=1e-4, rtol=0)


def test_angles_are_float32_whatever_dtype_is_asked_for() -> None:
    positions = torch.tensor([[4095, 4096, 4097]])  # one number in bfloat16
    exact, _ = rotary_table(positions, 8, 10000.0, torch.float32)
    rounded, _ = rotary_table(positions, 8, 10000.0, torch.bfloat16)
    assert torch.equal(rounded, exact.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_turning_keeps_the_dtype(dtype: torch.dtype) -> None:
    table = rotary_table(torch.arange(3)[None], 8, 10000.0, dtype)
    assert rotate(heads(2, 3, 1).to(dtype), table).dtype == dtype


# feed-forward blocks


def test_the_gated_mlp_multiplies_a_silu_gate() -> None:
    mlp, x = GatedMLP(4, 6, nn), numbers(2, 4)
    mlp.load_state_dict({name: numbers(*old.shape) for name, old in mlp.state_dict().items()})
    gate = x @ mlp.gate_proj.weight.T
    inner = gate * gate.sigmoid() * (x @ mlp.up_proj.weight.T)
    assert_close(mlp(x), inner @ mlp.down_proj.weight.T)


def test_the_gated_mlp_has_no_biases() -> None:
    assert all(name.endswith("weight") for name, _ in GatedMLP(4, 6, nn).named_parameters())


def test_the_mlp_uses_the_exact_gelu() -> None:
    mlp = MLP(1, 1, nn)
    for parameter, value in zip(mlp.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
        nn.init.constant_(parameter, value)
    exact = 0.5 * (1 + math.erf(1 / math.sqrt(2)))  # the tanh approximation is off by 0.00015
    assert mlp(torch.ones(1, 1)).item() == pytest.approx(exact, abs=1e-6)


# convolutions


@pytest.mark.parametrize("is_allowed", [True, False])
def test_convolutions_take_all_bits_inside_a_context_and_what_they_took_behind_it(is_allowed: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = is_allowed
    try:
        with suppress(KeyboardInterrupt), full_precision_convolutions():
            assert not torch.backends.cudnn.allow_tf32
            raise KeyboardInterrupt
        assert torch.backends.cudnn.allow_tf32 is is_allowed
    finally:
        torch.backends.cudnn.allow_tf32 = before
