"""A killed run goes on as if nothing had happened, and a state is complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from janus_core.errors import CheckpointError, OutputError
from janus_core.inputs.prompting import SYSTEM_TEXT
from janus_training import state
from janus_training.gates import MissedGateError
from janus_training.loop import Slice, take_step, train
from janus_training.optimiser import Optimiser
from janus_training.recipe import Gate, Recipe, find_recipe, parse_recipe
from janus_training.stages import Workshop
from janus_training.words import learn_tokenizer
from janus_training.world.passages import passage

RECIPE = find_recipe("micro")
CPU = torch.device("cpu")
Trained = tuple[Path, dict[str, Tensor]]  # the run's folder and its last weights


class KilledError(Exception):
    """Stands for a kill: it comes between two steps, and nothing is saved."""


@pytest.fixture(scope="module")
def tokenizer_json() -> str:
    sentences = (f" {part.prompt} {part.answer} {SYSTEM_TEXT}" for part in map(passage, range(100)))
    return learn_tokenizer(sentences, RECIPE.model.vocabulary)


def train_slice(
    recipe: Recipe, run: Path, tokenizer_json: str, limit: Slice, kill_after: int | None = None
) -> dict[str, Tensor]:
    """Train in a fresh process' place: everything anew but the folder."""
    workshop, steps = Workshop(recipe, CPU, tokenizer_json), 0

    def on_step(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == kill_after:
            raise KilledError

    with suppress(KilledError):
        train(recipe, run, workshop.modules, workshop.make_task, limit, on_step)
    return {name: tensor.clone() for name, tensor in workshop.modules.state_dict().items()}


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: str) -> Trained:
    run = tmp_path_factory.mktemp("whole")
    return run, train_slice(RECIPE, run, tokenizer_json, Slice())


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_in_one_go_logs_every_step(in_one_go: Trained) -> None:
    log = log_of(in_one_go[0])

    expected = [(stage.stage, step + 1) for stage in RECIPE.stages for step in range(stage.steps)]
    assert [(entry["stage"], entry["step"]) for entry in log] == expected


def test_training_changes_every_part_of_the_model(in_one_go: Trained, tokenizer_json: str) -> None:
    first = Workshop(RECIPE, CPU, tokenizer_json).modules.state_dict()

    assert [name for name, tensor in in_one_go[1].items() if torch.equal(tensor, first[name])] == []


@pytest.mark.parametrize("save_every", [1, 2])
def test_three_slices_equal_one_go(
    in_one_go: Trained, tokenizer_json: str, tmp_path: Path, save_every: int
) -> None:
    train_slice(RECIPE, tmp_path, tokenizer_json, Slice(steps=5, save_every=save_every))
    train_slice(RECIPE, tmp_path, tokenizer_json, Slice(save_every=save_every), kill_after=8)
    weights = train_slice(RECIPE, tmp_path, tokenizer_json, Slice(save_every=save_every))

    assert log_of(tmp_path) == log_of(in_one_go[0])
    assert all(torch.equal(tensor, in_one_go[1][name]) for name, tensor in weights.items())


def test_a_run_killed_before_its_first_save_starts_again(
    in_one_go: Trained, tokenizer_json: str, tmp_path: Path
) -> None:
    train_slice(RECIPE, tmp_path, tokenizer_json, Slice(save_every=100), kill_after=2)
    assert len(log_of(tmp_path)) == 2

    train_slice(RECIPE, tmp_path, tokenizer_json, Slice(steps=3))

    assert log_of(tmp_path) == log_of(in_one_go[0])[:3]


def test_a_finished_run_has_nothing_left_to_do(in_one_go: Trained, tokenizer_json: str) -> None:
    before = log_of(in_one_go[0])

    weights = train_slice(RECIPE, in_one_go[0], tokenizer_json, Slice())

    assert log_of(in_one_go[0]) == before
    assert all(torch.equal(tensor, in_one_go[1][name]) for name, tensor in weights.items())


@pytest.fixture
def begun(tmp_path: Path, tokenizer_json: str) -> Path:
    train_slice(RECIPE, tmp_path, tokenizer_json, Slice(steps=1))
    return tmp_path


def steps_done(run: Path) -> int:
    position = state.read_position(run, RECIPE)
    assert position is not None
    return position.step


def save_next(run: Path, tokenizer_json: str) -> None:
    train_slice(RECIPE, run, tokenizer_json, Slice(steps=1))


