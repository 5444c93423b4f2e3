from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from janus_core import Compute, DrawOptions, Janus, JanusConfig
from janus_core.generation import joining, static_decoder
from janus_core.generation.canvas import Source
from janus_core.generation.drawing import DrawingStep, Judge
from janus_core.generation.plans import plan_pictures
from janus_core.generation.prefill import pad_left, prefill
from janus_core.generation.static_decoder import StaticDecoder, decoder_for, is_plain
from janus_core.generation.steps import Sequences, StreamedDecoder
from janus_core.inputs.prompting import plan_drawing
from janus_core.model.kv_cache import SLOTS
from janus_core.model.language_model import LanguageModel
from janus_core.residency.packing import PackedMLP

CPU = torch.device("cpu")
PROMPTS = ("a cat", "a red house beside the river", "it")
STEPS = 5


def filled(janus: Janus, prompts: tuple[str, ...], new_tokens: int = STEPS) -> Sequences:
    plans = [plan_drawing(prompt, janus.tokenizer) for prompt in prompts]
    padded = pad_left(plans, janus.tokenizer.special.pad, CPU)
    return prefill(janus.model.language, padded, None, new_tokens=new_tokens, compute=janus.compute)


def static(janus: Janus, sequences: Sequences) -> StaticDecoder:
    return StaticDecoder(decoder_of(janus), sequences, torch.float32)


def inputs(config: JanusConfig, rows: int) -> Tensor:
    shape = (STEPS, rows, config.language.hidden_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def decoder_of(janus: Janus) -> LanguageModel:
    model: LanguageModel = janus.model.language.language_model
    return model


def short_of_memory(_: object) -> Tensor:
    raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS[:2], PROMPTS], ids=["one", "two", "three"])
