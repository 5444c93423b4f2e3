"""One object of a JSON configuration, read key by key: each value is checked, each message names the key.

Knows nothing of what the keys mean.
"""

from __future__ import annotations

import math
from typing import Any

from ..errors import ConfigError, shown

_SMALLEST = 1e-30  # of numbers above 0: what is smaller may be 0 in float32
_LARGEST = 1_000_000  # far above every size of a Janus; a larger number means a damaged file


class Section:
    """One object of a configuration file, read with checks that name the key."""

    def __init__(self, content: Any, name: str, fallbacks: dict[str, Any] | None = None) -> None:
        if not isinstance(content, dict):
            raise ConfigError(
                f"The configuration's {name} is {shown(content)}, not an object. Fetch config.json again."
            )
        self.content = content
        self.name = name
        self.fallbacks = fallbacks or {}

    def section(self, key: str) -> Section:
        """Return a nested object; a missing one is empty, so that its keys are reported by name."""
        return Section(self.content.get(key, {}), f"{self.name}.{key}" if self.name else key)

    def value(self, key: str) -> Any:
        """Return a key's value, or its published fallback."""
        found = self.content.get(key)
        found = self.fallbacks.get(key) if found is None else found  # null counts as left out
        if found is None:
            raise ConfigError(f"The configuration lacks {self.name}.{key}. Fetch config.json again.")
        return found

    def integer(self, key: str, most: int = _LARGEST, least: int = 1) -> int:
        """Return a whole number from `least` to `most`."""
        return _integer(self.value(key), f"{self.name}.{key}", most, least)

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of 1 to 16 whole numbers."""
        found = self.value(key)
        if not isinstance(found, list | tuple) or not 1 <= len(found) <= 16:
            raise ConfigError(
                f"The configuration's {self.name}.{key} is {shown(found)}, not a list of whole numbers."
            )
        return tuple(_integer(item, f"{self.name}.{key}", _LARGEST) for item in found)

    def number(self, key: str) -> float:
        """Return a finite number above 0."""
        return _number(self.value(key), f"{self.name}.{key}")

    def refuse(self, key: str, harmless: tuple[Any, ...], why: str) -> None:
        """Raise if a key that changes the arithmetic has a value that this package does not compute."""
        found = self.content.get(key)
        if found is not None and found not in harmless:
            raise ConfigError(f"The configuration sets {self.name}.{key} to {shown(found)}: {why}.")


def _integer(value: Any, name: str, most: int, least: int = 1) -> int:
    # JSON's true is an int to Python
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(
            f"The configuration's {name} is {shown(value)}, not a whole number from {least} to {most}."
        )
    return value


def _number(value: Any, name: str, *, positive: bool = True) -> float:
    # the bound comes first: a JSON integer may be too large for a float
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    if not is_number or not math.isfinite(value) or (positive and value < _SMALLEST):
        raise ConfigError(
            f"The configuration's {name} is {shown(value)}, not a{' positive' if positive else ''} number."
        )
    return float(value)


def three_numbers(value: Any, name: str, *, positive: bool) -> tuple[float, ...]:
    """Return a value as three finite numbers, one a colour channel; `name` is its key, for the message."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ConfigError(f"The configuration's {name} is {shown(value)}, not three numbers.")
    return tuple(_number(item, name, positive=positive) for item in value)
