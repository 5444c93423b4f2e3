from __future__ import annotations

import pytest
import torch
from torch import Tensor

from janus_core import JanusConfig
from janus_core.model.kv_cache import KVCache, cache_dtype, cache_slots, kv_cache_bytes


def numbers(config: JanusConfig, rows: int, tokens: int, start: int = 0) -> Tensor:
    shape = (rows, config.language.num_key_value_heads, tokens, config.language.head_dim)
    return torch.arange(start, start + torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


def empty(config: JanusConfig, rows: int = 3, capacity: int = 6) -> KVCache:
    return KVCache(
        config.language, rows=rows, capacity=capacity, dtype=torch.float32, device=torch.device("cpu")
    )


def filled(config: JanusConfig, tokens: int = 4) -> KVCache:
    cache = empty(config)
    for layer in range(config.language.num_hidden_layers):
        cache.store(
            layer, numbers(config, 3, tokens, 1000 * layer), -numbers(config, 3, tokens, 1000 * layer)
        )
    cache.advance(tokens)
    return cache


def test_a_new_cache_is_empty(config: JanusConfig) -> None:
    assert empty(config).length == 0


def test_storing_returns_everything_up_to_the_new_tokens(config: JanusConfig) -> None:
    cache, new = filled(config), numbers(config, 3, 2, 9000)
    keys, values = cache.store(1, new, -new)
    expected = torch.cat((numbers(config, 3, 4, 1000), new), dim=2)
    assert torch.equal(keys, expected)
    assert torch.equal(values, -expected)


def test_storing_does_not_move_the_length(config: JanusConfig) -> None:
    cache = filled(config)
    cache.store(0, numbers(config, 3, 2), numbers(config, 3, 2))
    assert cache.length == 4


def test_advancing_moves_the_length(config: JanusConfig) -> None:
    cache = filled(config)
    cache.advance(2)
    assert cache.length == 6


def test_layers_are_stored_apart(config: JanusConfig) -> None:
    cache = filled(config)
    cache.store(1, numbers(config, 3, 2, 9000), numbers(config, 3, 2, 9000))
    keys, _ = cache.store(0, numbers(config, 3, 1), numbers(config, 3, 1))
    assert torch.equal(keys[:, :, :4], numbers(config, 3, 4))


@pytest.mark.parametrize("rows", [[2], [1, 0, 2], [0, 0, 2, 2, 1]], ids=["drop", "reorder", "repeat"])
def test_selected_rows_continue_the_rows_they_were(config: JanusConfig, rows: list[int]) -> None:
    selected = filled(config).select(torch.tensor(rows))
    new = numbers(config, len(rows), 1)
    keys, values = selected.store(0, new, new)
    assert torch.equal(keys[:, :, :4], numbers(config, 3, 4)[rows])
    assert torch.equal(values[:, :, :4], -numbers(config, 3, 4)[rows])


def test_a_selection_keeps_capacity_and_length(config: JanusConfig) -> None:
    selected = filled(config).select(torch.tensor([0, 0]))
    assert (selected.keys.shape[3], selected.length) == (cache_slots(6), 4)


def test_writing_to_a_selection_leaves_the_original_alone(config: JanusConfig) -> None:
    cache = filled(config)
    selected = cache.select(torch.tensor([0, 1, 2]))
    selected.length = 0
    selected.store(0, numbers(config, 3, 4, 9000), numbers(config, 3, 4, 9000))
    assert torch.equal(cache.keys[0, :, :, :4], numbers(config, 3, 4))
    assert cache.length == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_predicted_size_is_the_real_one(config: JanusConfig, dtype: torch.dtype) -> None:
    cache = KVCache(config.language, rows=3, capacity=6, dtype=dtype, device=torch.device("cpu"))
    assert kv_cache_bytes(config.language, 3, 6, dtype) == cache.keys.nbytes + cache.values.nbytes


def test_a_cpu_keeps_half_precision_in_float32() -> None:
    assert cache_dtype(torch.bfloat16, torch.device("cpu")) == torch.float32


def test_a_gpu_keeps_what_it_computes_in() -> None:
    assert cache_dtype(torch.bfloat16, torch.device("cuda")) == torch.bfloat16
