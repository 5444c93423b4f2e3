"""Where the tensors of an adapter belong in a model: names of any layout, with or without wrappers' words.

An adapter may have been trained on the whole model, in either published layout, or on its language model
alone. A name has to fit whole: nothing of vision is ever taken for language.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..checkpoints.layout import Layout
from ..checkpoints.names import published_names
from ..checkpoints.wrappers import bare_name
from .changes import Place

_DECODER = "language.language_model."
_OUTSIDE = "vq_tokenizer."  # its codes are shared by pictures of all models, so no adapter changes it


def places_for(shapes: Mapping[str, torch.Size]) -> dict[str, Place]:
    """Return the place of every tensor that an adapter may change, by its bare published name.

    Args:
        shapes: of all tensors of a model, by our names.
    """
    places: dict[str, Place] = {}
    for ours, shape in shapes.items():
        if ours.startswith(_OUTSIDE):
            continue
        for layout in _layouts(shapes):
            names = published_names(ours, layout)
            rows = shape[0] // len(names)
            for index, name in enumerate(names):
                place = Place(tensor=ours, first_row=index * rows, shape=torch.Size((rows, *shape[1:])))
                places.setdefault(bare_name(name), place)
        if ours.startswith(_DECODER):  # of a decoder trained alone
            alone = Place(tensor=ours, first_row=0, shape=shape)
            places.setdefault(bare_name(ours.removeprefix(_DECODER)), alone)
    return places


def _layouts(shapes: Mapping[str, torch.Size]) -> tuple[Layout, ...]:
    is_flow = any(name.startswith("flow.") for name in shapes)
    return ("janusflow",) if is_flow else ("authors", "transformers")
