"""What a drawing or an answer holds is gone when it ends: without waiting for the collector of cycles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from janus_core import DrawOptions, Janus, SamplingError, TextOptions, Turn
from janus_core.generation import static_decoder
from janus_core.generation.drawing import DrawingStep
from janus_core.generation.writing import AnsweringStep
from janus_core.model.kv_cache import KVCache


class CancelError(Exception):
    """Stands in for a host's Cancel."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(params=["streamed", "static"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "static":
        monkeypatch.setattr(static_decoder, "may_capture", lambda model, compute: True)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[object]]:
    """Return weak references to every cache and every step made from now on."""
    found: list[weakref.ref[object]] = []
    for kind in (KVCache, AnsweringStep, DrawingStep):
        begin = kind.__init__

        def noted(self: object, *args: object, _begin: Callable[..., None] = begin, **kwargs: object) -> None:
            found.append(weakref.ref(self))
            _begin(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__init__", noted)
    return found


def cancel(done: int, total: int) -> None:
    if done == 3:
        raise CancelError


def fail(done: int, total: int) -> None:
    if done == 3:
        raise SamplingError("a mistake")


OPTIONS = TextOptions(max_new_tokens=20, temperature=1.0, repetition_penalty=1.2)


@pytest.mark.parametrize("on_step", [None, cancel, fail], ids=["success", "cancel", "error"])
def test_nothing_of_a_drawing_stays(
    janus: Janus, made: list[weakref.ref[object]], on_step: Callable[[int, int], None] | None
) -> None:
    with suppress(CancelError, SamplingError):
        janus.draw("a cat", num_images=2, options=DrawOptions(), on_step=on_step)
    assert len(made) >= 2
    assert [ref for ref in made if ref() is not None] == []


@pytest.mark.parametrize("on_step", [None, cancel, fail], ids=["success", "cancel", "error"])
def test_nothing_of_an_answer_stays(
    janus: Janus, made: list[weakref.ref[object]], on_step: Callable[[int, int], None] | None
) -> None:
    turns = [[Turn(role="user", text=text)] for text in ("Who?", "Where?", "Why?")]
    with suppress(CancelError, SamplingError):
        janus.answer(turns, options=OPTIONS, on_step=on_step)
    assert len(made) >= 2
    assert [ref for ref in made if ref() is not None] == []
