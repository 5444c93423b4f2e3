"""Train a recipe for a while: progress bar, charts, and a model folder at the end."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from janus_core.checkpoints.load import read_checkpoint
from janus_core.errors import ConfigError, OutputError
from janus_core.loading import choose_device, choose_dtype, load_autoregressive
from janus_core.one_file import read_model_text

from .charts import draw_curves, picture_grid, read_curves
from .gates import check_figures, measure_figure
from .loop import Slice, train
from .recipe import Recipe, find_recipe
from .stages import Workshop
from .state import LOG
from .weights import write_folder
from .world.rendering import render
from .world.scene_sampling import sample_scene

_PROMPTS = (
    "a red circle",
    "a blue square",
    "a yellow star on a black background",
    "three green triangles",
    "a red circle above a blue square",
    "a pink cross left of a green diamond",
    "a small orange circle inside a large purple square",
    "a yellow triangle, a cyan star and a red square",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to train, where and for how long.

    Attributes:
        recipe: a recipe file, or the name of one that comes with us.
        folder: where state, log and charts go; a run that is there already goes on.
        limit: how long.
        device: "auto", "cpu", "cuda" or another torch device.
        out: where the model folder goes; None puts it into the run's folder.
        start: model folder or bundled name whose weights and words a new run begins with; None begins with
            nothing. A run that is there already goes on with its own.
        is_quiet: show no progress bar.
    """

    recipe: str
    folder: Path
    limit: Slice
    device: str = "auto"
    out: Path | None = None
    start: str | None = None
    is_quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a slice has come to.

    Attributes:
        is_finished: the recipe has been trained to its end.
        model: the model folder as far as it has come.
        samples_per_s: how fast it went, gates and saves included.
    """

    is_finished: bool
    model: Path
    samples_per_s: float


def run_training(run: Run) -> Result:
    """Train one slice, then write charts and the model folder.

    Args:
        run: what, where and for how long.

    Raises:
        ConfigError: the recipe cannot be read, has a gate for an unknown figure, or other sizes than `start`.
        CheckpointError: the folder holds another run, or `start` is no model.
        MissedGateError: a stage is worse than its recipe asks for.
        OutputError: the folder cannot be written.
    """
    device = choose_device(run.device)
    # A CPU learns in float32, also one with bfloat16: a Xeon took 34 samples a second so, and 21 in bfloat16.
    autocast = device.type != "cpu" and choose_dtype("auto", device) == torch.bfloat16
    limit = replace(run.limit, autocast=autocast)
    # a CPU has no core to spare for drawing ahead: learning takes them all
    workers = 0 if device.type == "cpu" else max((os.cpu_count() or 1) - 2, 1)
    recipe = find_recipe(run.recipe)
    check_figures(recipe)
    workshop = _open_workshop(recipe, device, run, workers)
    started = time.perf_counter()
    with _Progress(workshop.recipe, run.is_quiet) as progress, closing(workshop):
        is_finished = train(
            workshop.recipe,
            run.folder,
            workshop.modules,
            workshop.make_task,
            limit,
            progress.show,
            lambda figure: measure_figure(figure, workshop.model, workshop.naming, workshop.tokenizer),
        )
    elapsed_s = time.perf_counter() - started
    out = run.out or run.folder / "model"
    recipe = workshop.recipe
    recommended = {"guidance_scale": recipe.cfg_weight, "min_p": recipe.min_p}
    write_folder(workshop.model, workshop.tokenizer_json, out, torch.bfloat16, recommended)
    write_charts(run.folder, out, device)
    return Result(is_finished=is_finished, model=out, samples_per_s=progress.samples / elapsed_s)


def _open_workshop(recipe: Recipe, device: torch.device, run: Run, workers: int) -> Workshop:
    """Make a recipe's model; the tokenizer is learnt once for each run, so that its ids never change."""
    kept = run.folder / "tokenizer.json"
    if kept.is_file():
        return Workshop(recipe, device, kept.read_text(encoding="utf-8"), workers)
    if run.start is None:
        workshop = Workshop(recipe, device, workers=workers)
    else:
        workshop = _begin_with(run.start, recipe, device, workers)
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        fresh = run.folder / "tokenizer.json.new"
        fresh.write_text(workshop.tokenizer_json, encoding="utf-8")
        fresh.replace(kept)
    except OSError as error:
        raise OutputError(f'Cannot write to "{run.folder}": {error}. Choose another folder.') from error
    return workshop


def _begin_with(start: str, recipe: Recipe, device: torch.device, workers: int) -> Workshop:
    """Make a recipe's model with the weights and the words of a model folder."""
    checkpoint = read_checkpoint(start)
    if checkpoint.config != recipe.model.to_config():
        raise ConfigError(
            f'The sizes of "{start}" are not those of the recipe "{recipe.name}". Give a recipe with the '
            "sizes of that model, or begin with nothing."
        )
    words = read_model_text(checkpoint.folder / "tokenizer.json")
    workshop = Workshop(recipe, device, words, workers)
    workshop.model.load_state_dict(checkpoint.state_dict)
    return workshop


def write_charts(folder: Path, model: Path, device: torch.device) -> None:
    """Write `losses.png`, `restored.png` (pictures, and below through the VQ tokenizer) and `drawn.png`."""
    if (folder / LOG).exists():
        draw_curves(read_curves(folder / LOG)).save(folder / "losses.png")
    janus = load_autoregressive(model, device=device)
    size_px = janus.config.vision.image_size
    pictures = [
        torch.from_numpy(render(sample_scene(number, "test", is_drawn=True), size_px)) for number in range(8)
    ]
    restored = janus.decode(janus.encode(pictures))
    picture_grid(torch.cat((torch.stack(pictures), restored)), columns=len(pictures)).save(
        folder / "restored.png"
    )
    drawn = janus.draw(_PROMPTS, num_images=2, batch_size=2 * len(_PROMPTS))
    picture_grid(drawn.images, columns=4).save(folder / "drawn.png")


class _Progress:
    """A progress bar on stderr, one for each stage.

    Attributes:
        samples: how many were learnt from so far.
    """

    def __init__(self, recipe: Recipe, is_quiet: bool) -> None:
        self.samples = 0
        self._is_quiet = is_quiet
        self._stage = ""
        self._of_a_step = {stage.stage: stage.batch_size * stage.accumulation for stage in recipe.stages}
        self._bar: tqdm | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, stage: str, done: int, steps: int, losses: dict[str, float]) -> None:
        """Move the bar of a stage to `done` of `steps`."""
        self.samples += self._of_a_step[stage]  # type: ignore[index]
        if self._bar is None or stage != self._stage:
            self.__exit__()
            self._stage = stage
            self._bar = tqdm(
                desc=f"stage {stage}", total=steps, initial=done - 1, unit="step", disable=self._is_quiet
            )
        self._bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()}, refresh=False)
        self._bar.update()
