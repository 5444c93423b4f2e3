"""Which model a command uses, and how it is loaded."""

from __future__ import annotations

from argparse import Namespace

from .. import loading
from ..checkpoints.folders import bundled_models, resolve_model
from ..errors import CheckpointError
from ..janus import Janus
from ..janus_flow import JanusFlow

_DEFAULT = "janus-shapes"


def chosen_model(arguments: Namespace) -> str:
    """Return --model, or the model that ships with us.

    Raises:
        CheckpointError: none was given and ours is not there.
    """
    if arguments.model is not None:
        return str(arguments.model)
    if _DEFAULT not in bundled_models():
        raise CheckpointError(
            f"The default model {_DEFAULT} is missing from this installation. Install the package again, or "
            "give a model folder: --model path/to/Janus-Pro-1B."
        )
    return _DEFAULT


def model_name(arguments: Namespace) -> str:
    """Return the chosen model's name, which is that of its folder."""
    return resolve_model(chosen_model(arguments)).resolve().name


def load(arguments: Namespace) -> Janus | JanusFlow:
    """Load the chosen model as --dtype and --device say."""
    return loading.load_janus(chosen_model(arguments), dtype=arguments.dtype, device=arguments.device)


def load_autoregressive(arguments: Namespace) -> Janus:
    """Load the chosen model for a command that works with image tokens."""
    return loading.load_autoregressive(
        chosen_model(arguments), dtype=arguments.dtype, device=arguments.device
    )
