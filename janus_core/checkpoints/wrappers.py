"""Strip what training tools put round a model's tensors: prefixes of names, outer dictionaries.

Knows nothing of layouts: the caller says which names are wanted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor

# What data parallelism, compilation, sharding, adapters and transformers put into names.
_WRAPPERS = (
    "model", "module", "base_model", "base_layer", "_orig_mod", "_forward_module", "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
)  # fmt: skip
# Under which keys a training tool keeps the table of tensors inside a file.
_TABLES = ("state_dict", "model_state_dict", "model", "module", "weights")
_ADAPTER = re.compile(r"(^|\.)(lora_\w+|hada_\w+|lokr_\w+|ia3_\w+|modules_to_save|dora_scale|alpha)(\.|$)")


def is_of_an_adapter(name: str) -> bool:
    """Tell whether a tensor belongs to an adapter that was not merged."""
    return _ADAPTER.search(name) is not None


def fit_names(names: Iterable[str], wanted: Collection[str]) -> dict[str, str]:
    """Map names of a file to wanted ones: as they are, without a common prefix, or without wrappers' words.

    A name that fits in no way is kept.
    """
    names, bare = list(names), {bare_name(name): name for name in wanted}
    prefix = _prefix(names, wanted)

    def fitted(name: str) -> str:
        short = name.removeprefix(prefix)
        return name if name in wanted else short if short in wanted else bare.get(bare_name(short), name)

    return {name: fitted(name) for name in names}


def _prefix(names: Iterable[str], wanted: Collection[str]) -> str:
    """Return the prefix that most names have in front of a wanted one, often none."""
    prefixes: Counter[str] = Counter()
    for name in names:
        starts = (0, *(dot.end() for dot in re.finditer(r"\.", name)))  # a prefix ends at a dot
        prefixes.update(name[:start] for start in starts if name[start:] in wanted)
    # of equally frequent ones the shortest
    return max(prefixes, key=lambda prefix: (prefixes[prefix], -len(prefix)), default="")


def bare_name(name: str) -> str:
    """Return a name without the words that wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def find_table(content: Any) -> dict[str, Tensor] | None:
    """Return the table of named tensors that a pickle is or holds one level down; None without one."""
    if not isinstance(content, dict):
        return None
    inner = (content[key] for key in _TABLES if isinstance(content.get(key), dict))
    return next((table for table in (content, *inner) if _is_table(table)), None)


def is_training_state(content: Any) -> bool:
    """Tell whether a pickle holds an optimiser's state."""
    return isinstance(content, dict) and ("param_groups" in content or "optimizer_state_dict" in content)


def _is_table(content: dict[Any, Any]) -> bool:
    return bool(content) and all(
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.device.type == "cpu"
        and str(tensor.layout) == "torch.strided"
        for name, tensor in content.items()
    )
