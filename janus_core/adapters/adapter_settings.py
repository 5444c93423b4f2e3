"""What an adapter's configuration says: its scale, and what would change the arithmetic and is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import CheckpointError, shown
from ..inputs.text_steps import repeats_a_repeat

# Keys of adapter_config.json that change what an adapter computes, by what they are called.
_REFUSED = {
    "use_dora": "weight-decomposed (DoRA)",
    "layer_replication": "one that repeats layers (layer_replication)",
    "target_parameters": "one for raw parameters (target_parameters)",
    "use_qalora": "a QALoRA",
    "use_bdlora": "a BD-LoRA",
    "alora_invocation_tokens": "an activated LoRA (aLoRA)",
    "velora_config": "a VeLoRA",
    "trainable_token_indices": "one for single tokens (trainable_token_indices)",
    "fan_in_fan_out": "one for transposed matrices (fan_in_fan_out)",
}
# Ways to begin that also change the base model, which the file alone does not tell.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
# Parts of a pattern that can take many lengths in a name, and how many of them it may have: each multiplies
# the number of ways to match by the length of a name.
_OPEN_PART = re.compile(r"(?:[.\])]|\\[a-zA-Z])(?:[*+?]|\{)")
_MOST_OPEN = 3
_PEFT_ALPHA = 8.0  # what PEFT takes where its configuration says nothing
_LONGEST_NAME = 120  # characters of a base model's
_MERGE = "Merge it into its base model with the tool that made it (merge_and_unload), and load the result"


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """What decides an adapter's scale.

    Attributes:
        alpha: divided by the rank it is the scale; None where nothing says it.
        alpha_pattern: of single modules, by patterns of their names.
        is_rank_stabilised: alpha is divided by the root of the rank (rsLoRA).
        base: the model that it was trained on, as its configuration names it, or empty.
    """

    alpha: float | None = None
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    is_rank_stabilised: bool = False
    base: str = ""

    def scale_of(self, module: str, rank: int, own_alpha: float | None) -> float:
        """Return the scale of a module's product.

        Args:
            module: its published name, without what wraps the model.
            rank: of the two matrices.
            own_alpha: stored beside them, which wins; None where there is none.
        """
        alpha = own_alpha
        if alpha is None:
            alpha = self.alpha
            for pattern, value in self.alpha_pattern.items():
                if re.match(rf"(.*\.)?({pattern})$", module):
                    alpha = value
                    break
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def parse_settings(config: Mapping[str, Any], name: str) -> AdapterSettings:
    """Read an `adapter_config.json`.

    Args:
        config: its content.
        name: of the adapter, for messages.

    Raises:
        CheckpointError: another kind of adapter, or values that are none.
    """
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise refused(name, f"of the kind {shown(kind)}")
    for key, what in _REFUSED.items():
        if config.get(key):
            raise refused(name, what)
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_CHANGES_BASE):
        raise refused(name, f"one that also changes its base model (init_lora_weights {shown(begun)})")
    pattern = config.get("alpha_pattern") or {}
    if not isinstance(pattern, Mapping):
        raise _damaged(name, "alpha_pattern", pattern)
    base = config.get("base_model_name_or_path")
    return AdapterSettings(
        alpha=_number(config.get("lora_alpha", _PEFT_ALPHA), "lora_alpha", name),
        alpha_pattern={_regex(key, name): _number(value, key, name) for key, value in pattern.items()},
        is_rank_stabilised=bool(config.get("use_rslora")),
        base=base[:_LONGEST_NAME] if isinstance(base, str) else "",
    )


def refused(name: str, what: str) -> CheckpointError:
    """Return the error for an adapter of a kind that cannot be used."""
    return CheckpointError(f'The adapter "{name}" is {what}; only plain LoRA is supported. {_MERGE}.')


def _number(value: Any, key: str, name: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        if is_number and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number beyond all floats
        pass
    raise _damaged(name, key, value)


def _regex(pattern: Any, name: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise _damaged(name, "alpha_pattern", pattern) from error
    is_slow = len(_OPEN_PART.findall(pattern)) > _MOST_OPEN or "){" in pattern
    if is_slow or repeats_a_repeat(str(pattern)):  # matched with every name of the model
        raise _damaged(name, "alpha_pattern", pattern)
    return str(pattern)


def _damaged(name: str, key: str, value: Any) -> CheckpointError:
    return CheckpointError(
        f'The configuration of the adapter "{name}" says {key:.60} {shown(value)}, which cannot be. Fetch '
        "the adapter again."
    )
