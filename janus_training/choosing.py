"""What choosing among several tries gains and costs: the best of some drawings, and fills of a mask.

`python -m janus_training choosing MODEL [--scenes 100]` prints a table: how often the best of eight drawings
is right against one, what keeping 4 of 16 costs against drawing all of them, and how far pixels jump across
the border of a mask, by the number of candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean, median

import torch
from torch import Tensor

from janus_core.generation.canvas import RedrawOptions
from janus_core.janus import Janus
from janus_core.loading import load_autoregressive
from janus_core.options import DrawOptions

from .figures import share
from .measuring import familiar_scenes, measure_drawings, wishes
from .world.drawing_prompts import drawing_prompt
from .world.rendering import render
from .world.scenes import Thing
from .world.vocabulary import Kind

_OF = 8  # drawings, the best of which is judged
_BEGUN, _KEPT = 16, 4  # pictures whose cost is measured
_REPEATS = 7
_CANDIDATES = (1, 4, 16)
_COST_PROMPT = "a red circle above a blue square"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What keeping the best costs as a share of drawing all pictures.

    Attributes:
        row_steps: rows summed over the steps.
        seconds: of computing, median over interleaved repeats.
        all_s: median seconds of drawing all pictures.
    """

    row_steps: float
    seconds: float
    all_s: float


def measure_best_of(janus: Janus, kind: Kind, scenes: int, of: int = _OF) -> tuple[str, str]:
    """Return how often one drawing is right and how often the best of several, for seen compositions."""
    wished = wishes(familiar_scenes(scenes, (kind,), is_drawn=True), None)
    found = []
    for drawings, options in ((1, DrawOptions()), (of, DrawOptions(keep_best=1))):
        sketches = measure_drawings(janus, wished, options, drawings=drawings)
        found.append(str(share([(sketch.wish.key, sketch.is_right) for sketch in sketches])))
    return found[0], found[1]


def measure_cost(janus: Janus, repeats: int = _REPEATS) -> Cost:
    """Draw 16 pictures, and 16 of which 4 are kept, in turn.

    Computing time is measured, on which other work of the machine has little influence.
    """
    seconds: dict[int, list[float]] = {0: [], _KEPT: []}
    row_steps = dict.fromkeys(seconds, 0)
    for seed in range(repeats + 1):  # the first pair warms up
        for keep, taken in seconds.items():
            with _counted_rows(janus) as count:
                started = time.process_time()
                janus.draw(
                    _COST_PROMPT,
                    num_images=_BEGUN,
                    seed=100 * seed,
                    options=DrawOptions(keep_best=keep),
                    batch_size=_BEGUN,
                )
                taken.append(time.process_time() - started)
            row_steps[keep] = count()
    whole, kept = (median(seconds[keep][1:]) for keep in (0, _KEPT))
    return Cost(row_steps=row_steps[_KEPT] / row_steps[0], seconds=kept / whole, all_s=whole)


@contextmanager
def _counted_rows(janus: Janus) -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many rows have taken a step of one token meanwhile."""
    rows: list[int] = []

    def count(_: object, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[1] == 1:
            rows.append(inputs[0].shape[0])

    hook = janus.model.language.language_model.register_forward_pre_hook(count)
    try:
        yield lambda: sum(rows)
    finally:
        hook.remove()


def upper_half(thing: Thing, side: int) -> Tensor:
    """Return the mask (side, side) bool of the cells that hold the upper half of a thing."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    middle = min(max(round(thing.y * side), 1), side - 1)
    top = max(int((thing.y - thing.radius) * side), 0)
    left, right = max(int((thing.x - thing.radius) * side), 0), int((thing.x + thing.radius) * side)
    mask[min(top, middle - 1) : middle, left : right + 1] = True
    return mask


def jumps(images: Tensor, masks: Tensor) -> list[float]:
    """Return how far the pixels on both sides of each mask's border differ, in 0..1, per picture.

    Args:
        images: (b, H, W, 3) in 0..1.
        masks: (b, h, w) bool, by cells.
    """
    scale = images.shape[1] // masks.shape[1]
    fine = masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2)  # (b, H, W)
    found = []
    for image, mask in zip(images, fine, strict=True):
        down = (image[1:] - image[:-1]).abs().mean(dim=-1)[mask[1:] != mask[:-1]]
        across = (image[:, 1:] - image[:, :-1]).abs().mean(dim=-1)[mask[:, 1:] != mask[:, :-1]]
        found.append(float(torch.cat((down, across)).mean()))
    return found


def measure_seams(janus: Janus, scenes: int, candidates: Sequence[int] = _CANDIDATES) -> dict[str, float]:
    """Redraw the upper half of one object; return the mean jump across the mask's border.

    By number of candidates, and of the pictures themselves behind the VQ tokenizer: no redraw needs to be
    smoother.
    """
    shown = familiar_scenes(scenes, ("single",), is_drawn=True)
    size = janus.config.vision.image_size
    masks = torch.stack([upper_half(scene.things[0], janus.config.grid_side) for scene in shown])
    source = janus.encode([render(scene, size) for scene in shown])
    found = {"the pictures themselves": fmean(jumps(janus.decode(source), masks))}
    for count in candidates:
        options = RedrawOptions(candidates=count)
        images = [
            janus.redraw(
                replace(source, grid=source.grid[number : number + 1]),
                mask.float(),
                drawing_prompt(scene, number),
                seed=number,
                options=options,
            ).images
            for number, (scene, mask) in enumerate(zip(shown, masks, strict=True))
        ]
        found[f"{count} candidate{'s' * (count > 1)}"] = fmean(jumps(torch.cat(images), masks))
    return found


def choosing_table(model: str, *, scenes: int, device: str) -> str:
    """Measure a model folder or a bundled model; return the figures as a table.

    Args:
        model: folder or bundled name.
        scenes: of each kind.
        device: "auto", "cpu", "cuda" or another torch device.
    """
    janus = load_autoregressive(model, device=device)
    kinds: dict[str, Kind] = {"one object": "single", "two objects": "pair"}
    rows = [
        (f"{name}: one drawing → best of {_OF}", " → ".join(measure_best_of(janus, kind, scenes)))
        for name, kind in kinds.items()
    ]
    seams = measure_seams(janus, scenes)
    rows += [(f"jump across a mask, {name}", f"{value:.4f}") for name, value in seams.items()]
    cost = measure_cost(janus)
    rows.append((f"{_KEPT} kept of {_BEGUN}, row-steps", f"{100 * cost.row_steps:.0f} %"))
    rows.append((f"{_KEPT} kept of {_BEGUN}, seconds", f"{100 * cost.seconds:.0f} % of {cost.all_s:.2f} s"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}} | {figure}" for name, figure in rows)
