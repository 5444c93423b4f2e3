from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from janus_core import Janus
from janus_core.model import language_model
from janus_core.model.kv_cache import KVCache
from janus_core.model.language_model import LanguageModel, additive, attention_mask

CPU = torch.device("cpu")
LENGTHS = (5, 9, 3)


@pytest.fixture
def model(janus: Janus) -> LanguageModel:
    return janus.model.language.language_model


@pytest.fixture
def embeddings(model: LanguageModel) -> Tensor:
    ids = torch.randint(0, 400, (3, 9), generator=torch.Generator().manual_seed(2))
    embedded: Tensor = model.embed_tokens(ids)
    return embedded


def counted(x: Tensor, start: int = 0) -> Tensor:
    return torch.arange(start, start + x.shape[1]).expand(x.shape[0], -1)


def new_cache(model: LanguageModel, rows: int = 3, capacity: int = 9) -> KVCache:
    return KVCache(model.config, rows=rows, capacity=capacity, dtype=torch.float32, device=CPU)


def matrix(*rows: str) -> Tensor:
    return torch.tensor([[mark == "1" for mark in row] for row in rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_come_from_their_table_without_their_layer(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """A host's layer would bring the whole table to the device."""
    expected = model.embed_tokens.weight[[3, 7]].to(dtype)
    monkeypatch.setattr(nn.Embedding, "forward", lambda *_: pytest.fail("the layer was asked"))
    assert torch.equal(model.embed_words(torch.tensor([3, 7]), dtype), expected)


# the mask, written out: one line per query, one mark per key


@pytest.mark.parametrize(("new", "stored"), [(1, 0), (4, 0), (1, 5)])
def test_no_mask_is_made_where_plain_causal_attention_is_enough(new: int, stored: int) -> None:
    assert attention_mask(None, new, stored, CPU) is None


def test_several_tokens_behind_stored_ones_see_those_and_themselves() -> None:
    mask = attention_mask(None, 2, 3, CPU)
    assert mask is not None
    assert torch.equal(mask[0, 0], matrix("11110", "11111"))


def test_padding_on_the_left_is_seen_by_nobody_but_itself() -> None:
    mask = attention_mask(matrix("0011"), 4, 0, CPU)
    assert mask is not None
    assert torch.equal(mask[0, 0], matrix("1000", "0100", "0010", "0011"))


def test_one_token_behind_a_padded_prompt_sees_all_but_the_padding() -> None:
    mask = attention_mask(matrix("00111"), 1, 4, CPU)
    assert mask is not None
    assert torch.equal(mask[0, 0], matrix("00111"))


def test_several_tokens_behind_a_padded_prompt_see_all_but_padding_and_future() -> None:
    mask = attention_mask(matrix("01111"), 2, 3, CPU)
    assert mask is not None
    assert torch.equal(mask[0, 0], matrix("01110", "01111"))


def test_each_row_has_its_own_mask() -> None:
    mask = attention_mask(matrix("011", "111"), 3, 0, CPU)
    assert mask is not None
    assert mask.shape == (2, 1, 3, 3)
    assert torch.equal(mask[0, 0], matrix("100", "010", "011"))
    assert torch.equal(mask[1, 0], matrix("100", "110", "111"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_mask_to_be_added_is_finite_and_leaves_no_weight_to_what_it_hides(dtype: torch.dtype) -> None:
    found = additive(matrix("0011"), dtype)
    assert found.dtype == dtype
    assert bool(found.isfinite().all())
    assert (found + torch.finfo(dtype).min / 4).isfinite().all()
    assert torch.equal(found.softmax(-1), torch.tensor([[0, 0, 0.5, 0.5]], dtype=dtype))


def test_a_mask_to_be_added_hides_what_a_bool_one_does(
    model: LanguageModel, embeddings: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    attended = torch.arange(9) >= 9 - torch.tensor(LENGTHS)[:, None]
    expected = model(embeddings, counted(embeddings), attended=attended)
    numbers = additive(attention_mask(attended, 9, 0, CPU), torch.float32)
    monkeypatch.setattr(language_model, "attention_mask", lambda *_: numbers)
    assert_close(model(embeddings, counted(embeddings), attended=attended), expected, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_no_device_but_the_cpu_gets_a_bool_mask(
    model: LanguageModel, embeddings: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: set[torch.dtype] = set()

    def attend(q: Tensor, *_: Tensor, mask: Tensor, **__: object) -> Tensor:
        given.add(mask.dtype)
        return q.transpose(1, 2).flatten(2)

    monkeypatch.setattr(language_model, "attend", attend)
    attended = torch.arange(9) >= 9 - torch.tensor(LENGTHS)[:, None]
    for device in ("cpu", "meta"):
        there = LanguageModel(model.config, nn).to(device)
        there(embeddings.to(device), counted(embeddings).to(device), attended=attended.to(device))
    assert given == {torch.bool, embeddings.dtype}


# the decoder


def test_decoding_with_a_cache_equals_one_full_pass(model: LanguageModel, embeddings: Tensor) -> None:
    cache = new_cache(model)
    steps = [model(embeddings[:, :4], counted(embeddings[:, :4]), cache=cache)]
    steps += [
        model(embeddings[:, t : t + 1], counted(embeddings[:, t : t + 1], t), cache=cache)
        for t in range(4, 9)
    ]
    assert_close(torch.cat(steps, dim=1), model(embeddings, counted(embeddings)))


def test_prefilling_in_two_pieces_equals_one_full_pass(model: LanguageModel, embeddings: Tensor) -> None:
    cache, (first, second) = new_cache(model), (embeddings[:, :5], embeddings[:, 5:])
    pieces = [model(first, counted(first), cache=cache), model(second, counted(second, 5), cache=cache)]
    assert_close(torch.cat(pieces, dim=1), model(embeddings, counted(embeddings)))


def test_a_pass_extends_the_cache_by_its_tokens(model: LanguageModel, embeddings: Tensor) -> None:
    cache = new_cache(model)
    model(embeddings[:, :4], counted(embeddings[:, :4]), cache=cache)
    assert cache.length == 4


def test_later_tokens_do_not_change_earlier_states(model: LanguageModel, embeddings: Tensor) -> None:
    other = embeddings.clone()
    other[:, 6:] += 1
    before, after = model(embeddings, counted(embeddings)), model(other, counted(other))
    assert_close(after[:, :6], before[:, :6])
    assert bool((after[:, 6:] != before[:, 6:]).any(dim=-1).all())


def padded(embeddings: Tensor, filler: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first LENGTHS[i] embeddings of row i moved to the right, their positions and what counts."""
    longest = max(LENGTHS)
    moved = torch.full_like(embeddings, filler)
    for row, length in enumerate(LENGTHS):
        moved[row, longest - length :] = embeddings[row, :length]
    positions = torch.arange(longest) - (longest - torch.tensor(LENGTHS))[:, None]
    return moved, positions.clamp(min=0), positions >= 0


@pytest.mark.parametrize("row", range(3))
def test_a_left_padded_row_equals_the_row_alone(model: LanguageModel, embeddings: Tensor, row: int) -> None:
    moved, positions, attended = padded(embeddings, 0.5)
    alone = embeddings[row : row + 1, : LENGTHS[row]]
    together = model(moved, positions, attended=attended)[row : row + 1, -LENGTHS[row] :]
    assert_close(together, model(alone, counted(alone)))


def test_what_stands_in_the_padding_does_not_matter(model: LanguageModel, embeddings: Tensor) -> None:
    quiet, positions, attended = padded(embeddings, 0.0)
    loud, _, _ = padded(embeddings, 100.0)
    before = model(quiet, positions, attended=attended)[attended]
    assert_close(model(loud, positions, attended=attended)[attended], before)


def test_padded_states_are_finite(model: LanguageModel, embeddings: Tensor) -> None:
    moved, positions, attended = padded(embeddings, 0.5)
    assert bool(model(moved, positions, attended=attended).isfinite().all())


def test_shared_key_heads_equal_as_many_repeated_ones(model: LanguageModel, embeddings: Tensor) -> None:
    whole = LanguageModel(replace(model.config, num_key_value_heads=4), nn)
    weights = {}
    for name, tensor in model.state_dict().items():
        is_shared = ".k_proj." in name or ".v_proj." in name
        weights[name] = tensor.unflatten(0, (2, 8))[[0, 0, 1, 1]].flatten(0, 1) if is_shared else tensor
    whole.load_state_dict(weights)
    positions = counted(embeddings)
    assert_close(whole(embeddings, positions), model(embeddings, positions))


def test_only_distances_between_positions_matter(model: LanguageModel, embeddings: Tensor) -> None:
    near, far = model(embeddings, counted(embeddings)), model(embeddings, counted(embeddings, 100))
    assert_close(near, far, atol=1e-4, rtol=0)


def test_order_matters(model: LanguageModel, embeddings: Tensor) -> None:
    swapped = embeddings[:, [1, 0, *range(2, 9)]]
    before, after = model(embeddings, counted(embeddings)), model(swapped, counted(swapped))
    assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-3)
