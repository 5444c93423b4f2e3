from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from janus_core import DrawOptions, SamplingError, TextOptions
from janus_core.options import CFG_WEIGHT

INTERVALS = {
    (TextOptions, "max_new_tokens"): ("1", "4096"),
    (TextOptions, "temperature"): ("0", "2"),
    (TextOptions, "top_k"): ("0", "1000000"),
    (TextOptions, "top_p"): ("1e-06", "1"),
    (TextOptions, "min_p"): ("0", "1"),
    (TextOptions, "repetition_penalty"): ("0.1", "10"),
    (DrawOptions, "cfg_weight"): ("0", "100"),
    (DrawOptions, "temperature"): ("0", "2"),
    (DrawOptions, "top_k"): ("0", "1000000"),
    (DrawOptions, "top_p"): ("1e-06", "1"),
}
WHOLE = [key for key in INTERVALS if key[1] in ("max_new_tokens", "top_k")]
each_option = pytest.mark.parametrize(("kind", "name"), INTERVALS)


def refusal(kind: type[Any], name: str, value: object) -> str:
    with pytest.raises(SamplingError) as caught:
        kind(**{name: value})
    return str(caught.value)


@pytest.mark.parametrize("kind", [TextOptions, DrawOptions])
def test_every_number_has_its_interval_tested(kind: type[Any]) -> None:
    numbers = {name for name, value in vars(kind()).items() if isinstance(value, int | float | None)}
    assert {name for other, name in INTERVALS if other is kind} == numbers


@each_option
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 1e7, "1", True])
def test_an_impossible_value_names_itself_and_the_interval(kind: type[Any], name: str, value: object) -> None:
    low, high = INTERVALS[kind, name]
    message = refusal(kind, name, value)
    assert message.startswith(f"{name} is {value!r}; it must be ")
    assert message.endswith(f"between {low} and {high}.")


@pytest.mark.parametrize(("kind", "name"), [key for key in INTERVALS if key[1] != "cfg_weight"])
def test_nothing_but_guidance_may_be_left_open(kind: type[Any], name: str) -> None:
    assert refusal(kind, name, None).startswith(f"{name} is None; it must be ")


@each_option
def test_numbers_of_numpy_are_numbers(kind: type[Any], name: str) -> None:
    number = np.int64(1) if (kind, name) in WHOLE else np.float32(1)
    assert getattr(kind(**{name: number}), name) == 1


@each_option
def test_both_ends_of_an_interval_are_allowed(kind: type[Any], name: str) -> None:
    number = int if (kind, name) in WHOLE else float
    for end in INTERVALS[kind, name]:
        assert getattr(kind(**{name: number(end)}), name) == number(end)


@each_option
def test_a_step_beyond_an_end_is_refused(kind: type[Any], name: str) -> None:
    low, high = (float(end) for end in INTERVALS[kind, name])
    step = 1 if (kind, name) in WHOLE else 1e-7
    number = int if (kind, name) in WHOLE else float
    for value in (number(low - step), number(high + step)):
        assert "between" in refusal(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), WHOLE)
def test_a_fraction_is_refused_where_tokens_are_counted(kind: type[Any], name: str) -> None:
    assert refusal(kind, name, 2.5).startswith(f"{name} is 2.5; it must be a whole number")


@pytest.mark.parametrize("stop", ["END", ("",), ("END", ""), (3,)])
def test_a_stop_that_is_no_list_of_texts_is_refused(stop: object) -> None:
    message = re.escape(f"stop is {stop!r}; it must be a list of texts")
    with pytest.raises(SamplingError, match=message):
        TextOptions(stop=stop)  # type: ignore[arg-type]


def test_text_is_greedy_by_default() -> None:
    assert TextOptions().temperature == 0


def test_drawing_follows_the_reference_by_default() -> None:
    assert DrawOptions() == DrawOptions(cfg_weight=None, temperature=1.0, top_k=0, top_p=1.0)
    assert CFG_WEIGHT == 5


def test_guidance_left_open_is_the_recommended_one() -> None:
    assert DrawOptions().cfg_weight_or(3.0) == 3
    assert DrawOptions(cfg_weight=0.0).cfg_weight_or(3.0) == 0
