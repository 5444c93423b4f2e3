"""Scores that are no numbers: noticed wherever they come from, told with a cure, never text or a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from janus_core import DrawOptions, Janus, SamplingError, TextOptions, Turn
from janus_core.generation import static_decoder
from janus_core.generation.sampling import are_finite, next_tokens

NAN, INF = float("nan"), float("inf")
OPTIONS = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 1.0, "top_p": 1.0},
    "top k": {"temperature": 1.0, "top_k": 3, "top_p": 1.0},
    "top p": {"temperature": 1.0, "top_p": 0.5},
    "min p": {"temperature": 1.0, "top_p": 1.0, "min_p": 0.1},
}


@contextmanager
def broken(module: nn.Module, rows: Sequence[int], value: float, after: int = 0) -> Iterator[None]:
    """Let a head score one entry of some rows as `value`, from its `after`-th call on, until rows leave."""
    calls, whole = 0, 0

    def spoil(_: nn.Module, __: object, logits: Tensor) -> Tensor:
        nonlocal calls, whole
        calls, whole = calls + 1, max(whole, len(logits))
        if calls > after and len(logits) == whole:
            logits = logits.clone()
            logits[list(rows), 3] = value
        return logits

    hook = module.register_forward_hook(spoil)
    try:
        yield
    finally:
        hook.remove()


@pytest.fixture(params=["streamed", "static"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "static":
        monkeypatch.setattr(static_decoder, "may_capture", lambda model, compute: True)
    return str(request.param)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_broken_score_is_the_one_chosen(options: dict[str, float], value: float) -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    logits[1, 7] = value
    chosen = next_tokens(logits, noise=torch.zeros(3, 50), **options)
    assert are_finite(logits, chosen).tolist() == [True, False, True]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_row_without_any_score_is_broken(options: dict[str, float]) -> None:
    logits = torch.full((1, 50), -INF)
    chosen = next_tokens(logits, noise=torch.zeros(1, 50), **options)
    assert are_finite(logits, chosen).tolist() == [False]


@pytest.mark.parametrize("after", [0, 5])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_drawing_with_broken_scores_is_an_error(janus: Janus, way: str, after: int, value: float) -> None:
    with (
        broken(janus.model.language.generation_head, (1,), value, after),
        pytest.raises(SamplingError, match=r"no finite numbers.*damaged") as caught,
    ):
        janus.draw("a cat", num_images=3, options=DrawOptions(cfg_weight=1.0))
    assert caught.value.rows == (1,)


def test_broken_unguided_rows_count_for_their_picture(janus: Janus, way: str) -> None:
    with (
        broken(
            janus.model.language.generation_head, (5,), NAN
        ),  # rows of pictures, then those guided away from
        pytest.raises(SamplingError) as caught,
    ):
        janus.draw("a cat", num_images=3)
    assert caught.value.rows == (2,)


@pytest.mark.parametrize("after", [0, 3, 9])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_with_broken_scores_is_an_error(
    janus: Janus, way: str, after: int, temperature: float
) -> None:
    turns = [[Turn(role="user", text=text)] for text in ("Who?", "Where?", "Why?")]
    options = TextOptions(max_new_tokens=40, temperature=temperature)
    with (
        broken(janus.model.language.language_model.lm_head, (1,), NAN, after),
        pytest.raises(SamplingError, match="Number 2 cannot be made") as caught,
    ):
        janus.answer(turns, options=options)
    assert caught.value.rows == (1,)


def test_several_broken_rows_are_all_named(janus: Janus, way: str) -> None:
    turns = [[Turn(role="user", text=text)] for text in ("Who?", "Where?", "Why?")]
    with (
        broken(janus.model.language.language_model.lm_head, (0, 2), NAN, 2),
        pytest.raises(SamplingError, match="2 of the batch, first number 1") as caught,
    ):
        janus.answer(turns, options=TextOptions(max_new_tokens=6))
    assert caught.value.rows == (0, 2)


def test_nothing_of_a_broken_answer_is_told_to_those_who_watch(janus: Janus) -> None:
    seen: list[str] = []
    with (
        broken(janus.model.language.language_model.lm_head, (0,), NAN),
        pytest.raises(SamplingError),
    ):
        janus.ask("Who?", on_text=lambda row, text: seen.append(text))
    assert seen == []


def test_a_weight_that_is_no_number_is_noticed(make_janus: Callable[[torch.dtype], Janus]) -> None:
    janus = make_janus(torch.float32)
    weight = janus.model.language.language_model.layers[1].mlp.down_proj.weight
    weight.data = weight.clone()
    weight.data[3, 3] = NAN
    with pytest.raises(SamplingError):
        janus.ask("Who?")
    with pytest.raises(SamplingError):
        janus.draw("a cat")


def test_half_precision_is_told_its_cure(make_janus: Callable[[torch.dtype], Janus]) -> None:
    janus = make_janus(torch.float16)
    with (
        broken(janus.model.language.language_model.lm_head, (0,), INF),
        pytest.raises(SamplingError, match=r"in float16 .*Load the model in bfloat16 or float32"),
    ):
        janus.ask("Who?")
