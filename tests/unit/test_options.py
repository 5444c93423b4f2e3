from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from janus_core import DrawOptions, Guidance, SamplingError, TextOptions

INTERVALS = {
    (TextOptions, "max_new_tokens"): ("1", "4096"),
    (TextOptions, "temperature"): ("0", "2"),
    (TextOptions, "top_k"): ("0", "1000000"),
    (TextOptions, "top_p"): ("1e-06", "1"),
    (TextOptions, "min_p"): ("0", "1"),
    (TextOptions, "repetition_penalty"): ("0.1", "10"),
    (DrawOptions, "keep_best"): ("0", "1000000"),
    (DrawOptions, "min_p"): ("0", "1"),
    (DrawOptions, "temperature"): ("0", "2"),
    (DrawOptions, "top_k"): ("0", "1000000"),
    (DrawOptions, "top_p"): ("1e-06", "1"),
}
OPEN = (DrawOptions, "cfg_weight"), (DrawOptions, "min_p")  # None is what the model recommends
WHOLE = [key for key in INTERVALS if key[1] in ("max_new_tokens", "top_k", "keep_best")]
each_option = pytest.mark.parametrize(("kind", "name"), INTERVALS)


def refusal(kind: type[Any], name: str, value: object) -> str:
    with pytest.raises(SamplingError) as caught:
        kind(**{name: value})
    return str(caught.value)


@pytest.mark.parametrize("kind", [TextOptions, DrawOptions])
def test_every_number_has_its_interval_tested(kind: type[Any]) -> None:
    numbers = {name for name, value in vars(kind()).items() if isinstance(value, int | float | None)}
    tested = {name for other, name in INTERVALS if other is kind}
    assert tested | ({"cfg_weight"} if kind is DrawOptions else set()) == numbers


@each_option
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 1e7, "1", True])
def test_an_impossible_value_names_itself_and_the_interval(kind: type[Any], name: str, value: object) -> None:
    low, high = INTERVALS[kind, name]
    message = refusal(kind, name, value)
    assert message.startswith(f"{name} is {value!r}; it must be ")
    assert message.endswith(f"between {low} and {high}.")


@pytest.mark.parametrize(("kind", "name"), [key for key in INTERVALS if key not in OPEN])
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
    assert DrawOptions() == DrawOptions(cfg_weight=None, temperature=1.0, top_k=0, top_p=1.0, min_p=None)
    assert Guidance() == Guidance(cfg_weight=5.0, min_p=0.0)


# guidance: the model recommends, the caller overrides

RECOMMENDED = Guidance(cfg_weight=3.0, min_p=0.2)
both_guidances = pytest.mark.parametrize("kind", [DrawOptions, Guidance])


@both_guidances
@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 0, 0.0, 100.1, "1", True])
def test_a_guidance_weight_begins_above_zero(kind: type[Any], value: object) -> None:
    assert refusal(kind, "cfg_weight", value) == (
        f"cfg_weight is {value!r}; it must be above 0 and at most 100."
    )


@both_guidances
@pytest.mark.parametrize("value", [1e-6, 1, np.float32(5), 100])
def test_a_guidance_weight_up_to_100_is_taken(kind: type[Any], value: float) -> None:
    assert kind(cfg_weight=value).cfg_weight == value


def test_what_is_left_open_is_what_the_model_recommends() -> None:
    assert DrawOptions(top_k=4).decided(RECOMMENDED) == DrawOptions(top_k=4, cfg_weight=3, min_p=0.2)
    assert DrawOptions(cfg_weight=7).decided(RECOMMENDED) == DrawOptions(cfg_weight=7, min_p=0.2)
    assert DrawOptions(min_p=0).decided(RECOMMENDED) == DrawOptions(cfg_weight=3, min_p=0)


def test_a_greedy_drawing_drops_nothing() -> None:
    for options in (DrawOptions(temperature=0, min_p=0.5), DrawOptions(temperature=0)):
        assert options.decided(RECOMMENDED).min_p == 0


def test_decided_options_leave_nothing_to_the_model() -> None:
    decided = DrawOptions(top_k=4).decided(RECOMMENDED)
    assert decided.decided(Guidance()) == decided


def from_numbers(**numbers: float) -> DrawOptions:
    rest: dict[str, Any] = {"cfg_weight": 1.0, "min_p": 0.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return DrawOptions.from_numbers(**(rest | numbers))


@pytest.mark.parametrize(("number", "expected"), [(0, None), (0.0, None), (1.0, 1.0), (7.5, 7.5)])
def test_a_form_asks_for_the_recommended_weight_by_zero(number: float, expected: float | None) -> None:
    assert from_numbers(cfg_weight=number).cfg_weight == expected


@pytest.mark.parametrize(("number", "expected"), [(-1, None), (-0.01, None), (0.0, 0.0), (0.1, 0.1)])
def test_a_form_asks_for_the_recommended_min_p_below_zero(number: float, expected: float | None) -> None:
    assert from_numbers(min_p=number).min_p == expected


def test_a_form_s_other_numbers_are_passed_on_and_checked() -> None:
    assert from_numbers(temperature=0.5, top_k=3, top_p=0.9) == DrawOptions(
        cfg_weight=1.0, min_p=0.0, temperature=0.5, top_k=3, top_p=0.9
    )
    for wrong in ({"cfg_weight": -1.0}, {"cfg_weight": math.nan}, {"min_p": math.nan}, {"min_p": 1.1}):
        with pytest.raises(SamplingError):
            from_numbers(**wrong)
