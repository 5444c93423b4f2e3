"""Whatever the nodes hand to the engine: a result, or an error of ours. Hypothesis looks for a third thing.

The examples follow from the tests' own code, so that a run is the same everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from janus_core import (
    DrawOptions,
    ImageTokens,
    JanusError,
    RedrawOptions,
    SamplingError,
    TextOptions,
    caption_request,
    request_for,
)
from janus_core.inputs.masks import read_masks
from janus_core.inputs.pictures import read_picture
from janus_core.janus import Janus

FEW = settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(FEW, max_examples=400)

numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(),
    st.booleans(),
    st.integers(0, 4),
    st.floats(0, 2),
)
anything = st.one_of(numbers, st.none(), st.text(max_size=20), st.binary(max_size=4), st.lists(st.integers()))
texts = st.one_of(
    st.text(max_size=60), st.sampled_from(("<image_placeholder>", "<|User|>", "a " * 400, "\0"))
)
shapes = st.lists(st.integers(0, 9), min_size=0, max_size=5).map(tuple)


class CancelError(Exception):
    """Ends a drawing after its first steps."""


def soon(done: int, total: int) -> None:
    if done >= 2:
        raise CancelError


def check(what: Any) -> None:
    """Run something that may end in a result, in an error of ours, or by its cancel."""
    said = "nothing wrong"
    try:
        what()
    except CancelError:
        pass
    except JanusError as error:
        said = str(error)
    assert 10 < len(said) < 1500


@MANY
@given(st.tuples(anything, anything, anything, anything, anything, anything))
def test_options_are_made_of_numbers_in_their_ranges_or_refused(values: tuple[Any, ...]) -> None:
    names = ("cfg_weight", "temperature", "top_k", "top_p", "min_p", "keep_best")
    made: DrawOptions | None
    about = ""
    given_values = dict(zip(names, values, strict=True))
    try:
        made = DrawOptions.from_numbers(**given_values).decided()
    except SamplingError as error:
        made, about = None, str(error).partition(" is ")[0]
    if made is None:
        assert about in names
        return
    assert made.cfg_weight is not None
    assert 0 < made.cfg_weight <= 100
    assert 0 <= made.temperature <= 2
    assert 0 < made.top_p <= 1
    assert made.min_p is not None
    assert 0 <= made.min_p <= 1
    assert all(math.isfinite(value) for value in (made.cfg_weight, made.temperature, made.top_p, made.min_p))


@FEW
@given(text=texts, system=texts, seed=st.integers(), temperature=numbers, stop=st.lists(texts, max_size=2))
def test_any_question_has_an_answer_or_an_error_of_ours(
    janus: Janus, text: str, system: str, seed: int, temperature: float, stop: list[str]
) -> None:
    picture = torch.zeros(8, 8, 3)

    def ask() -> None:
        options = TextOptions(max_new_tokens=2, temperature=temperature, stop=tuple(stop))
        assert isinstance(janus.ask(text, [picture], system=system, options=options, seed=seed), str)

    check(ask)


@FEW
@given(prompt=texts, negative=texts, seed=st.integers(), count=st.integers(-1, 3), cfg=numbers)
def test_any_prompt_is_drawn_or_an_error_of_ours(
    janus: Janus, prompt: str, negative: str, seed: int, count: int, cfg: float
) -> None:
    def draw() -> None:
        options = DrawOptions(cfg_weight=cfg)
        janus.draw(
            prompt, negative_prompt=negative, seed=seed, num_images=count, options=options, on_step=soon
        )

    check(draw)


@FEW
@given(choices=st.lists(texts, max_size=4), question=texts, temperature=numbers)
def test_any_choices_are_chosen_among_or_refused(
    janus: Janus, choices: list[str], question: str, temperature: float
) -> None:
    def choose() -> None:
        [chosen] = janus.choose([torch.zeros(8, 8, 3)], question, choices, temperature=temperature)
        assert chosen.text == choices[chosen.index].strip()
        assert sum(chosen.probabilities) == pytest.approx(1)

    check(choose)


@MANY
@given(
    shape=shapes,
    value=numbers,
    dtype=st.sampled_from(("float32", "float16", "float64", "uint8", "int64", "bool")),
)
def test_any_array_is_a_picture_or_refused(shape: tuple[int, ...], value: float, dtype: str) -> None:
    with np.errstate(all="ignore"):
        samples = np.full(shape, value if math.isfinite(value) else 0.0, dtype=np.float64)
        if not math.isfinite(value) and samples.size:
            samples.flat[0] = value
        array = samples.clip(-1e30, 1e30).astype(dtype)

    def read() -> None:
        picture = read_picture(array)
        assert (picture.mode, picture.size) == ("RGB", (shape[1], shape[0]))

    check(read)


@FEW
@given(shape=shapes, value=numbers, strength=numbers, candidates=st.integers(-1, 3))
def test_any_mask_is_redrawn_under_or_refused(
    janus: Janus, shape: tuple[int, ...], value: float, strength: float, candidates: int
) -> None:
    mask = torch.full(shape, float(max(-1e30, min(1e30, value))) if math.isfinite(value) else value)

    def redraw() -> None:
        assert all(0 <= float(one.min()) <= float(one.max()) <= 1 for one in read_masks(mask))
        options = RedrawOptions(strength=strength, candidates=candidates)
        janus.redraw([torch.zeros(16, 16, 3)], mask, "x", options=options, on_step=soon)

    check(redraw)


@FEW
@given(shape=shapes, low=st.integers(-3, 2**40), codebook=st.text(max_size=9))
def test_any_tokens_are_decoded_or_refused(
    janus: Janus, shape: tuple[int, ...], low: int, codebook: str
) -> None:
    def decode() -> None:
        own = janus.codebook if len(codebook) > 3 else codebook
        tokens = ImageTokens(grid=torch.full(shape, low), codebook=own)
        assert janus.decode(tokens).shape == (len(tokens), 16, 16, 3)

    check(decode)


@MANY
@given(style=anything, question=texts)
def test_any_style_asks_something_or_is_refused(style: Any, question: str) -> None:
    check(lambda: request_for(style, question))
    check(lambda: caption_request(style, question))
