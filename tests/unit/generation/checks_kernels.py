"""What Triton kernels compute, held to plain operators; `test_kernels` runs it in Triton's interpreter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.testing import assert_close

from janus_core import DrawOptions, Janus, JanusConfig, TextOptions, Turn
from janus_core.generation import counted_attention, kernels, noise, static_decoder, triton_kernels
from janus_core.generation.counted_attention import CountedAttention
from janus_core.generation.noise import gumbel_noise, keyed_noise, noise_key
from janus_core.generation.static_decoder import gate
from janus_core.model.layers import rotary_table, rotate

from .test_noise import KNOWN_ANSWERS, words
from .test_static_decoder import operators

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CACHES = [counted_attention._kernel_passes, static_decoder._gate_passes, noise._kernel_passes]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bound(dtype: torch.dtype) -> float:
    # the interpreter cuts bfloat16 off where a GPU rounds
    return max(8 * torch.finfo(dtype).eps, 1e-5)


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a CPU run kernels."""
    monkeypatch.setattr(kernels, "can_run", lambda device: True)
    for cache in CACHES:
        cache.cache_clear()
    yield
    for cache in CACHES:
        cache.cache_clear()


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, allowed: None) -> None:
    """Let a CPU use kernels without a trial, which the interpreter makes slow."""
    monkeypatch.setattr(kernels, "passes", lambda what, device, trial: True)
    monkeypatch.setattr(static_decoder, "may_capture", lambda model, compute: True)


# attention


def mixed_exactly(projected: Tensor, both: Tensor, positions: Tensor, attended: Tensor) -> Tensor:
    """Return in float64 what tokens mix that see the attended of `both` (2, b, kv_heads, s, head_dim)."""
    _, rows, kv_heads, stored, head_dim = both.shape
    heads = projected.shape[1] // head_dim - 2 * kv_heads
    split = projected.double().view(rows, -1, 1, head_dim)
    table = rotary_table(positions[:, None], head_dim, 10000.0, torch.float64)
    queries = rotate(split[:, :heads], table)
    keys = torch.cat((both[0].double(), rotate(split[:, heads : heads + kv_heads], table)), dim=2)
    values = torch.cat((both[1].double(), split[:, heads + kv_heads :]), dim=2)
    found = torch.empty(rows, heads, head_dim, dtype=torch.float64)
    for row in range(rows):
        seen = [*attended[row].nonzero()[:, 0].tolist(), stored]
        for head in range(heads):
            place = head * kv_heads // heads
            scores = keys[row, place, seen] @ queries[row, head, 0] / math.sqrt(head_dim)
            found[row, head] = scores.softmax(0) @ values[row, place, seen]
    return found.flatten(1)