@pytest.mark.parametrize("is_short", [False, True], ids=["joined", "apart"])
@torch.inference_mode()
def test_a_static_decoder_computes_what_a_streamed_one_does(
    make_janus: Callable[[torch.dtype], Janus],
    prompts: tuple[str, ...],
    is_short: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    janus = make_janus(torch.float32)
    if is_short:
        monkeypatch.setattr(joining, "_join", short_of_memory)
    streamed = StreamedDecoder(decoder_of(janus), filled(janus, prompts), torch.float32)
    fixed = static(janus, filled(janus, prompts))
    assert (len(fixed._weights[0].projections) == 1) is not is_short
    for step, embeddings in enumerate(inputs(janus.config, len(prompts))):
        fixed.prepare(step)
        assert_close(fixed.step(embeddings), streamed.step(embeddings), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_slots_beyond_the_filled_ones_do_not_matter(janus: Janus) -> None:
    near, far = (static(janus, filled(janus, PROMPTS, 3 * SLOTS)) for _ in range(2))
    near.prepare(0)
    assert near._attention._prefix < far._attention._prefix
    for embeddings in inputs(janus.config, 3):
        assert_close(near.step(embeddings), far.step(embeddings))


@torch.inference_mode()
def test_memory_that_held_nonsense_does_not_matter(janus: Janus) -> None:
    clean, dirty = filled(janus, PROMPTS), filled(janus, PROMPTS)
    dirty.cache.both[..., dirty.cache.length :, :] = float("nan")
    one, other = static(janus, clean), static(janus, dirty)
    for embeddings in inputs(janus.config, 3):
        assert torch.equal(one.step(embeddings), other.step(embeddings))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_hidden_slots_are_masked_by_finite_numbers(
    make_janus: Callable[[torch.dtype], Janus], dtype: torch.dtype
) -> None:
    """A block of keys that are all masked by -inf gives NaN in some attention kernels."""
    janus = make_janus(dtype)
    with torch.inference_mode():
        sequences = filled(janus, PROMPTS)
        half = replace_cache(sequences, dtype)
        mask = StaticDecoder(decoder_of(janus), half, dtype)._attention._mask
    assert mask.isfinite().all()
    assert (mask.float().exp() == (mask == 0)).all()


def replace_cache(sequences: Sequences, dtype: torch.dtype) -> Sequences:
    sequences.cache.both = sequences.cache.both.to(dtype)
    return sequences


def test_nothing_moves_while_it_steps(janus: Janus) -> None:
    with torch.inference_mode():
        fixed = static(janus, filled(janus, PROMPTS))
        attention, place = fixed._attention, fixed._attention._place
        held = [attention._mask, place.cache.both, place.slot, place.positions, *place.table]
        before = [tensor.data_ptr() for tensor in held]
        for embeddings in inputs(janus.config, 3):
            fixed.step(embeddings)
        assert [tensor.data_ptr() for tensor in held] == before


# how far attention looks


def reaches(janus: Janus, rows: int, new_tokens: int) -> tuple[StaticDecoder, list[int], int]:
    with torch.inference_mode():
        sequences = filled(janus, PROMPTS[:1], new_tokens).select([0] * rows)
        fixed = static(janus, sequences)
    return fixed, [fixed.prepare(step) for step in range(new_tokens)], sequences.cache.length


@pytest.mark.parametrize("rows", [1, 2, 4, 32])
def test_attention_reaches_the_new_token_and_never_past_the_cache(janus: Janus, rows: int) -> None:
    fixed, found, stored = reaches(janus, rows, 230)
    slots = fixed._attention._place.cache.slots
    assert all(stored + step + 1 <= reach <= slots for step, reach in enumerate(found))


@pytest.mark.parametrize(("rows", "graphs"), [(1, 1), (2, 1), (4, 2), (32, 4)])
def test_more_rows_look_in_shorter_strides(janus: Janus, rows: int, graphs: int) -> None:
    _, found, stored = reaches(janus, rows, 256 - 32)
    assert stored < 32
    assert len(set(found)) == graphs


# which models


class Wrapper(nn.Module):
    """What an adapter's library puts round a layer: its weight is that of the base."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.weight = base.weight


def test_a_model_as_built_is_plain(janus: Janus) -> None:
    assert is_plain(decoder_of(janus), CPU, torch.float32)


@pytest.mark.parametrize("other", ["device", "dtype", "weight", "layer", "hook", "bias", "wrapper"])
def test_a_model_that_is_not_whole_in_place_is_not_plain(
    make_janus: Callable[[torch.dtype], Janus], other: str
) -> None:
    decoder = decoder_of(make_janus(torch.float32))
    device = torch.device("meta") if other == "device" else CPU
    dtype = torch.bfloat16 if other == "dtype" else torch.float32
    layer = decoder.layers[1]
    if other == "weight":
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.bfloat16()
    if other == "hook":
        layer.mlp.up_proj.register_forward_hook(lambda *_: None)
    if other == "bias":
        layer.self_attn.q_proj.bias = nn.Parameter(torch.zeros(32), requires_grad=False)
    if other == "wrapper":
        layer.self_attn.q_proj = Wrapper(layer.self_attn.q_proj)
    if other == "layer":
        layer.mlp = PackedMLP(layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj)
    assert not is_plain(decoder, device, dtype)


@pytest.mark.parametrize(
    "compute",
    [
        Compute(device=CPU, dtype=torch.float32, is_resident=True),
        Compute(device=CPU, dtype=torch.float32, is_resident=True, captures=True),
        Compute(device=CPU, dtype=torch.float32),
    ],
)
def test_a_cpu_steps_through_the_layers(janus: Janus, compute: Compute) -> None:
    assert isinstance(decoder_for(decoder_of(janus), filled(janus, PROMPTS), compute), StreamedDecoder)


# the operators of a step


class Log(TorchDispatchMode):
    """Writes down every operator, and which of them read back or have a shape that depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        moves = any(isinstance(value, torch.device) for value in (*args, *(kwargs or {}).values()))
        name = func.overloadpacket.__name__
        self.names.append("moves" if moves and name == "to" else name)
        return func(*args, **(kwargs or {}))


VIEWS = {
    "view", "reshape", "_unsafe_view", "slice", "select", "split", "t", "transpose", "permute", "unsqueeze",
    "squeeze", "expand", "detach", "alias", "as_strided", "chunk", "unbind", "_reshape_alias",
    "split_with_sizes", "numpy_T", "to",
}  # fmt: skip
READS = {"_local_scalar_dense", "nonzero", "item", "masked_select", "unique", "is_nonzero", "equal"}
COPIES = {"_to_copy", "lift_fresh", "_pin_memory", "moves"}


@torch.inference_mode()
def operators(janus: Janus, layers: int, judged_by: Judge | None = None) -> list[str]:
    """Return the operators of one step of a drawing of two pictures with so many decoder layers."""
    decoder = decoder_of(janus)
    kept = decoder.layers
    decoder.layers = nn.ModuleList([kept[0]] * layers)
    try:
        pictures = plan_pictures(["a cat"], "", (1, 2), janus.tokenizer, old_roles=False)
        if judged_by == "kept":
            source = Source(tokens=torch.arange(16), is_drawn=torch.arange(16) % 2 == 0)
            pictures = [replace(picture, source=source) for picture in pictures]
        step = DrawingStep(
            janus.model.language,
            pictures,
            DrawOptions(temperature=1.0, top_p=0.9).decided(),
            num_image_tokens=16,
            pad=janus.tokenizer.special.pad,
            compute=janus.compute,
            judged_by=judged_by,
        )
        step.choose(step.first)
        step.prepare(1)
        with Log() as log:
            step()
    finally:
        decoder.layers = kept
    return [name for name in log.names if name not in VIEWS]


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_decoder, "may_capture", lambda model, compute: True)


@pytest.mark.parametrize("judged_by", [None, "prompt", "kept"])
def test_a_captured_step_reads_nothing_and_copies_nothing_to_the_host(
    fresh: Janus, captured: None, judged_by: Judge | None
) -> None:
    found = set(operators(fresh, 1, judged_by))
    assert found & (READS | COPIES) == set()


def test_a_layer_of_a_captured_step_launches_thirteen_kernels(fresh: Janus, captured: None) -> None:
    """Repeated key heads come on top where a model has fewer of them, as only the tests' model does."""
    of_a_layer = Counter(operators(fresh, 2)) - Counter(operators(fresh, 1))
    assert sorted((of_a_layer - Counter(["repeat_interleave"] * 2)).elements()) == [
        "addcmul_", "addmm_", "addmm_", "cat", "index_copy_", "linear", "linear", "mul", "mul_",
        "rms_norm", "rms_norm", "scaled_dot_product_attention", "silu",
    ]  # fmt: skip


# drawing with it


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, captured: None) -> list[int]:
    """Let a CPU take the way of a GPU, without graphs; returns the reach of every step."""
    reached: list[int] = []
    step = StaticDecoder.step

    def counted(self: StaticDecoder, embeddings: Tensor) -> Tensor:
        reached.append(self._attention._prefix)
        return step(self, embeddings)

    monkeypatch.setattr(StaticDecoder, "step", counted)
    return reached


