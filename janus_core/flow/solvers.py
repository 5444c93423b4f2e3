"""From noise to latents: steps along a velocity field from time 0 to 1. Knows nothing of models.

Sources: Liu et al. 2023 (arXiv:2209.03003); the midpoint rule and Heun's method as in any book on ordinary
differential equations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from ..errors import SamplingError

Solver = Literal["euler", "midpoint", "heun"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)

Velocity = Callable[[Tensor, float], Tensor]
Step = Callable[[Velocity, Tensor, float, float], Tensor]


def _euler(velocity: Velocity, x: Tensor, t: float, size: float) -> Tensor:
    return x + velocity(x, t) * size


def _midpoint(velocity: Velocity, x: Tensor, t: float, size: float) -> Tensor:
    half = size / 2  # in time
    return x + velocity(x + velocity(x, t) * half, t + half) * size


def _heun(velocity: Velocity, x: Tensor, t: float, size: float) -> Tensor:
    """Average the slopes at both ends; the last step is Euler's, since no network has learned time 1."""
    first = velocity(x, t)
    if t + size > 1 - size / 2:
        return x + first * size
    second = velocity(x + first * size, t + size)  # where Euler would end
    return x + (first + second) * (size / 2)


_STEPS: dict[Solver, Step] = {"euler": _euler, "midpoint": _midpoint, "heun": _heun}


def evaluations(solver: Solver, steps: int) -> int:
    """Return how often a solver asks for the velocity."""
    return {"euler": steps, "midpoint": 2 * steps, "heun": 2 * steps - 1}[solver]


def integrate(
    velocity: Velocity,
    noise: Tensor,
    *,
    steps: int,
    solver: Solver = "euler",
    on_latents: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Follow a velocity from time 0 to 1 in equal steps.

    Args:
        velocity: of latents (b, c, h, w) at a time in 0..1.
        noise: (b, c, h, w), where it begins.
        steps: at least 1.
        solver: euler is the reference; midpoint and heun ask twice a step, and err less in as many steps.
        on_latents: receives (steps done, latents) after each step; may raise to interrupt.

    Returns: (b, c, h, w) at time 1.

    Raises:
        SamplingError: there is no such solver.
    """
    if solver not in _STEPS:
        raise SamplingError(f'There is no solver "{solver}". Choose one of {", ".join(SOLVERS)}.')
    x = noise
    for step in range(steps):
        x = _STEPS[solver](velocity, x, step / steps, 1 / steps)  # not summed up: no error in t
        if on_latents is not None:
            on_latents(step + 1, x)
    return x
