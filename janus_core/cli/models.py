"""Which model a command uses, and how it is loaded."""

from __future__ import annotations

from argparse import Namespace

from ..checkpoints.folders import bundled_models, is_janusflow_folder, resolve_model
from ..errors import CheckpointError
from ..janus import Janus
from ..janus_flow import JanusFlow
from ..loading import load_janus

_DEFAULT = "janus-shapes"


def chosen_model(arguments: Namespace) -> str:
    """Return --model, or the bundled model.

    Raises:
        CheckpointError: no model was given and the bundled one is missing.
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
    """Return the name of the chosen model's folder."""
    return resolve_model(chosen_model(arguments)).resolve().name


def is_flow(arguments: Namespace) -> bool:
    """Tell whether the chosen model is a JanusFlow, which draws by rectified flow."""
    return is_janusflow_folder(resolve_model(chosen_model(arguments)))


def load(arguments: Namespace) -> Janus | JanusFlow:
    """Load the chosen model as --dtype and --device say."""
    return load_janus(chosen_model(arguments), dtype=arguments.dtype, device=arguments.device)


def load_autoregressive(arguments: Namespace) -> Janus:
    """Load the chosen model for what works with image tokens.

    Raises:
        CheckpointError: it is a JanusFlow, which has none.
    """
    if is_flow(arguments):
        raise CheckpointError(
            f'"{chosen_model(arguments)}" is a JanusFlow model, which draws latents and has no image tokens. '
            "Choose an autoregressive Janus, for example Janus-Pro-1B."
        )
    loaded = load(arguments)
    assert isinstance(loaded, Janus)
    return loaded
