"""Schemas for several releases of ComfyUI: newer features are used where they exist.

Fields of `io.Schema` that an older release lacks are dropped. Keywords of inputs that it lacks are put into
`extra_dict`, which every release merges into the options that it sends to the page.

An input with a default is optional: core fills no defaults in prompts sent by API, so one that is required
and added later would break every prompt that somebody has stored.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

_SCHEMA_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}  # of the running release


def schema(**fields: Any) -> io.Schema:
    """Return an `io.Schema` of the fields that this release knows."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _SCHEMA_FIELDS})


def widget(kind: Callable[..., Any], input_id: str, **options: Any) -> Any:
    """Return an input such as `io.Int.Input`, optional where it has a default.

    Options that this release does not know are passed on as extras.
    """
    options = {"optional": "default" in options, **options}  # a caller's own "optional" wins
    known = inspect.signature(kind).parameters
    made = kind(input_id, **{name: value for name, value in options.items() if name in known})
    extras = {name: value for name, value in options.items() if name not in known}
    made.extra_dict = {**(made.extra_dict or {}), **extras}
    return made
