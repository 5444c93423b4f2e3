from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from janus_core import DrawOptions, Janus, JanusConfig
from janus_core.generation import fixed_decoder
from janus_core.generation.fixed_decoder import FixedDecoder, is_plain, merged
from janus_core.generation.prefill import Sequences, pad_left
from janus_core.inputs.prompting import plan_drawing
from janus_core.model.kv_cache import SLOTS
from janus_core.model.language_model import LanguageModel
from janus_core.residency.packing import PackedMLP

CPU = torch.device("cpu")
PROMPTS = ("a cat", "a red house beside the river", "it")
STEPS = 5


def begin(janus: Janus, prompts: tuple[str, ...], new_tokens: int = 4) -> Sequences:
    plans = [plan_drawing(prompt, janus.tokenizer) for prompt in prompts]
    padded = pad_left(plans, janus.tokenizer.special.pad, CPU)
    return Sequences(janus.model.language, padded, None, new_tokens=new_tokens, compute=janus.compute)


def inputs(config: JanusConfig, rows: int) -> Tensor:
    shape = (STEPS, rows, config.language.hidden_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def decoder_of(janus: Janus) -> LanguageModel:
    model: LanguageModel = janus.model.language.language_model
    return model


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS[:2], PROMPTS], ids=["one", "two", "three"])
@torch.inference_mode()
def test_a_fixed_decoder_computes_what_the_plain_one_does(janus: Janus, prompts: tuple[str, ...]) -> None:
    plain, taken_over = begin(janus, prompts, STEPS), begin(janus, prompts, STEPS)
    with merged(decoder_of(janus)) as weights:
        fixed = taken_over.fixed(weights)
        for step, embeddings in enumerate(inputs(janus.config, len(prompts))):
            plain.feed(embeddings)
            assert_close(fixed.step(embeddings, fixed.reach(step)), plain.hidden, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_what_is_fed_stays_as_it_was(janus: Janus) -> None:
    [embeddings, *_] = inputs(janus.config, 3)
    before = embeddings.clone()
    with merged(decoder_of(janus)) as weights:
        begin(janus, PROMPTS, STEPS).fixed(weights).step(embeddings, SLOTS)
    assert torch.equal(embeddings, before)


@torch.inference_mode()
def test_slots_beyond_the_filled_ones_do_not_matter(janus: Janus) -> None:
    near, far = (begin(janus, PROMPTS, 3 * SLOTS) for _ in range(2))
    with merged(decoder_of(janus)) as weights:
        fixed, further = near.fixed(weights), far.fixed(weights)
        for embeddings in inputs(janus.config, 3):
            assert_close(fixed.step(embeddings, SLOTS), further.step(embeddings, 3 * SLOTS))


@torch.inference_mode()
def test_memory_that_held_nonsense_does_not_matter(janus: Janus) -> None:
    clean, dirty = begin(janus, PROMPTS, STEPS), begin(janus, PROMPTS, STEPS)
    cache = dirty._cache
    cache.both[..., cache.length :, :] = float("nan")
    with merged(decoder_of(janus)) as weights:
        fixed, other = clean.fixed(weights), dirty.fixed(weights)
        for embeddings in inputs(janus.config, 3):
            assert torch.equal(fixed.step(embeddings, SLOTS), other.step(embeddings, SLOTS))


def test_nothing_moves_while_it_steps(janus: Janus) -> None:
    with torch.inference_mode(), merged(decoder_of(janus)) as weights:
        fixed = begin(janus, PROMPTS, STEPS).fixed(weights)
        held = [value for value in vars(fixed).values() if isinstance(value, Tensor)]
        held.append(fixed._cache.both)
        before = [tensor.data_ptr() for tensor in held]
        for embeddings in inputs(janus.config, 3):
            fixed.step(embeddings, SLOTS)
        assert [tensor.data_ptr() for tensor in held] == before


# how far attention looks


def reaches(janus: Janus, rows: int, new_tokens: int) -> tuple[FixedDecoder, list[int], int]:
    sequences = begin(janus, PROMPTS[:1], new_tokens)
    sequences.select([0] * rows)
    stored = sequences._cache.length
    with merged(decoder_of(janus)) as weights:
        fixed = sequences.fixed(weights)
    return fixed, [fixed.reach(step) for step in range(new_tokens)], stored


@pytest.mark.parametrize("rows", [1, 2, 4, 32])
def test_attention_reaches_the_new_token_and_never_past_the_cache(janus: Janus, rows: int) -> None:
    fixed, found, stored = reaches(janus, rows, 230)
    slots = fixed._cache.keys.shape[3]
    assert all(stored + step + 1 <= reach <= slots for step, reach in enumerate(found))


@pytest.mark.parametrize(("rows", "graphs"), [(1, 1), (2, 1), (4, 2), (32, 4)])
def test_more_rows_look_in_shorter_strides(janus: Janus, rows: int, graphs: int) -> None:
    _, found, stored = reaches(janus, rows, 256 - 32)
    assert stored < 32
    assert len(set(found)) == graphs


# weights


def test_merged_weights_are_those_of_the_layers_one_above_the_other(janus: Janus) -> None:
    layer = decoder_of(janus).layers[0]
    expected = torch.cat([getattr(layer.self_attn, f"{name}_proj").weight for name in "qkv"]).clone()
    with merged(decoder_of(janus)) as weights:
        assert torch.equal(weights[0].projections, expected)


def test_layers_share_the_merged_memory_and_get_their_own_back(janus: Janus) -> None:
    linears = [decoder_of(janus).layers[1].mlp.gate_proj, decoder_of(janus).layers[1].mlp.up_proj]
    before = [(linear.weight, linear.weight.clone()) for linear in linears]

    def storages() -> set[int]:
        return {linear.weight.untyped_storage().data_ptr() for linear in linears}

    with merged(decoder_of(janus)):
        assert len(storages()) == 1
    assert len(storages()) == 2
    for linear, (parameter, values) in zip(linears, before, strict=True):
        assert linear.weight is parameter
        assert torch.equal(parameter, values)


@pytest.mark.parametrize("made_inside", [True, False])
def test_weights_are_given_back_after_an_error(
    make_janus: Callable[[torch.dtype], Janus], made_inside: bool
) -> None:
    with torch.inference_mode(made_inside):
        decoder = decoder_of(make_janus(torch.float32))
    with pytest.raises(ValueError, match="stop"), torch.inference_mode(), merged(decoder):
        raise ValueError("stop")
    q, k = decoder.layers[0].self_attn.q_proj.weight, decoder.layers[0].self_attn.k_proj.weight
    assert q.untyped_storage().data_ptr() != k.untyped_storage().data_ptr()


def test_weights_are_given_back_where_memory_runs_out_half_way(
    janus: Janus, monkeypatch: pytest.MonkeyPatch
) -> None:
    join, together = torch.cat, 2 * len(decoder_of(janus).layers)

    def short_of_memory(parts: list[Tensor]) -> Tensor:
        nonlocal together
        together -= 1
        if not together:
            raise torch.OutOfMemoryError("out of memory")
        return join(parts)

    monkeypatch.setattr(torch, "cat", short_of_memory)
    with pytest.raises(torch.OutOfMemoryError), merged(decoder_of(janus)):
        pytest.fail("there was enough")
    assert together == 0
    storages = [weight.untyped_storage().data_ptr() for weight in decoder_of(janus).parameters()]
    assert len(set(storages)) == len(storages)


def test_matrices_part_one_at_a_time_whoever_holds_the_list(
    janus: Janus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a drawing would hold most weights twice at its very end."""
    part, alive = fixed_decoder._part, []

    def parted(linears: list[nn.Linear]) -> None:
        part(linears)
        alive.append(sum(storage() is not None for storage in storages))

    monkeypatch.setattr(fixed_decoder, "_part", parted)
    with merged(decoder_of(janus)) as weights:
        kept = weights
        storages = [
            weakref.ref(matrix.untyped_storage())
            for layer in weights
            for matrix in (layer.projections, layer.gate_up)
        ]
    assert kept == []
    assert alive == list(range(len(storages) - 1, -1, -1))


def test_too_little_memory_to_part_hides_no_other_error(
    janus: Janus, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, calls = fixed_decoder._part, iter(range(100))

    def short_of_memory(linears: list[nn.Linear]) -> None:
        if next(calls) == 1:
            raise torch.OutOfMemoryError("out of memory")
        part(linears)

    monkeypatch.setattr(fixed_decoder, "_part", short_of_memory)
    with pytest.raises(ValueError, match="stop"), merged(decoder_of(janus)):
        raise ValueError("stop")
    assert next(calls) == 2 * len(decoder_of(janus).layers)


def test_a_model_as_built_is_plain(janus: Janus) -> None:
    assert is_plain(decoder_of(janus), CPU, torch.float32)


@pytest.mark.parametrize("other", ["device", "dtype", "weight", "layer"])
def test_a_model_that_is_not_whole_in_place_is_not_plain(
    make_janus: Callable[[torch.dtype], Janus], other: str
) -> None:
    decoder = decoder_of(make_janus(torch.float32))
    device = torch.device("meta") if other == "device" else CPU
    dtype = torch.bfloat16 if other == "dtype" else torch.float32
    layer = decoder.layers[1]
    if other == "weight":
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.bfloat16()
    if other == "layer":
        layer.mlp = PackedMLP(layer.mlp.gate_proj, layer.mlp.down_proj)
    assert not is_plain(decoder, device, dtype)


# drawing with it


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a CPU take the way of a GPU, without graphs; returns the reach of every step."""
    steps: list[int] = []
    monkeypatch.setattr("janus_core.generation.drawing.is_repeatable", lambda model, compute: True)
    step = FixedDecoder.step

    def counted(self: FixedDecoder, embeddings: Tensor, reach: int) -> Tensor:
        steps.append(reach)
        return step(self, embeddings, reach)

    monkeypatch.setattr(FixedDecoder, "step", counted)
    return steps


OPTIONS = {
    "greedy": DrawOptions(temperature=0.0),
    "sampled": DrawOptions(),
    "filtered": DrawOptions(temperature=0.8, top_k=20, top_p=0.9),
    "unguided": DrawOptions(cfg_weight=1.0),
    "narrowed": DrawOptions(min_p=0.5),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("negative", ["", "grey and blurred"])
def test_repeated_steps_draw_the_pictures_of_plain_ones(
    janus: Janus, options: DrawOptions, negative: str, request: pytest.FixtureRequest
) -> None:
    def draw() -> list[list[int]]:
        drawn = janus.draw(
            PROMPTS, num_images=2, seed=5, negative_prompt=negative, options=options, batch_size=6
        )
        found: list[list[int]] = drawn.tokens.grid.flatten(1).tolist()
        return found

    plain = draw()
    steps = request.getfixturevalue("repeated")
    assert draw() == plain
    assert len(steps) == janus.config.num_image_tokens - 1


def test_blocks_of_noise_end_where_they_may(
    janus: Janus, repeated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = janus.draw("a cat", num_images=2).tokens.grid
    monkeypatch.setattr("janus_core.generation.drawing._NOISE_BLOCK", 5)
    assert torch.equal(janus.draw("a cat", num_images=2).tokens.grid, whole)


def test_repeated_steps_report_like_plain_ones(janus: Janus, repeated: list[int]) -> None:
    seen: list[list[int]] = []
    steps: list[int] = []
    drawn = janus.draw(
        "a cat",
        on_tokens=lambda tokens: seen.append(tokens[0].tolist()),
        on_step=lambda done, total: steps.append(done),
    )
    whole = drawn.tokens.grid.flatten().tolist()
    assert seen == [whole[:count] for count in range(1, len(whole) + 1)]
    assert steps == list(range(1, len(whole) + 1))


def test_an_interrupted_drawing_leaves_the_weights_as_they_were(janus: Janus, repeated: list[int]) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    before = janus.draw("a cat").tokens.grid
    with pytest.raises(KeyboardInterrupt):
        janus.draw("a cat", on_step=interrupt)
    layer = decoder_of(janus).layers[0]
    storages = {
        linear.weight.untyped_storage().data_ptr() for linear in (layer.mlp.gate_proj, layer.mlp.up_proj)
    }
    assert len(storages) == 2
    assert torch.equal(janus.draw("a cat").tokens.grid, before)


def test_a_cpu_draws_plainly_even_where_weights_are_resident(janus: Janus, rows_run: list[int]) -> None:
    resident = replace(janus, compute=replace(janus.compute, is_resident=True))
    resident.draw("a cat")
    assert len(rows_run) == janus.config.num_image_tokens  # one pass of the modules for each cell
