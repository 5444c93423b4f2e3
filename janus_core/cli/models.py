"""Which model a command uses, and how it is loaded."""

from __future__ import annotations

from argparse import Namespace

from ..checkpoints.folders import resolve_model
from ..janus import Janus
from ..loading import load_janus

_DEFAULT = "janus-shapes"


def chosen_model(arguments: Namespace) -> str:
    """Return --model, or the model that ships with us."""
    return _DEFAULT if arguments.model is None else str(arguments.model)


def model_name(arguments: Namespace) -> str:
    """Return the chosen model's name, which is that of its folder."""
    return resolve_model(chosen_model(arguments)).resolve().name


def load(arguments: Namespace) -> Janus:
    """Load the chosen model as --dtype and --device say."""
    return load_janus(chosen_model(arguments), dtype=arguments.dtype, device=arguments.device)
