"""Figures that a stage must reach on its way, measured on what is being trained; else the run stops early.

A recipe names them with a step and a least per cent; going on below it would cost hours and mend nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from janus_core.errors import ConfigError, JanusError
from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values
from janus_core.inputs.text_tokenizer import TextTokenizer
from janus_core.janus import Janus
from janus_core.model.model import JanusModel
from janus_core.options import Compute, DrawOptions

from .measuring import (
    is_token_exact,
    measure_answers,
    measure_drawings,
    measure_restoring,
    recognised_grids,
    role_grids,
    unseen_scenes,
    wishes,
)
from .recipe import Gate, Recipe
from .world.compositions import Combination
from .world.patch_labels import CLASSES, patch_labels
from .world.questions import QUESTION_KINDS
from .world.sights import sight
from .world.vocabulary import KINDS, Kind

_SCENES = 96
# not greedily: where a place is left open, ground is the likeliest token in every single cell
_DRAWN_WITH = DrawOptions(cfg_weight=2.0, min_p=0.1)
_NEW_FROM = 800_000_000  # numbers that no stage reaches
_SEEN: dict[str, tuple[int, ...]] = {"colour": (0,), "shape": (1,), "size": (2,), "place": (4, 5)}
_SKETCHED: dict[str, tuple[Kind, Combination]] = {
    "singles": ("single", "place"),
    "pairs": ("pair", "relation"),
}


class MissedGateError(JanusError):
    """A stage did not reach a figure that its recipe asks for."""


def check_gate(gate: Gate, percent: float, stage: str) -> None:
    """Raise MissedGateError where a measured figure is below its gate."""
    if percent < gate.least:
        raise MissedGateError(
            f'Stage "{stage}" has {percent:.1f} % of "{gate.figure}" after {gate.step} steps; its recipe '
            f"asks for {gate.least:g} %. Change the recipe (more steps, another rate) and train into a "
            "new folder, or lower the gate to go on."
        )


def measure_figure(figure: str, model: JanusModel, naming: nn.Linear, tokenizer: TextTokenizer) -> float:
    """Measure one figure of a model under training, in per cent.

    Args:
        figure: "restored singles", "recognised pairs", "drawn singles" and the like, "seen place" and the
            like, or a kind of question.
        model: as far as it has come.
        naming: see `VisionTask`.
        tokenizer: of its words.
    """
    verb, _, what = figure.partition(" ")
    if verb == "seen":
        return _seen(model, naming, what)
    device = next(model.parameters()).device
    janus = Janus(
        model=model,
        tokenizer=tokenizer,
        codebook="in training",
        compute=Compute(device=device, dtype=torch.float32),
        vq_dtype=torch.float32,
    )
    return _MEASURES[verb](janus, what) if verb in _MEASURES else _answered(janus, figure)


def check_figures(recipe: Recipe) -> None:
    """Raise ConfigError where a gate asks for a figure that nobody measures, before the hours of training."""
    for stage in recipe.stages:
        for gate in stage.gates:
            if not is_figure(gate.figure):
                raise ConfigError(
                    f'The recipe "{recipe.name}" has a gate for "{gate.figure}" in stage {stage.stage}, '
                    'which is no figure that is measured. Use one of another recipe, such as "drawn singles".'
                )


def is_figure(name: str) -> bool:
    """Tell whether there is a figure of this name."""
    verb, _, what = name.partition(" ")
    return (
        (verb in _MEASURES and what in _SKETCHED)
        or (verb == "seen" and what in _SEEN)
        or name in (*QUESTION_KINDS, "which")
    )


@torch.no_grad()
def _seen(model: JanusModel, naming: nn.Linear, what: str) -> float:
    """Read what patches show from what the decoder is given, by one linear layer."""
    size_px = model.config.vision.image_size
    sights = [sight(_NEW_FROM + number, size_px) for number in range(_SCENES)]
    pixels = torch.stack(
        [to_pixel_values(read_picture(one.picture), model.config.preprocess) for one in sights]
    )
    labels = np.stack([patch_labels(one.scene, size_px, one.has_named_ground) for one in sights])
    device = next(model.parameters()).device
    named = naming(model.seeing(pixels.to(device))).cpu().split(CLASSES, dim=-1)
    true = torch.from_numpy(labels)
    same = torch.stack([named[column].argmax(-1) == true[..., column] for column in _SEEN[what]]).all(dim=0)
    counted = true[..., 0] > 0 if what != "place" else torch.ones_like(same)
    return _percent(same[counted].tolist())


def _restored(janus: Janus, what: str) -> float:
    kind, combination = _SKETCHED[what]
    scenes = unseen_scenes(_SCENES, (kind,), combination)
    judged = measure_restoring(janus, scenes, role_grids(scenes))[1]
    return _percent([one.is_right for one in judged])


def _recognised(janus: Janus, what: str) -> float:
    kind, combination = _SKETCHED[what]
    scenes = unseen_scenes(_SCENES, (kind,), combination)
    same = recognised_grids(janus, scenes) == role_grids(scenes)
    return _percent(same.flatten(1).all(dim=1).tolist())


def _drawn(janus: Janus, what: str) -> float:
    """Count drawings whose image tokens are right, so that nothing hangs on the VQ tokenizer."""
    kind, combination = _SKETCHED[what]
    wished = wishes(unseen_scenes(_SCENES, (kind,), combination), combination)
    sketches = measure_drawings(janus, wished, _DRAWN_WITH)
    return _percent([is_token_exact(sketch.grid, sketch.wish.facts) for sketch in sketches])


def _answered(janus: Janus, kind: str) -> float:
    answers = measure_answers(janus, unseen_scenes(_SCENES, KINDS), "test")
    return _percent([one.is_right for one in answers if one.kind == kind])


_MEASURES: dict[str, Callable[[Janus, str], float]] = {
    "restored": _restored,
    "recognised": _recognised,
    "drawn": _drawn,
}


def _percent(verdicts: list[bool]) -> float:
    return 100 * sum(verdicts) / max(len(verdicts), 1)
