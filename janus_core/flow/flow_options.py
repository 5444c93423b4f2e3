"""How a JanusFlow model draws, each choice with its range."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import SamplingError
from ..options import MOST_CFG_WEIGHT, check_above_zero, check_whole
from .solvers import SOLVERS, Solver

FLOW_CFG_WEIGHT = 2.0  # the authors' guidance
MOST_STEPS = 1000  # as many as the network tells apart


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How pictures are drawn by flow.

    Attributes:
        steps: 1 … 1000, of equal length from noise to picture.
        solver: euler is the reference; midpoint and heun take twice the time for as many steps.
        cfg_weight: above 0 … 100, how strongly the prompt guides; 1 is off and twice as fast. None is what
            the model's folder recommends, else the authors' 2.
    """

    steps: int = 30
    solver: Solver = "euler"
    cfg_weight: float | None = None

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1, MOST_STEPS)
        if self.solver not in SOLVERS:
            raise SamplingError(f'There is no solver "{self.solver}". Choose one of {", ".join(SOLVERS)}.')
        if self.cfg_weight is not None:
            check_above_zero("cfg_weight", self.cfg_weight, MOST_CFG_WEIGHT)

    @classmethod
    def from_numbers(cls, *, steps: int, solver: str, cfg_weight: float) -> FlowOptions:
        """Return options as widgets and flags write them: a guidance of 0 is what the model recommends."""
        asked = None if cfg_weight == 0 else cfg_weight
        return cls(steps=steps, solver=solver, cfg_weight=asked)  # type: ignore[arg-type]

    def decided(self, recommended: float) -> FlowOptions:
        """Return these options with the recommended guidance where none is asked for."""
        return self if self.cfg_weight is not None else replace(self, cfg_weight=recommended)
