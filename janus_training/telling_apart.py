"""Whether a model scores right captions above wrong ones: shares of pairs, which are areas under a curve."""

from __future__ import annotations

from collections.abc import Sequence

from janus_core.janus import Janus
from janus_core.options import OnStep

from .figures import Share, share
from .world.rendering import render
from .world.scenes import Scene
from .world.wrong_captions import foreign_phrase, near_phrase, phrase

NEAR, FOREIGN = "one attribute changed", "of another scene"

_OTHERS = 700_000_000  # seeds of scenes that no evaluation shows


def measure_telling_apart(
    janus: Janus, scenes: Sequence[Scene], on_step: OnStep | None = None
) -> dict[str, Share]:
    """Score the picture of every scene by its own caption and by two wrong ones.

    Args:
        janus: the model.
        scenes: what the pictures show.
        on_step: called with (pictures finished, pictures).

    Returns: for each kind of wrong caption, in how many pairs of a right and a wrong one, whatever their
        pictures, the right one scores higher. The mean over the right ones is the area under the curve of
        hits against false alarms, in per cent.
    """
    right: list[float] = []
    wrong: dict[str, list[float]] = {NEAR: [], FOREIGN: []}
    for number, scene in enumerate(scenes):
        picture = render(scene, janus.config.vision.image_size)
        right.append(janus.score(picture, phrase(scene))[0].probability)
        wrong[NEAR].append(janus.score(picture, near_phrase(scene, number))[0].probability)
        wrong[FOREIGN].append(janus.score(picture, foreign_phrase(scene, _OTHERS + number))[0].probability)
        if on_step is not None:
            on_step(number + 1, len(scenes))
    return {kind: share(above(right, scores)) for kind, scores in wrong.items()}


def above(right: Sequence[float], wrong: Sequence[float]) -> list[tuple[str, bool]]:
    """Return of every pair the number of its right caption, and whether that one scores higher."""
    return [(str(number), score > other) for number, score in enumerate(right) for other in wrong]