def _fail(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["save_file", "_moments", "_swap_in"])
def test_a_save_that_fails_keeps_the_old_state(
    begun: Path, tokenizer_json: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(state, call, _fail)
        with pytest.raises(OutputError, match="No space left"):
            save_next(begun, tokenizer_json)

    assert steps_done(begun) == 1


@pytest.mark.parametrize("renames_before_the_kill", [0, 1])
def test_a_kill_during_the_swap_leaves_a_complete_state(
    begun: Path, tokenizer_json: str, monkeypatch: pytest.MonkeyPatch, renames_before_the_kill: int
) -> None:
    rename, left = Path.rename, renames_before_the_kill

    def killed(path: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        save_next(begun, tokenizer_json)

    assert steps_done(begun) == 1
    save_next(begun, tokenizer_json)
    assert steps_done(begun) == 2


def test_the_only_state_is_not_removed_before_another_is_in_its_place(
    begun: Path, tokenizer_json: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (begun / "state").rename(begun / "state.old")  # what a kill between the two renames leaves
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KilledError()))

    save_next(begun, tokenizer_json)

    assert steps_done(begun) == 1


@pytest.mark.parametrize("change", [{"seed": 2}, {"name": "other"}])
def test_another_seed_is_another_run_but_another_name_is_not(begun: Path, change: dict[str, Any]) -> None:
    changed = replace(RECIPE, **change)

    if "seed" in change:
        with pytest.raises(CheckpointError, match="another recipe"):
            state.read_position(begun, changed)
    else:
        assert state.read_position(begun, changed) is not None


def with_stage(index: int, **changes: Any) -> Recipe:
    stages = list(RECIPE.stages)
    stages[index] = replace(stages[index], **changes)
    return replace(RECIPE, stages=tuple(stages))


def test_a_stage_under_way_may_not_change(begun: Path) -> None:
    with pytest.raises(CheckpointError, match="another recipe"):
        state.read_position(begun, with_stage(0, steps=7))


def test_a_later_stage_may_change(begun: Path) -> None:
    assert state.read_position(begun, with_stage(1, steps=7)) == state.Position(stage=0, step=1)


def test_a_state_from_before_a_setting_existed_goes_on(begun: Path) -> None:
    path = begun / "state" / "position.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for stage in content["recipe"]["stages"]:
        del stage["questions"]
    del content["log_bytes"]
    path.write_text(json.dumps(content), encoding="utf-8")
    lines = log_of(begun)

    state.cut_log(begun)

    assert steps_done(begun) == 1
    assert log_of(begun) == lines


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("file", ["position.json", "weights-0.safetensors", "optimiser-0.safetensors"])
@pytest.mark.parametrize("damage", [_empty, _cut])
def test_a_damaged_state_is_named(
    begun: Path, tokenizer_json: str, file: str, damage: Callable[[Path], None]
) -> None:
    damage(begun / "state" / file)

    with pytest.raises(CheckpointError, match="damaged"):
        save_next(begun, tokenizer_json)


def test_a_state_is_kept_in_files_that_may_travel(
    tmp_path: Path, tokenizer_json: str, in_one_go: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_MOST_BYTES", 30_000)
    for _ in range(2):
        weights = train_slice(RECIPE, tmp_path, tokenizer_json, Slice(steps=3))
    files = list((tmp_path / "state").glob("*.safetensors"))
    largest = max(tensor.nbytes for tensor in weights.values())
    assert len(files) > 4
    assert max(file.stat().st_size for file in files) < max(30_000, largest) + 20_000
    assert log_of(tmp_path) == log_of(in_one_go[0])[:6]

    (tmp_path / "state" / "weights-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        save_next(tmp_path, tokenizer_json)


def test_weights_of_another_model_are_refused(begun: Path, tokenizer_json: str) -> None:
    weights = begun / "state" / "weights-0.safetensors"
    shutil.copy(begun / "state" / "optimiser-0.safetensors", weights)

    with pytest.raises(CheckpointError, match="not those of this model"):
        save_next(begun, tokenizer_json)


def test_recipes_are_compared_as_values_not_as_text(begun: Path) -> None:
    assert state.read_position(begun, parse_recipe(RECIPE.to_json())) is not None


class Counted:
    """A task of one weight that remembers which samples it was asked for."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.samples: list[int] = []

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.weight]

    def loss(self, sample: int) -> dict[str, Tensor]:
        self.samples.append(sample)
        return {"one": (self.weight * sample).sum(), "other": self.weight.sum() * 0 + 2}


def test_every_micro_batch_of_every_step_is_a_sample_of_its_own() -> None:
    stage, task = replace(RECIPE.stages[4], accumulation=3), Counted()
    optimiser = Optimiser(task.parameters(), set(), stage.weight_decay)

    for step in range(2):
        take_step(task, optimiser, stage, step)

    assert task.samples == [0, 1, 2, 3, 4, 5]


def test_losses_and_gradients_are_means_over_micro_batches() -> None:
    stage, task = replace(RECIPE.stages[4], accumulation=4, learning_rate=1e-9), Counted()

    losses = take_step(task, Optimiser(task.parameters(), set(), stage.weight_decay), stage, 0)

    assert losses == pytest.approx({"one": 2 * (0 + 1 + 2 + 3) / 4, "other": 2.0})
    gradient = task.weight.grad
    assert gradient is not None
    torch.testing.assert_close(gradient, torch.full((2,), 0.5**0.5))  # mean 1.5 for each, clipped to length 1


def gated(least: float) -> Recipe:
    gates = (Gate(step=2, figure="colour", least=least), Gate(step=3, figure="drawn pairs", least=0.0))
    return with_stage(0, gates=gates)


@pytest.mark.parametrize("figure", [49.0, 50.0])
def test_a_stage_that_misses_its_figure_ends_with_a_sentence(
    tmp_path: Path, tokenizer_json: str, figure: float
) -> None:
    workshop, asked = Workshop(gated(50.0), CPU, tokenizer_json), list[str]()

    def measure(name: str) -> float:
        asked.append(name)
        return figure

    limit = Slice(steps=3)
    if figure < 50:
        for _ in range(2):  # whoever goes on meets the gate again
            with pytest.raises(MissedGateError, match=r"49\.0 %.*colour.*2 steps.*50 %"):
                train(workshop.recipe, tmp_path, workshop.modules, workshop.make_task, limit, None, measure)
        assert asked == ["colour", "colour"]
        assert steps_done(tmp_path) == 2
    else:
        assert not train(
            workshop.recipe, tmp_path, workshop.modules, workshop.make_task, limit, None, measure
        )
        assert asked == ["colour", "drawn pairs"]
        gates = [entry for entry in log_of(tmp_path) if "gate" in entry]
        assert [(entry["step"], entry["gate"], entry["percent"]) for entry in gates] == [
            (2, "colour", 50.0),
            (3, "drawn pairs", 50.0),
        ]