OPTIONS = {
    "greedy": DrawOptions(temperature=0.0),
    "sampled": DrawOptions(),
    "filtered": DrawOptions(temperature=0.8, top_k=20, top_p=0.9),
    "unguided": DrawOptions(cfg_weight=1.0),
    "narrowed": DrawOptions(min_p=0.5),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("negative", ["", "grey and blurred"])
def test_static_steps_draw_the_pictures_of_streamed_ones(
    janus: Janus, options: DrawOptions, negative: str, request: pytest.FixtureRequest
) -> None:
    def draw() -> list[list[int]]:
        drawn = janus.draw(
            PROMPTS, num_images=2, seed=5, negative_prompt=negative, options=options, batch_size=6
        )
        found: list[list[int]] = drawn.tokens.grid.flatten(1).tolist()
        return found

    streamed = draw()
    steps = request.getfixturevalue("steps")
    assert draw() == streamed
    assert len(steps) == janus.config.num_image_tokens - 1


def test_static_steps_report_like_streamed_ones(janus: Janus, steps: list[int]) -> None:
    seen: list[list[int]] = []
    done: list[int] = []
    drawn = janus.draw(
        "a cat",
        on_tokens=lambda tokens, _: seen.append(tokens[0].tolist()),
        on_step=lambda step, total: done.append(step),
    )
    whole = drawn.tokens.grid.flatten().tolist()
    assert seen == [whole[:count] for count in range(1, len(whole) + 1)]
    assert done == list(range(1, len(whole) + 1))


def test_an_interrupted_drawing_changes_no_later_one(janus: Janus, steps: list[int]) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    before = janus.draw("a cat").tokens.grid
    with pytest.raises(KeyboardInterrupt):
        janus.draw("a cat", on_step=interrupt)
    assert torch.equal(janus.draw("a cat").tokens.grid, before)


def test_a_cpu_draws_plainly_even_where_weights_are_resident(janus: Janus, rows_run: list[int]) -> None:
    resident = replace(janus, compute=replace(janus.compute, is_resident=True))
    resident.draw("a cat")
    assert len(rows_run) == janus.config.num_image_tokens  # one pass of the modules for each cell
