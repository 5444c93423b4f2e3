"""Where a training run stands, on disk and back, so that a killed run goes on as if nothing had happened.

Samples are pure functions of the step, so weights, optimiser moments and two counters are the whole state. A
save is complete or absent: files are written beside the old ones and swapped by renaming. None is larger than
15 MB, so that a state can travel where larger files cannot.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from janus_core.errors import CheckpointError, OutputError

from .optimiser import Optimiser
from .recipe import Recipe, parse_recipe

LOG = "log.jsonl"
_FOLDER = "state"
_MOST_BYTES = 15_000_000  # of one file


@dataclass
class Position:
    """The stage being trained, how many of its steps are done and how many of its gates are passed."""

    stage: int = 0
    step: int = 0
    gates: int = 0


def save_state(
    run: Path, recipe: Recipe, position: Position, modules: nn.ModuleDict, optimiser: Optimiser
) -> None:
    """Write the state of a run.

    Args:
        run: the run's folder.
        recipe: kept beside the state, to refuse another one on resuming.
        position: where the run stands.
        modules: everything that learns, now or in another stage.
        optimiser: of the current stage.

    Raises:
        OutputError: the folder cannot be written.
    """
    fresh = run / f"{_FOLDER}.new"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in modules.state_dict().items()}
        files = {
            "weights": _save(weights, fresh, "weights"),
            "optimiser": _save(_moments(optimiser), fresh, "optimiser"),
        }
        log_bytes = (run / LOG).stat().st_size if (run / LOG).exists() else 0
        content = {
            "stage": position.stage,
            "step": position.step,
            "gates": position.gates,
            "log_bytes": log_bytes,
            "files": files,
            "recipe": recipe.to_json(),
        }
        (fresh / "position.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        _swap_in(fresh, run)
    except OSError as error:
        raise OutputError(
            f'Cannot save the training state in "{run}": {error}. Free space or choose another folder.'
        ) from error


def _swap_in(fresh: Path, run: Path) -> None:
    """Put a complete state in the place of the old one; at no moment is there none to be found."""
    state, old = run / _FOLDER, run / f"{_FOLDER}.old"
    if state.exists():  # else a kill hit the last swap, and the old one is the only one
        shutil.rmtree(old, ignore_errors=True)
        state.rename(old)
    fresh.rename(state)
    shutil.rmtree(old, ignore_errors=True)


def read_position(run: Path, recipe: Recipe) -> Position | None:
    """Return where a run stands, or None where it has not begun.

    Raises:
        CheckpointError: the state is damaged or belongs to another recipe.
    """
    folder = _existing(run)
    if folder is None:
        return None
    try:
        content: dict[str, Any] = json.loads((folder / "position.json").read_text(encoding="utf-8"))
        found, position = parse_recipe(content["recipe"]), Position()
        position.stage, position.step = int(content["stage"]), int(content["step"])
        position.gates = int(content.get("gates", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f'The training state in "{folder}" is damaged: {error}. Delete it to start again.'
        ) from error
    if not _agree(found, recipe, position.stage):
        raise CheckpointError(
            f'The training state in "{folder}" belongs to another recipe. Train into another folder, or '
            "delete the state to start again."
        )
    return position


def _agree(found: Recipe, wanted: Recipe, stage: int) -> bool:
    """Tell whether two recipes are the same as far as a run has come.

    Later stages may still be changed, and gates always: they decide nothing but whether to go on.
    """
    same = found.seed == wanted.seed and found.model == wanted.model
    so_far = [[replace(each, gates=()) for each in recipe.stages[: stage + 1]] for recipe in (found, wanted)]
    return same and so_far[0] == so_far[1]


def cut_log(run: Path) -> None:
    """Drop what a killed run has logged since its last save; those steps are taken again."""
    folder = _existing(run)
    if not (run / LOG).exists():
        return
    content = (
        {"log_bytes": 0} if folder is None else json.loads((folder / "position.json").read_text("utf-8"))
    )
    with (run / LOG).open("r+b") as file:
        file.truncate(min(content.get("log_bytes", math.inf), (run / LOG).stat().st_size))


def load_weights(run: Path, modules: nn.ModuleDict) -> None:
    """Put a run's weights into `modules`.

    Raises:
        CheckpointError: the file is damaged.
    """
    folder = _existing(run)
    if folder is not None:
        try:
            modules.load_state_dict(_read(folder, "weights"))
        except RuntimeError as error:
            raise CheckpointError(
                f'The weights in "{folder}" are not those of this model: {error}. Delete the state to start '
                "again."
            ) from error


@torch.no_grad()
def load_moments(run: Path, optimiser: Optimiser) -> None:
    """Put a run's optimiser moments into the optimiser of its current stage."""
    folder = _existing(run)
    if folder is None:
        return
    saved = _read(folder, "optimiser")
    for index, parameter in enumerate(optimiser.parameters):
        prefix = f"{index}."
        moments = {name[len(prefix) :]: t for name, t in saved.items() if name.startswith(prefix)}
        if moments:
            # laid out in memory as the weights are, so that arithmetic goes on in the same order
            laid_out = {
                name: tensor if name == "step" else torch.empty_like(parameter).copy_(tensor)
                for name, tensor in moments.items()
            }
            optimiser.set_moments(parameter, laid_out)


def _save(tensors: dict[str, Tensor], folder: Path, name: str) -> int:
    """Write tensors to as many files as it takes, and return how many."""
    files: list[dict[str, Tensor]] = [{}]
    room = _MOST_BYTES
    for key, tensor in tensors.items():
        if files[-1] and tensor.nbytes > room:
            files.append({})
            room = _MOST_BYTES
        files[-1][key] = tensor
        room -= tensor.nbytes
    for index, part in enumerate(files):
        save_file(part, folder / f"{name}-{index}.safetensors")
    return len(files)


def _read(folder: Path, name: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    try:
        content = json.loads((folder / "position.json").read_text(encoding="utf-8"))
        for index in range(content["files"][name]):
            tensors |= load_file(folder / f"{name}-{index}.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f'The training state in "{folder}" is damaged: {error}. Delete it to start again.'
        ) from error
    return tensors


def _existing(run: Path) -> Path | None:
    """Return the newest complete state: the swapped-in one, or the old one where a kill hit the swap."""
    for name in (_FOLDER, f"{_FOLDER}.old"):
        if (run / name / "position.json").is_file():
            return run / name
    return None


def _moments(optimiser: Optimiser) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().clone().contiguous()
        for index, parameter in enumerate(optimiser.parameters)
        for name, value in optimiser.moments(parameter).items()
    }
