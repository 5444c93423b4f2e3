"""Which model a command uses, and how it is loaded."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..adapters.adapter_files import adapter_name, described
from ..checkpoints.folders import bundled_models, is_janusflow_folder, resolve_model
from ..errors import CheckpointError, SamplingError
from ..janus import Janus
from ..janus_flow import JanusFlow
from ..loading import load_janus
from ..options import Lora

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


def drawn_with(arguments: Namespace) -> str:
    """Return the model's name and its adapters, for what pictures carry."""
    loras = [described(adapter_name(lora.path), lora.strength) for lora in chosen_loras(arguments)]
    return " + ".join((model_name(arguments), *loras))


def is_flow(arguments: Namespace) -> bool:
    """Tell whether the chosen model is a JanusFlow, which draws by rectified flow."""
    return is_janusflow_folder(resolve_model(chosen_model(arguments)))


def load(arguments: Namespace) -> Janus | JanusFlow:
    """Load the chosen model as --dtype and --device say."""
    return load_janus(
        chosen_model(arguments),
        dtype=arguments.dtype,
        device=arguments.device,
        loras=chosen_loras(arguments),
    )


def chosen_loras(arguments: Namespace) -> tuple[Lora, ...]:
    """Return the adapters of --lora, each with the strength behind its last colon, else 1.

    Raises:
        SamplingError: a strength is out of its range.
    """
    return tuple(_lora(text) for text in arguments.lora)


def _lora(text: str) -> Lora:
    path, _, number = text.rpartition(":")
    if path and not Path(text).exists():  # a name may hold a colon itself, as C:\\style.safetensors does
        try:
            return Lora(path=path, strength=float(number))
        except ValueError as error:
            if isinstance(error, SamplingError):
                raise
    return Lora(path=text)


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
