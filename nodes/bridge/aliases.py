"""Names by which other packs and the hub call a model: a repository, a path, or a word for the only choice.

An alias means a model that is in the list. Only the name of a published repository asks for a download, as
choosing the model does. Of a path the last name counts, if it is a published model's and that is installed: a
path means files that are there already, and no path leads anywhere else.
"""

import re

from ...janus_core import PUBLISHED, CheckpointError
from .folders import installed_models, model_choices, model_folder

# Of a pack that loads Janus-Pro-7B from the shared folder itself, and calls it so.
_ONLY_CHOICE = "base"
_ONLY_MODELS = ("Janus-Pro", "Janus-Pro-7B")


def repository_names() -> dict[str, str]:
    """Return the models that are published, by the names of their repositories."""
    return {repository: model.name for model in PUBLISHED.values() for repository in model.repositories}


def known_aliases() -> dict[str, str]:
    """Return what other packs offer in their lists, with the model of ours that is meant."""
    installed = installed_models()
    only = next((name for name in _ONLY_MODELS if name in installed), _ONLY_MODELS[-1])
    return {**repository_names(), _ONLY_CHOICE: only}


def model_name(name: str) -> str:
    """Return the name in our list that is meant; one that means nothing comes back as it is."""
    if not isinstance(name, str) or name in model_choices():
        return name
    if name in known_aliases():
        return known_aliases()[name]
    last = re.split(r"[\\/]", name.strip().rstrip("\\/"))[-1]
    return last if last in PUBLISHED and last in installed_models() else name


def check_model(name: str | None) -> bool | str:
    """Tell whether a name can be loaded, or say why not; of one that comes from a link nothing is known."""
    if name is None or model_name(name) in model_choices():
        return True
    try:
        model_folder(model_name(name))
    except CheckpointError as error:
        return str(error)
    return True
