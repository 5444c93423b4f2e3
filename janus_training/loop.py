"""The training loop: stages one after the other, in slices of any length that end in a resumable state.

It knows what a stage learns only as a `Task`: parameters and a loss per step. Progress goes to a callback and
to `log.jsonl`, from which the charts are drawn.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .gates import check_gate
from .optimiser import Optimiser, hidden_matrices
from .recipe import Recipe, StageRecipe
from .state import LOG, Position, cut_log, load_moments, load_weights, read_position, save_state

_LARGEST_GRADIENT = 1.0
_FLOOR = 0.05  # share of the highest learning rate at the end of a stage


class Task(Protocol):
    """What one stage learns."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what learns."""

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return losses of one micro-batch by name, a pure function of `sample` and weights.

        Their sum is minimised.
        """


MakeTask = Callable[[StageRecipe], Task]
Measure = Callable[[str], float]
OnTrainingStep = Callable[[str, int, int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """How long to train now: until either limit, whichever comes first.

    Attributes:
        minutes: wall-clock minutes.
        steps: optimiser steps.
        save_every: steps between saves.
        autocast: compute in bfloat16 where that is safe; weights and moments stay float32.
    """

    minutes: float = math.inf
    steps: float = math.inf
    save_every: int = 200
    autocast: bool = False


def train(
    recipe: Recipe,
    run: Path,
    modules: nn.ModuleDict,
    make_task: MakeTask,
    limit: Slice,
    on_step: OnTrainingStep | None = None,
    measure: Measure | None = None,
) -> bool:
    """Train one slice of a recipe, resuming where the run's folder stands.

    Args:
        recipe: what to train.
        run: folder of state and log.
        modules: everything that learns in any stage, on the device to train on.
        make_task: builds the task of a stage.
        limit: when to stop.
        on_step: receives (stage, steps done, steps, losses).
        measure: figure to per cent, for gates; None leaves gates alone.

    Returns: True when the recipe is finished.

    Raises:
        MissedGateError: a figure is too low; the state is saved, and the same command meets the gate again.
    """
    position = read_position(run, recipe) or Position()
    load_weights(run, modules)
    cut_log(run)
    deadline, left = time.monotonic() + 60 * limit.minutes, limit.steps
    while position.stage < len(recipe.stages):
        stage = recipe.stages[position.stage]
        task = make_task(stage)
        learning = list(task.parameters())
        modules.requires_grad_(False)  # what does not learn now needs no gradient either
        for parameter in learning:
            parameter.requires_grad_(True)
        optimiser = Optimiser(learning, hidden_matrices(modules), stage.weight_decay)
        if position.step:
            load_moments(run, optimiser)
        while True:
            if measure is not None and _is_gate_due(stage, position):
                save_state(run, recipe, position, modules, optimiser)
                _pass_gates(run, stage, position, measure)
            if position.step >= stage.steps:
                break
            if left <= 0 or time.monotonic() > deadline:
                save_state(run, recipe, position, modules, optimiser)
                return False
            losses = take_step(task, optimiser, stage, position.step, limit.autocast)
            position.step, left = position.step + 1, left - 1
            _append(run, {"stage": stage.stage, "step": position.step, "losses": losses})
            if on_step is not None:
                on_step(stage.stage, position.step, stage.steps, losses)
            if position.step % limit.save_every == 0:
                save_state(run, recipe, position, modules, optimiser)
        position = Position(stage=position.stage + 1)
        save_state(run, recipe, position, modules, optimiser)
    return True


def _is_gate_due(stage: StageRecipe, position: Position) -> bool:
    return any(gate.step <= position.step for gate in stage.gates[position.gates :])


def _pass_gates(run: Path, stage: StageRecipe, position: Position, measure: Measure) -> None:
    """Measure and log what gates ask for by now; stop at the first that is missed."""
    while _is_gate_due(stage, position):
        gate = stage.gates[position.gates]
        percent = measure(gate.figure)
        entry = {"stage": stage.stage, "step": position.step, "gate": gate.figure, "percent": percent}
        _append(run, entry)
        check_gate(gate, percent, stage.stage)
        position.gates += 1


def learning_rate(stage: StageRecipe, step: int) -> float:
    """Return the learning rate of a step counted from 0: linear warm-up, a plateau, a cosine at the end."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    falls_from = max(stage.warmup_steps, stage.steps * (1 - stage.decay))
    done = max(step - falls_from, 0.0) / max(stage.steps - falls_from, 1)
    return stage.learning_rate * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def take_step(
    task: Task, optimiser: Optimiser, stage: StageRecipe, step: int, autocast: bool = False
) -> dict[str, float]:
    """Take one optimiser step over all its micro-batches.

    Args:
        task: what is learnt.
        optimiser: of the task's parameters.
        stage: learning rate and micro-batches.
        step: counted from 0.
        autocast: compute in bfloat16 where that is safe.

    Returns: the mean losses by name.
    """
    learning = optimiser.parameters
    optimiser.zero_grad()
    sums: dict[str, float] = {}
    for micro in range(stage.accumulation):
        with torch.autocast(learning[0].device.type, torch.bfloat16, enabled=autocast):
            losses = task.loss(step * stage.accumulation + micro)
        total = torch.stack([loss.float() for loss in losses.values()]).sum() / stage.accumulation
        total.backward()  # type: ignore[no-untyped-call]
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / stage.accumulation
    nn.utils.clip_grad_norm_(learning, _LARGEST_GRADIENT)
    optimiser.step(learning_rate(stage, step))
    return sums


def _append(run: Path, entry: dict[str, Any]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