#        rows, heads, kv_heads, head_dim, stored, splits, padding of each row behind so many shared tokens
SHAPES = {
    "one token stored": (1, 1, 1, 128, 1, 1, None),
    "a block short of one": (1, 2, 1, 64, 63, 1, None),
    "a whole block": (2, 2, 2, 64, 64, 1, None),
    "a block and one": (1, 2, 2, 128, 65, 2, None),
    "many rows": (32, 1, 1, 64, 70, 1, (0, [row % 7 for row in range(32)])),
    "more splits than blocks": (1, 2, 2, 64, 100, 8, None),
    "splits of several blocks": (1, 1, 1, 64, 400, 3, None),
    "shared heads": (2, 4, 2, 64, 90, 2, None),
    "padding of whole blocks": (3, 1, 1, 128, 200, 3, (0, [0, 130, 199])),
    "padding behind shared words": (2, 2, 1, 64, 150, 2, (20, [0, 100])),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_new_token_sees_the_filled_slots(shape: tuple) -> None:
    check_attend(*shape, dtype=torch.float32)


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("splits", [1, 2])
def test_half_precision_is_kept_to_its_rounding(dtype: torch.dtype, splits: int) -> None:
    check_attend(2, 2, 2, 128, 100, splits, (0, [0, 70]), dtype=dtype)


def check_attend(
    rows: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    stored: int,
    splits: int,
    padding: tuple[int, list[int]] | None,
    dtype: torch.dtype,
) -> None:
    slots = stored + 9
    shared, gaps = padding or (0, [0] * rows)
    both = random(2, rows, kv_heads, slots, head_dim).to(dtype)
    both[:, :, :, stored:] = float("nan")  # whatever memory held
    before = both.clone()
    columns = torch.arange(slots)
    attended = (columns < shared) | (columns >= shared + torch.tensor(gaps)[:, None])
    positions = stored - torch.tensor(gaps)
    projected = 2 * random(rows, (heads + 2 * kv_heads) * head_dim, seed=1).to(dtype)
    exact = mixed_exactly(projected, both[..., :stored, :], positions, attended[:, :stored])

    cos, sin = rotary_table(columns[None], head_dim, 10000.0, torch.float32)
    sign = torch.cat((-torch.ones(head_dim // 2), torch.ones(head_dim // 2)))
    mixed = triton_kernels.attend(
        projected,
        both,
        (cos[0, 0], sin[0, 0] * sign),
        positions=positions,
        slot=torch.tensor([stored]),
        attended=attended if padding else None,
        splits=splits,
    )

    assert mixed.dtype == dtype
    assert_close(mixed.double(), exact, rtol=bound(dtype), atol=bound(dtype))
    new = projected.view(rows, -1, head_dim)[:, heads:]
    table = rotary_table(positions[:, None], head_dim, 10000.0, torch.float64)
    turned = rotate(new[:, :kv_heads, None].double(), table)[:, :, 0]
    assert_close(both[0, :, :, stored].double(), turned, rtol=bound(dtype), atol=bound(dtype))
    assert torch.equal(both[1, :, :, stored], new[:, kv_heads:])
    assert torch.equal(both[..., :stored, :], before[..., :stored, :])
    assert both[..., stored + 1 :, :].isnan().all()


def test_the_trial_of_attention_passes(config: JanusConfig, allowed: None) -> None:
    language = replace(config.language, num_attention_heads=1, num_key_value_heads=1)
    assert counted_attention._kernel_passes(language, CPU, torch.float32, True, True)


BROKEN = {
    "a slot too many": lambda arguments: arguments | {"slot": arguments["slot"] + 1},
    "another position": lambda arguments: arguments | {"positions": arguments["positions"] + 1},
    "padding is seen": lambda arguments: arguments | {"attended": None},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_wrong_kernel_fails_its_trial(
    config: JanusConfig, change: Callable[[dict], dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    language = replace(config.language, num_attention_heads=1, num_key_value_heads=1)
    right = triton_kernels.attend
    monkeypatch.setattr(triton_kernels, "attend", lambda *tensors, **rest: right(*tensors, **change(rest)))
    assert not counted_attention._trial(language, CPU, torch.float32, True, False)


# gating


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "inner"), [(1, 5), (3, 512), (2, 700)])
def test_gating_is_silu_times_the_other_half(rows: int, inner: int, dtype: torch.dtype) -> None:
    gate_up = 4 * random(rows, 2 * inner).to(dtype)
    assert_close(triton_kernels.gate(gate_up), gate(gate_up), rtol=bound(dtype), atol=bound(dtype))


@pytest.mark.filterwarnings("ignore:overflow")  # numpy's, which the interpreter computes with
@pytest.mark.parametrize("number", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_gating_opens_and_shuts_without_nan(number: float) -> None:
    gate_up = torch.tensor([[number, 2.0]])
    assert_close(triton_kernels.gate(gate_up), gate(gate_up))


def test_the_trial_of_gating_passes(allowed: None) -> None:
    assert static_decoder._gate_passes(CPU, torch.float32)


def test_a_wrong_gate_fails_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernels, "gate", lambda gate_up: gate(gate_up.flip(1)))
    assert not static_decoder._gate_trial(CPU, torch.float32)


# noise


@triton.jit
def _scramble_one(found, group, position, low, high):
    zero = tl.arange(0, 1)
    a, b, c, d = triton_kernels.philox_words(
        zero + tl.load(group), tl.load(position), tl.load(low), tl.load(high)
    )
    tl.store(found + zero, a.to(tl.int64))
    tl.store(found + zero + 1, b.to(tl.int64))
    tl.store(found + zero + 2, c.to(tl.int64))
    tl.store(found + zero + 3, d.to(tl.int64))


@pytest.mark.parametrize(("counter", "key"), [(words("7 9 0 0"), words("a4093822 299f31d0"))])
def test_words_are_those_of_the_plain_generator(counter: Tensor, key: Tensor) -> None:
    found = torch.zeros(4, dtype=torch.int64)
    _scramble_one[(1,)](found, counter[:1], counter[1:2], key[:1], key[1:])
    assert torch.equal(found, noise.philox4x32(counter, key))


def test_words_are_the_published_answer() -> None:
    counter, key, answer = KNOWN_ANSWERS[0]
    found = torch.zeros(4, dtype=torch.int64)
    _scramble_one[(1,)](found, words(counter)[:1], words(counter)[1:2], words(key)[:1], words(key)[1:])
    assert torch.equal(found, words(answer))


@pytest.mark.parametrize("positions", [range(1), range(5), range(16, 19), range(2**32 - 4, 2**32 - 1)])
@pytest.mark.parametrize("num_codes", [1, 3, 64, 1029])
def test_noise_is_that_of_plain_operators_bit_for_bit(
    positions: range, num_codes: int, trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = [0, 7, 2**63 + 5, 2**64 - 1]
    used: list[object] = []
    kernel = triton_kernels.uniforms
    monkeypatch.setattr(
        triton_kernels, "uniforms", lambda *arguments: used.append(arguments) or kernel(*arguments)
    )
    found = keyed_noise(noise_key(seeds, CPU), positions, num_codes)
    expected = gumbel_noise(seeds, list(positions), num_codes, CPU)  # a list is for plain operators
    assert len(used) == 1
    assert torch.equal(found, expected)


@pytest.mark.parametrize("positions", [range(0), range(0, 9, 2), [3, 1]], ids=str)
def test_other_positions_are_left_to_plain_operators(
    positions: range | list[int], trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_kernels, "uniforms", None)
    assert keyed_noise(noise_key([1], CPU), positions, 8).shape == (1, len(positions), 8)


def test_the_trial_of_noise_passes(allowed: None) -> None:
    assert noise._kernel_passes(CPU)


def test_another_last_bit_fails_the_trial_of_noise(allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = triton_kernels.uniforms

    def other(*arguments: object) -> Tensor:
        found = kernel(*arguments)
        found[-1, -1, -1] = found[-1, -1, -1].nextafter(torch.tensor(0.0))
        return found

    monkeypatch.setattr(triton_kernels, "uniforms", other)
    assert not noise._kernel_passes(CPU)


# a step


class Counted:
    """A kernel that tells of its launches instead of what the interpreter does with tensors."""

    def __init__(self, kernel: object, launched: list[str]) -> None:
        self.kernel = kernel
        self.launched = launched

    def __getitem__(self, grid: object) -> Callable[..., None]:
        def launch(*arguments: object, **constants: object) -> None:
            self.launched.append(self.kernel.fn.__name__)
            with torch._C._DisableTorchDispatch():
                self.kernel[grid](*arguments, **constants)

        return launch


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    for name in ("_attend", "_combine", "_gate"):
        monkeypatch.setattr(triton_kernels, name, Counted(vars(triton_kernels)[name], found))
    return found


@pytest.mark.parametrize(("splits", "kernels_used"), [(1, 8), (2, 9)])
def test_a_layer_launches_eight_or_nine_kernels(
    make_janus: Callable[[torch.dtype], Janus],
    trusted: None,
    launched: list[str],
    splits: int,
    kernels_used: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counted_attention, "splits_of", lambda programs, device: splits)
    janus = make_janus(torch.float32)

    def counted(layers: int) -> Counter[str]:
        launched.clear()
        return Counter(operators(janus, layers)) + Counter(launched)

    of_a_layer = sorted((counted(2) - counted(1)).elements())
    rest = [name for name in of_a_layer if name not in ("empty", "new_empty")]  # no launch
    ours = ["_attend", *(["_combine"] if splits > 1 else []), "_gate"]
    assert rest == [*ours, "addmm_", "addmm_", "linear", "linear", "rms_norm", "rms_norm"]
    assert len(rest) == kernels_used


def test_kernels_draw_the_picture_of_plain_operators(
    janus: Janus, trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_attention, "splits_of", lambda programs, device: 2)
    reached: list[int] = []
    prepare = CountedAttention.prepare
    monkeypatch.setattr(
        CountedAttention, "prepare", lambda self, done: reached.append(prepare(self, done)) or reached[-1]
    )

    def draw() -> list[int]:
        drawn = janus.draw("a red house", negative_prompt="grey", seed=5, options=DrawOptions())
        found: list[int] = drawn.tokens.grid.flatten().tolist()
        return found

    by_kernels = draw()
    monkeypatch.setattr(kernels, "passes", lambda what, device, trial: False)
    for cache in CACHES:
        cache.cache_clear()
    assert draw() == by_kernels
    assert reached == [0] * (janus.config.num_image_tokens - 1)  # one graph serves them all


def test_kernels_write_the_answers_of_plain_operators(
    janus: Janus, trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows share their first words, so that padding stands in the middle, and one leaves before the other."""
    questions = ["What is this?", "How many of them are there?"]
    turns = [[Turn(role="user", text=text)] for text in questions]
    options = TextOptions(max_new_tokens=5, temperature=1.0)

    def answer() -> list[tuple[int, ...]]:
        return [found.token_ids for found in janus.answer(turns, options=options, seed=3)]

    by_kernels = answer()
    monkeypatch.setattr(kernels, "passes", lambda what, device, trial: False)
    for cache in CACHES:
        cache.cache_clear()
    assert answer() == by_kernels
