"""The text files that go with a model's weights, as a target has them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ..checkpoints.config_writing import write_authors
from ..checkpoints.layout import CheckpointFiles
from ..model.config import JanusConfig
from ..one_file import CONFIG, read_model_text

log = logging.getLogger("janus.converting")

_OF_A_LAYOUT = (CONFIG, "preprocessor_config.json", "processor_config.json")
_OF_ANY = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "world.json")
_LONGEST = 2**21  # characters; the published ones have at most 106,000


def texts_of(files: CheckpointFiles, config: object) -> dict[str, str]:
    """Return the text files of a model by name, without the tokenizer.

    They stay as they are, except those of the transformers layout, which are written as the authors would.

    Args:
        files: of the checkpoint.
        config: parsed from them.
    """
    if files.layout == "transformers" and isinstance(config, JanusConfig):
        written = {
            name: json.dumps(content, indent=2) + "\n" for name, content in write_authors(config).items()
        }
        return written | _existing(files.folder, _OF_ANY)
    return _existing(files.folder, (*_OF_A_LAYOUT, *_OF_ANY))


def _existing(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            text = read_model_text(folder / name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:  # reading the model has taken it for absent, too
            log.warning('Janus: "%s" is left out: %s.', folder / name, error)
            continue
        if len(text) <= _LONGEST:
            found[name] = text
    return found
