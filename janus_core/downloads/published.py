"""The published models by name: where they come from, how large they are, which of their files are wanted.

Imports nothing heavy and asks nobody: a combo may list these names as often as it likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import DownloadError

_SHARD = re.compile(r"(?P<stem>model|pytorch_model)-\d{5}-of-(?P<total>\d{5})\.(?:safetensors|bin)")
_CONFIGURATION = ("generation_config.json", "preprocessor_config.json", "processor_config.json")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")  # the better format first


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A model that can be downloaded by its name.

    Attributes:
        name: of the model, and of its folder.
        repositories: on the hub, the preferred one first.
        size_gb: of a download, in 10^9 bytes.
    """

    name: str
    repositories: tuple[str, ...]
    size_gb: float


# The authors publish the Pro models as pickles only; the transformers team has them as safetensors.
PUBLISHED = {
    model.name: model
    for model in (
        PublishedModel(
            name="Janus-Pro-1B",
            repositories=("deepseek-community/Janus-Pro-1B", "deepseek-ai/Janus-Pro-1B"),
            size_gb=4.2,
        ),
        PublishedModel(
            name="Janus-Pro-7B",
            repositories=("deepseek-community/Janus-Pro-7B", "deepseek-ai/Janus-Pro-7B"),
            size_gb=14.8,
        ),
        PublishedModel(name="Janus-1.3B", repositories=("deepseek-ai/Janus-1.3B",), size_gb=4.2),
        PublishedModel(name="JanusFlow-1.3B", repositories=("deepseek-ai/JanusFlow-1.3B",), size_gb=4.1),
    )
}


def published_model(name: str) -> PublishedModel:
    """Return the published model of a name.

    Raises:
        DownloadError: there is none of that name.
    """
    if name not in PUBLISHED:
        raise DownloadError(f'No published model is called "{name}". There are {", ".join(PUBLISHED)}.')
    return PUBLISHED[name]


def wanted_files(offered: Iterable[str], repository: str) -> tuple[str, ...]:
    """Choose from a repository's files those that a model needs: weights, configuration, tokenizer; no code.

    The order is that of fetching: `config.json`, which makes a folder a model folder, comes last.

    Raises:
        DownloadError: weights, `config.json` or the tokenizer are not among them.
    """
    names = set(offered)
    weights = _weights(names)
    for what, is_there in (
        ("weights", bool(weights)),
        ("config.json", "config.json" in names),
        ("tokenizer.json", "tokenizer.json" in names),
    ):
        if not is_there:
            raise DownloadError(
                f'The repository "{repository}" has no {what}: it is no Janus model, or its files have '
                "moved. Look at its page."
            )
    small = [name for name in (*_TOKENIZER, *_CONFIGURATION) if name in names]
    return (*small, *weights, "config.json")


def _weights(names: set[str]) -> tuple[str, ...]:
    """Return the weight files of one format, safetensors before pickles, a single file before shards."""
    for single in _SINGLE:
        if single in names:
            return (single,)
        stem, _, suffix = single.partition(".")
        shards = sorted(name for name in names if name.endswith(suffix) and is_shard(name, stem))
        index = f"{single}.index.json"
        if shards and index in names:
            return (index, *shards)
    return ()


def is_shard(name: str, stem: str) -> bool:
    """Tell whether a file's name is that of a numbered part of `stem`."""
    found = _SHARD.fullmatch(name)
    return found is not None and found["stem"] == stem


def is_fixed(name: str) -> bool:
    """Tell whether a file is one that people never edit, so that another size means damage."""
    return name.endswith((".safetensors", ".bin", ".index.json")) or name == "tokenizer.json"
