"""All templates by title, in the order in which they are listed."""

from __future__ import annotations

from .drawing import DRAWING
from .other_models import OTHER_MODELS
from .understanding import UNDERSTANDING

ALL = UNDERSTANDING | DRAWING | OTHER_MODELS
