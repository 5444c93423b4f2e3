"""Training from recipe to a model folder that loads, and its evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from janus_core import Janus, load_janus
from janus_training import evaluate, measuring, run, stages
from janus_training.charts import draw_curves, picture_grid, read_curves
from janus_training.commands import main
from janus_training.measuring import (
    Share,
    familiar_scenes,
    measure_drawings,
    share,
    unseen_prompt,
    unseen_scenes,
)
from janus_training.recipe import find_recipe
from janus_training.world.compositions import (
    is_held_out,
    is_test_composition,
    relation_key,
    thing_key,
    unseen,
)
from janus_training.world.parsing import caption_facts
from janus_training.world.passages import passage
from janus_training.world.rendering import render
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.vocabulary import Kind


def sentences(_: int) -> list[str]:
    return [f" {part.prompt} {part.answer}" for part in map(passage, range(100))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "corpus", sentences)
        code = main(
            ["run", "micro", "--run", str(path), "--out", str(path / "out"), "--device", "cpu", "--quiet"]
        )
    assert code == 0
    return path


@pytest.fixture(scope="module")
def trained(folder: Path) -> Janus:
    return load_janus(folder / "out", device="cpu")


def test_a_trained_folder_answers(trained: Janus) -> None:
    picture = render(unseen_scenes(1)[0], 32)

    assert isinstance(trained.ask("What is this?", [picture]), str)


def test_a_trained_folder_draws(trained: Janus) -> None:
    assert trained.draw("a red circle").images.shape == (1, 32, 32, 3)


def test_a_trained_folder_holds_the_trained_weights(folder: Path, trained: Janus) -> None:
    workshop = stages.Workshop(
        run.find_recipe("micro"), torch.device("cpu"), (folder / "tokenizer.json").read_text(encoding="utf-8")
    )
    from janus_training.state import load_weights

    load_weights(folder, workshop.modules)
    weights = workshop.model.state_dict()
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor.bfloat16(), weights[name].bfloat16()), name


def test_a_trained_folder_stores_bfloat16(folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / "out" / "model.safetensors", framework="pt") as file:
        assert {str(file.get_slice(name).get_dtype()) for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_a_trained_folder_recommends_the_guidance_of_its_recipe(trained: Janus) -> None:
    assert trained.guidance.cfg_weight == run.find_recipe("micro").cfg_weight == 2


@pytest.mark.parametrize("name", ["losses.png", "restored.png", "drawn.png"])
def test_a_run_leaves_its_charts(folder: Path, name: str) -> None:
    with Image.open(folder / name) as picture:
        assert min(picture.size) > 100


def test_the_tokenizer_of_a_run_is_learnt_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "corpus", lambda _: pytest.fail("learnt again"))
    kept = (folder / "tokenizer.json").read_text(encoding="utf-8")

    assert main(["run", "micro", "--run", str(folder), "--steps", "1", "--device", "cpu", "--quiet"]) == 0

    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == kept


def test_wrong_use_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nowhere.json", "--run", str(tmp_path), "--quiet"]) == 1

    assert "nowhere.json" in capsys.readouterr().err


def test_a_log_becomes_curves_without_its_torn_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    entries = [
        {"stage": "vq", "step": n + 1, "losses": {"pixels": 1 / (n + 1), "edges": 0.5}} for n in range(3)
    ]
    log.write_text("\n".join([*map(json.dumps, entries), '{"stage": "v']), encoding="utf-8")

    curves = read_curves(log)

    assert curves == {
        "vq": {"pixels": [(1, 1.0), (2, 0.5), (3, 1 / 3)], "edges": [(1, 0.5), (2, 0.5), (3, 0.5)]}
    }
    assert draw_curves(curves).size == (640, 240)


@pytest.mark.parametrize("losses", [[0.0, 0.0], [1.0], [1e-9, 1e9], [1.0] * 1000])
def test_any_curve_can_be_drawn(losses: list[float]) -> None:
    draw_curves({"II": {"text": [(step + 1, loss) for step, loss in enumerate(losses)]}})


def test_pictures_are_laid_out_in_rows() -> None:
    images = torch.zeros(5, 8, 8, 3)
    images[3, ..., 0] = 1

    sheet = picture_grid(images, columns=2, picture_px=10)

    assert sheet.size == (32, 46)
    assert sheet.getpixel((23, 23)) == (255, 0, 0)
    assert sheet.getpixel((5, 5)) == (0, 0, 0)


@pytest.fixture(scope="module")
def measured(trained: Janus) -> evaluate.Evaluation:
    return evaluate.evaluate(trained, 2, (1.0, 5.0), is_quiet=True)


def test_everything_is_measured_on_as_many_scenes_as_asked_for(measured: evaluate.Evaluation) -> None:
    assert {part.exact.of for part in measured.captions.values()} == {2}
    assert {len(each) for by_cfg in measured.drawings.values() for each in by_cfg.values()} == {2}
    assert {len(each) for each in measured.familiar.values()} == {2}
    assert measured.all_answers.of >= 2 * 8
    assert {part.of for part in measured.round_trip.values()} == {2}
    assert measured.answers["which"].of == 3  # of each two pictures
    assert all(seconds > 0 for seconds in measured.seconds.values())


def test_what_only_a_size_makes_unseen_is_told_apart(trained: Janus) -> None:
    scenes = measuring.unseen_scenes(30)
    others = [scene for scene in scenes if any(not key.startswith("thing") for key in unseen(scene))]
    captions = measuring.measure_captions(trained, scenes, "short", lambda done, total: None)
    assert captions.unseen_sorts.of == len(others)
    assert 0 < len(others) < len(scenes)

    pairs = measuring.unseen_scenes(12, ("pair",))
    sketches = measuring.measure_drawings(trained, pairs, 1.0, lambda done, total: None)
    assert [sketch.is_unseen_relation for sketch in sketches] == [
        any(key.startswith("relation") for key in unseen(scene)) for scene in pairs
    ]
    assert {sketch.is_unseen_relation for sketch in sketches} == {True, False}


def test_different_combinations_are_counted_once() -> None:
    scenes = measuring.unseen_scenes(20, ("single",))
    assert measuring.count_unseen([*scenes, *scenes]) == len({*map(unseen, scenes)}) < 20


def test_the_table_shows_every_figure(measured: evaluate.Evaluation) -> None:
    table = evaluate.to_table(evaluate.to_json(measured))

    for name in (
        "captions, detailed",
        "answers, relation",
        "two related objects, cfg 5",
        "one object, familiar",
        "unseen relations",
        "answers, which",
        "unseen by more than a size",
        "unseen combinations, one object",
        "one drawing alone",
        "round trip",
        " dB",
    ):
        assert name in table


def test_familiar_scenes_are_of_the_training_split_and_in_nobodys_samples() -> None:
    recipe = find_recipe("janus-shapes")
    most = max(stage.steps * stage.accumulation * stage.batch_size for stage in recipe.stages)
    kinds: tuple[Kind, ...] = ("single", "pair")
    for kind in kinds:
        scenes = familiar_scenes(40, kind)
        assert {scene.kind for scene in scenes} == {kind}
        assert not any(map(is_test_composition, scenes))
        assert scenes[0] == sample_scene(measuring._NEW_FROM, kinds=(kind,))
    assert most < measuring._NEW_FROM


def test_the_sheet_shows_the_drawings(measured: evaluate.Evaluation) -> None:
    assert evaluate.draw_sheet(measured).size[0] > 4 * 160


def test_an_evaluation_is_written_to_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "_QUICK_SCENES", 1)
    arguments = [str(folder / "out"), "--short", "--out", str(tmp_path), "--device", "cpu", "--quiet"]

    assert main(["evaluate", *arguments]) == 0

    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))["scenes"] == 1
    assert (tmp_path / "evaluation.png").is_file()
    assert "VQ tokenizer" in capsys.readouterr().out


def test_a_share_counts_the_right_ones() -> None:
    assert share([True, False, True, True]) == Share(right=3, of=4)
    assert share([True, False]).percent == 50
    assert share([]).percent == 0


@pytest.mark.parametrize("number", range(25))
def test_a_prompt_for_one_object_states_an_unseen_one(number: int) -> None:
    [scene] = unseen_scenes(number + 1, ("single",))[-1:]
    prompt, facts = unseen_prompt(scene, number)

    [mention] = facts.mentions
    assert mention.size is not None
    assert is_held_out(thing_key(mention.size, mention.colour, mention.shape))
    assert caption_facts(prompt) == facts


@pytest.mark.parametrize("number", range(25))
def test_a_prompt_for_two_objects_states_something_unseen(number: int) -> None:
    [scene] = unseen_scenes(number + 1, ("pair",))[-1:]
    _, facts = unseen_prompt(scene, number)

    assert facts.relation is not None
    first, second = facts.mentions
    keys = [relation_key(first.sort, facts.relation, second.sort)]
    keys += [thing_key(m.size, m.colour, m.shape) for m in facts.mentions if m.size is not None]
    assert any(map(is_held_out, keys))


class TruePictures:
    """Stands for a model that draws what it is asked for, or something else."""

    def __init__(self, janus: Janus, pictures: torch.Tensor) -> None:
        self.config, self._pictures = janus.config, pictures

    def draw(self, prompt: list[str], **_: object) -> TruePictures:
        self.images = self._pictures
        return self


@pytest.mark.parametrize(("order", "expected"), [([0, 1, 2], True), ([1, 2, 0], False)])
def test_true_pictures_count_as_right_and_swapped_ones_as_wrong(
    trained: Janus, order: list[int], expected: bool
) -> None:
    scenes = unseen_scenes(3, ("single",))
    pictures = torch.stack([torch.from_numpy(render(scenes[index], 64)) for index in order])

    sketches = measure_drawings(TruePictures(trained, pictures), scenes, 5.0, lambda *_: None)  # type: ignore[arg-type]

    assert [sketch.is_right for sketch in sketches] == [expected] * 3


def test_a_run_begins_with_the_weights_of_a_model(folder: Path, trained: Janus, tmp_path: Path) -> None:
    options = [
        "--run",
        str(tmp_path),
        "--start",
        str(folder / "out"),
        "--steps",
        "0",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert main(["run", "micro", *options]) == 0

    begun = load_janus(tmp_path / "model", device="cpu")
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, begun.model.state_dict()[name]), name
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_a_model_of_other_sizes_begins_no_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--run", str(tmp_path), "--start", str(folder / "out"), "--quiet"]
    assert main(["run", "janus-shapes", *options]) == 1

    assert 'not those of the recipe "janus-shapes"' in capsys.readouterr().err
