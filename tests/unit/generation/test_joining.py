"""Joined weights: one matrix, the layers' own parameters, and no more memory than before."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from janus_core import Janus
from janus_core.generation import joining
from janus_core.generation.joining import Joiner

from .test_static_decoder import decoder_of, short_of_memory

GB = 10**9
WIDTH, INNER, LAYERS = 4096, 11008, 30  # of the 7B


def joined(janus: Janus, linears: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    with Joiner(decoder_of(janus)) as joiner:
        return joiner.join(linears)


def gate_and_up(janus: Janus) -> list[nn.Linear]:
    mlp = decoder_of(janus).layers[0].mlp
    return [mlp.gate_proj, mlp.up_proj]


def test_joined_weights_are_those_of_the_layers_one_above_the_other(fresh: Janus) -> None:
    attention = decoder_of(fresh).layers[0].self_attn
    linears = [attention.q_proj, attention.k_proj, attention.v_proj]
    expected = torch.cat([linear.weight for linear in linears]).clone()
    [whole] = joined(fresh, linears)
    assert torch.equal(whole, expected)


@pytest.mark.parametrize("made_inside", [True, False])
def test_layers_share_the_joined_memory_and_keep_parameters_and_values(
    make_janus: Callable[[torch.dtype], Janus], made_inside: bool
) -> None:
    with torch.inference_mode(made_inside):
        janus = make_janus(torch.float32)
    linears = gate_and_up(janus)
    before = [(linear.weight, linear.weight.clone()) for linear in linears]
    with torch.inference_mode():
        [whole] = joined(janus, linears)
    storages = {linear.weight.untyped_storage().data_ptr() for linear in linears}
    assert storages == {whole.untyped_storage().data_ptr()}
    for linear, (parameter, values) in zip(linears, before, strict=True):
        assert linear.weight is parameter
        assert torch.equal(parameter, values)


def test_weights_that_lie_side_by_side_are_not_copied_again(fresh: Janus) -> None:
    [first] = joined(fresh, gate_and_up(fresh))
    [second] = joined(fresh, gate_and_up(fresh))
    assert first.data_ptr() == second.data_ptr()
    assert first.shape == second.shape


def test_a_weight_that_a_host_replaced_is_joined_anew(fresh: Janus) -> None:
    gate, up = gate_and_up(fresh)
    joined(fresh, [gate, up])
    up.weight.data = up.weight * 2
    expected = torch.cat([gate.weight, up.weight])
    [whole] = joined(fresh, [gate, up])
    assert torch.equal(whole, expected)


def test_the_other_order_is_not_mistaken_for_side_by_side(fresh: Janus) -> None:
    gate, up = gate_and_up(fresh)
    joined(fresh, [gate, up])
    expected = torch.cat([up.weight, gate.weight])
    [whole] = joined(fresh, [up, gate])
    assert torch.equal(whole, expected)


# memory


def test_joining_leaves_nothing_of_the_parts(fresh: Janus) -> None:
    linears = gate_and_up(fresh)
    for linear in linears:
        linear.weight.data = linear.weight.clone()  # the test's own weights live on
    parts = [weakref.ref(linear.weight.untyped_storage()) for linear in linears]
    joined(fresh, linears)
    assert [part() for part in parts] == [None, None]


def test_where_memory_was_short_weights_stay_where_they_are_and_nobody_tries_again(
    fresh: Janus, monkeypatch: pytest.MonkeyPatch
) -> None:
    linears, tried = gate_and_up(fresh), list[object]()

    def fails(weights: object) -> Tensor:
        tried.append(weights)
        return short_of_memory(weights)

    monkeypatch.setattr(joining, "_join", fails)
    for _ in range(3):
        matrices = joined(fresh, linears)
        assert [matrix.data_ptr() for matrix in matrices] == [linear.weight.data_ptr() for linear in linears]
    assert len(tried) == 1


def test_a_model_whose_memory_was_short_says_nothing_of_another(
    make_janus: Callable[[torch.dtype], Janus], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = make_janus(torch.float32), make_janus(torch.float32)
    with monkeypatch.context() as patched:
        patched.setattr(joining, "_join", short_of_memory)
        assert len(joined(one, gate_and_up(one))) == 2
    assert len(joined(other, gate_and_up(other))) == 1


class Allocator:
    """How torch reserves memory for blocks above 10 MB: the best free one that fits, or a new one.

    A new one is as large as was asked for, to the next 2 MB; of a free one the rest stays free.
    """

    def __init__(self) -> None:
        self.free: list[int] = []
        self.used: dict[int, int] = {}  # by id of the parameter
        self.let_go = 0
        self.most = 0

    def take(self, owner: int, size: int) -> None:
        size = -(-size // 2**21) * 2**21
        fitting = [block for block in self.free if block >= size]
        if fitting:
            self.free.remove(min(fitting))
            self.free.append(min(fitting) - size)
        self.used[owner] = size
        self.most = max(self.most, sum(self.free) + sum(self.used.values()))

    def give(self, owner: int) -> None:
        self.free.append(self.used.pop(owner))

    def empty(self) -> None:
        self.let_go += 1
        self.free.clear()


def layers_of_a_7b() -> list[list[list[nn.Linear]]]:
    """Return the groups of layers with one input, without memory, and the others alone."""

    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, bias=False, dtype=torch.bfloat16, device="meta")

    return [
        [
            [linear(WIDTH, WIDTH) for _ in "qkv"],
            [linear(WIDTH, WIDTH)],
            [linear(WIDTH, INNER) for _ in ("gate", "up")],
            [linear(INNER, WIDTH)],
        ]
        for _ in range(LAYERS)
    ]


@pytest.mark.parametrize("is_let_go", [True, False])
def test_a_joined_7b_reserves_little_more_than_its_weights(
    is_let_go: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocator, layers, join = Allocator(), layers_of_a_7b(), joining._join
    for linear in (linear for layer in layers for group in layer for linear in group):
        allocator.take(id(linear.weight), linear.weight.nbytes)
    weights = allocator.most

    def followed(parts: Sequence[Tensor]) -> Tensor:
        allocator.take(id(parts), sum(part.nbytes for part in parts))  # before the old ones are gone
        for part in parts:
            allocator.give(id(part))
        kept.append(parts)  # its id stands for the joined block
        return join(parts)

    kept: list[Sequence[Tensor]] = []
    monkeypatch.setattr(joining, "_join", followed)
    monkeypatch.setattr(torch.cuda, "empty_cache", allocator.empty if is_let_go else lambda: None)
    with Joiner(nn.Module()) as joiner:
        for layer in layers:
            assert len(joiner.join(layer[0])) == len(joiner.join(layer[2])) == 1
    assert 12 * GB < weights < 12.2 * GB
    if is_let_go:
        assert allocator.most < weights + GB
        assert not allocator.free
        assert allocator.let_go < 20
    else:  # what it is about
        assert allocator.most > weights + 8 * GB
