"""Which model a command uses, and how it is loaded."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..checkpoints.folders import bundled_models, resolve_model
from ..errors import CheckpointError
from ..janus import Janus
from ..loading import load_janus

_DEFAULT = "janus-shapes"
_TINY = Path(__file__).parents[2] / "tests" / "parity" / "golden" / "janus-tiny-bin"


def has_default() -> bool:
    """Tell whether the default model ships with this version."""
    return _DEFAULT in bundled_models()


def chosen_model(arguments: Namespace) -> str:
    """Return --model, or the default one.

    Raises:
        CheckpointError: none was given and the default is not there.
    """
    if arguments.model is not None:
        return str(arguments.model)
    if not has_default():
        raise _no_default()
    return _DEFAULT


def random_model() -> str:
    """Return the test checkpoint with random weights, which only a checkout has.

    Raises:
        CheckpointError: it is not there.
    """
    if not _TINY.is_dir():
        raise _no_default()
    return str(_TINY)


def model_name(arguments: Namespace) -> str:
    """Return the chosen model's name, which is that of its folder."""
    return resolve_model(chosen_model(arguments)).resolve().name


def load(arguments: Namespace) -> Janus:
    """Load the chosen model as --dtype and --device say."""
    return load_janus(chosen_model(arguments), dtype=arguments.dtype, device=arguments.device)


def _no_default() -> CheckpointError:
    return CheckpointError(
        f"The default model {_DEFAULT} does not ship with this version. Give a model folder: "
        "--model path/to/Janus-Pro-1B."
    )
