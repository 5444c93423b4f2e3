from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import SamplingError
from janus_core.flow.solvers import SOLVERS, Solver, evaluations, integrate

START = torch.tensor([[[[1.0, -2.0]]]], dtype=torch.float64)


def growth(x: Tensor, t: float) -> Tensor:
    return x * math.cos(t)  # x(1) = x(0) exp(sin 1)


def error(solver: Solver, steps: int) -> float:
    found = integrate(growth, START, steps=steps, solver=solver)
    return float((found - START * math.exp(math.sin(1))).abs().max())


class Recorder:
    """A velocity that is 1 everywhere and writes down when it was asked."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.times.append(t)
        return torch.ones_like(x)


def test_euler_adds_the_velocity_at_the_beginning_of_each_step() -> None:
    found = integrate(torch.full_like, START, steps=4)
    assert_close(found, START + (0 + 0.25 + 0.5 + 0.75) / 4)


def test_euler_never_asks_for_time_1() -> None:
    velocity = Recorder()
    integrate(velocity, START, steps=4)
    assert velocity.times == [0, 0.25, 0.5, 0.75]


def test_midpoint_asks_in_the_middle_of_each_step() -> None:
    velocity = Recorder()
    integrate(velocity, START, steps=2, solver="midpoint")
    assert velocity.times == [0, 0.25, 0.5, 0.75]


def test_heun_asks_at_both_ends_but_never_for_time_1() -> None:
    velocity = Recorder()
    integrate(velocity, START, steps=3, solver="heun")
    assert velocity.times == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_evaluations_are_counted_as_they_happen(solver: Solver, steps: int) -> None:
    velocity = Recorder()
    integrate(velocity, START, steps=steps, solver=solver)
    assert len(velocity.times) == evaluations(solver, steps)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_constant_velocity_is_followed_exactly(solver: Solver) -> None:
    assert_close(integrate(Recorder(), START, steps=3, solver=solver), START + 1)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2)])
def test_twice_the_steps_shrink_the_error_by_the_solvers_order(solver: Solver, order: int) -> None:
    assert error(solver, 40) / error(solver, 80) == pytest.approx(2**order, rel=0.1)


def test_heun_errs_less_than_euler_for_the_same_number_of_evaluations() -> None:
    assert evaluations("heun", 20) < evaluations("euler", 40)
    assert error("heun", 20) < error("euler", 40) / 5


def test_latents_are_reported_after_each_step() -> None:
    seen: list[tuple[int, float]] = []
    integrate(
        Recorder(), START, steps=2, on_latents=lambda done, x: seen.append((done, float(x[0, 0, 0, 0])))
    )
    assert seen == [(1, 1.5), (2, 2.0)]


def test_the_noise_itself_is_not_changed() -> None:
    before = START.clone()
    integrate(growth, START, steps=3, solver="heun")
    assert_close(START, before)


def test_an_unknown_solver_is_refused_by_name() -> None:
    with pytest.raises(SamplingError, match=r'no solver "rk45"\. Choose one of euler, midpoint, heun'):
        integrate(growth, START, steps=3, solver="rk45")  # type: ignore[arg-type]
