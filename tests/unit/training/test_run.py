"""Training from recipe to a model folder that loads, and its evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from janus_core import Janus, load_janus
from janus_core.inputs.image_tokens import ImageTokens
from janus_core.options import DrawOptions, Guidance
from janus_training import evaluate, gates, measuring, run, stages
from janus_training.charts import draw_curves, picture_grid, read_curves
from janus_training.commands import main
from janus_training.figures import Share, share
from janus_training.loop import Slice
from janus_training.measuring import (
    familiar_scenes,
    held_out_key,
    is_token_exact,
    measure_drawings,
    measure_foreign,
    measure_restoring,
    recognised_grids,
    role_grids,
    unseen_scenes,
    wishes,
)
from janus_training.recipe import find_recipe
from janus_training.telling_apart import FOREIGN, NEAR, above
from janus_training.world.compositions import (
    COMBINATIONS,
    Combination,
    all_keys,
    is_held_out,
    is_test_composition,
)
from janus_training.world.facts import facts_of
from janus_training.world.parsing import caption_facts
from janus_training.world.passages import passage
from janus_training.world.rendering import render
from janus_training.world.roles import role_tokens
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.strangers import strangers
from janus_training.world.vocabulary import KINDS, Kind


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
    picture = render(unseen_scenes(1, KINDS)[0], 64)

    assert isinstance(trained.ask("What is this?", [picture]), str)


def test_a_trained_folder_draws(trained: Janus) -> None:
    assert trained.draw("a red circle").images.shape == (1, 64, 64, 3)


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


def test_a_trained_folder_recommends_how_its_recipe_draws(folder: Path, trained: Janus) -> None:
    recommended = json.loads((folder / "out" / "generation_config.json").read_text(encoding="utf-8"))
    assert recommended == {"guidance_scale": 2.0, "min_p": 0.1}
    assert trained.guidance == Guidance(cfg_weight=2.0, min_p=0.1)


@pytest.mark.parametrize("name", ["losses.png", "restored.png", "drawn.png"])
def test_a_run_leaves_its_charts(folder: Path, name: str) -> None:
    with Image.open(folder / name) as picture:
        assert min(picture.size) > 100


def test_the_tokenizer_of_a_run_is_learnt_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "corpus", lambda _: pytest.fail("learnt again"))
    kept = (folder / "tokenizer.json").read_text(encoding="utf-8")

    assert main(["run", "micro", "--run", str(folder), "--steps", "1", "--device", "cpu", "--quiet"]) == 0

    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == kept


def test_a_cpu_learns_in_float32_also_where_it_knows_bfloat16(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[Slice] = []

    def train(*arguments: Any) -> bool:
        limits.extend(argument for argument in arguments if isinstance(argument, Slice))
        return True

    monkeypatch.setattr(run, "choose_dtype", lambda *_: torch.bfloat16)
    monkeypatch.setattr(run, "train", train)
    run.run_training(
        run.Run(
            recipe="micro",
            folder=folder,
            limit=Slice(autocast=True),
            device="cpu",
            out=tmp_path / "model",
            is_quiet=True,
        )
    )
    assert [limit.autocast for limit in limits] == [False]


def test_wrong_use_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nowhere.json", "--run", str(tmp_path), "--quiet"]) == 1

    assert "nowhere.json" in capsys.readouterr().err


def test_the_split_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["split"]) == 0

    told = capsys.readouterr().out.splitlines()
    keys = {line.strip() for line in told if line.startswith("  ")}
    assert keys == {key for combination in COMBINATIONS for key in all_keys(combination) if is_held_out(key)}
    assert len(told) == len(keys) + len(COMBINATIONS)


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
    return evaluate.evaluate(trained, 2, is_quiet=True)


def test_everything_is_measured_on_as_many_scenes_as_asked_for(measured: evaluate.Evaluation) -> None:
    drawn = measured.figures["drawings"]
    assert {part.of for part in drawn.values()} == {2}
    assert len(drawn) == 2 * len(measured.sketches)
    assert measured.figures["captions"]["short, unseen"].of == 2
    assert measured.figures["answers, unseen"]["all"].of >= 2 * 8
    assert measured.figures["answers, unseen"]["which"].of == 3  # of each two pictures
    apart = measured.figures["right captions scored above wrong ones (AUC)"]
    assert {name: part.of for name, part in apart.items()} == {NEAR: 4, FOREIGN: 4}  # pairs
    assert measured.figures["foreign pictures"]["colour and shape of one object"].of == 48
    assert all(seconds > 0 for seconds in measured.seconds.values())


def test_the_table_shows_every_figure(measured: evaluate.Evaluation) -> None:
    table = evaluate.to_table(measured)

    for name in (
        "captions: detailed, unseen by more than a size",
        "answers, unseen: relation",
        "answers, seen: relation",
        "answers by objects: 3 objects",
        "drawings: unseen relations, two objects, cfg_weight 5",
        "drawings: unseen places, one object, cfg_weight 2",
        "drawings: seen, one object, cfg_weight 2",
        "answers, unseen: which",
        "right captions scored above wrong ones (AUC): one attribute changed",
        "foreign pictures: colour and shape of one object",
        "every token found",
        "one drawing alone",
        " dB",
    ):
        assert name in table
    order = [table.index(name) for name in ("unseen relations", "unseen places", "unseen sizes", "seen, one")]
    assert order == sorted(order)


def test_right_captions_above_wrong_ones_are_the_area_under_the_curve() -> None:
    # of the first none of two, of the second one, of the third both
    assert share(above([0.1, 0.5, 0.9], [0.2, 0.8])).percent == pytest.approx(50)
    assert share(above([0.1, 0.5, 0.9], [0.05])).percent == 100
    assert share(above([0.5], [0.5])).percent == 0  # equals tell nothing apart


def test_familiar_scenes_are_of_the_training_split_and_in_nobodys_samples() -> None:
    recipe = find_recipe("janus-shapes")
    most = max(stage.steps * stage.accumulation * stage.batch_size for stage in recipe.stages)
    kinds: tuple[Kind, ...] = ("single", "pair")
    for kind in kinds:
        scenes = familiar_scenes(40, (kind,), is_drawn=True)
        assert {scene.kind for scene in scenes} == {kind}
        assert not any(map(is_test_composition, scenes))
        assert scenes[0] == sample_scene(measuring._NEW_FROM, kinds=(kind,), is_drawn=True)
    assert most < 500_000_000  # where the scenes of second pictures begin


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


def test_a_share_counts_every_combination_once() -> None:
    tried = [("a", True), ("a", True), ("a", False), ("a", False), ("b", True)]
    assert share(tried) == Share(percent=75, margin=pytest.approx(1.96 * 25), combinations=2, of=5)
    assert str(share(tried)) == "75.0 % ± 49.0"
    assert str(share([("a", True)])) == "100.0 %"
    assert share([]).percent == 0


UNSEEN: list[tuple[Kind, Combination]] = [("pair", "relation"), ("single", "place"), ("single", "thing")]


@pytest.mark.parametrize(("kind", "combination"), UNSEEN)
def test_a_wish_states_what_makes_it_unseen(kind: Kind, combination: Combination) -> None:
    scenes = unseen_scenes(25, (kind,), combination)
    for scene, wish in zip(scenes, wishes(scenes, combination), strict=True):
        assert wish.key == held_out_key(scene, combination) is not None
        read = caption_facts(wish.prompt)
        assert read is not None
        assert read.turned() == wish.facts.turned()
        assert all(mention.place for mention in wish.facts.mentions) or combination != "place"
        assert all(mention.size for mention in wish.facts.mentions) or combination != "thing"
        assert (wish.facts.relation is not None) == (kind == "pair")


class TruePictures:
    """Stands for a model that draws what it is asked for, or something else."""

    def __init__(self, janus: Janus, pictures: torch.Tensor, grids: torch.Tensor) -> None:
        self.config = janus.config
        self.images = pictures
        self.tokens = ImageTokens(grid=grids, codebook="true")

    def draw(self, prompt: list[str], **_: object) -> TruePictures:
        return self


@pytest.mark.parametrize(("order", "expected"), [([0, 1, 2], True), ([1, 2, 0], False)])
def test_true_pictures_count_as_right_and_swapped_ones_as_wrong(
    trained: Janus, order: list[int], expected: bool
) -> None:
    of_a_kind = {scene.things[0].shape: scene for scene in unseen_scenes(12, ("single",), "place")}
    scenes = list(of_a_kind.values())[:3]
    shown = [scenes[index] for index in order]
    pictures = torch.stack([torch.from_numpy(render(scene, 64)) for scene in shown])
    true: Any = TruePictures(trained, pictures, role_grids(shown))

    sketches = measure_drawings(true, wishes(scenes, "place"), DrawOptions(cfg_weight=5.0))

    assert [sketch.is_right for sketch in sketches] == [expected] * 3
    assert [is_token_exact(sketch.grid, sketch.wish.facts) for sketch in sketches] == [expected] * 3


def test_tokens_are_exact_only_if_they_tell_all_that_is_stated() -> None:
    for scene in unseen_scenes(30, ("pair",), "relation"):
        grid = role_tokens(scene)
        assert is_token_exact(grid, facts_of(scene))
        grid[0, 0] = (grid[0, 0] + 1) % 4
        assert not is_token_exact(grid, facts_of(scene))


class Eyes:
    """Stands for a model that captions pictures of one thing as told."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def caption(self, *_: object, **__: object) -> list[str]:
        return self._texts


def test_foreign_pictures_count_by_colour_and_shape() -> None:
    true = [f"A {one.colour} {one.shape}." for one in strangers(4)]
    sized = [text.replace("A ", "A large ").replace(".", " on the left.") for text in true]
    wrong: Any = Eyes([*true[1:], true[0]])
    right: Any = Eyes(true[:24] + sized[24:])
    assert all(one.is_right for one in measure_foreign(right, 4))
    assert not any(one.is_right for one in measure_foreign(wrong, 4))


def test_restored_pictures_are_judged_by_all_that_they_show(trained: Janus) -> None:
    scenes = unseen_scenes(6, ("pair",), "relation")
    rendered = torch.stack([torch.from_numpy(render(scene, 64)) for scene in scenes])

    class Perfect:
        config, codebook = trained.config, "perfect"

        def decode(self, tokens: ImageTokens) -> torch.Tensor:
            return rendered[tokens.grid[:, 0, 0]]

    perfect: Any = Perfect()
    order = torch.arange(6)[:, None, None].expand(6, 8, 8)
    psnr_db, judged = measure_restoring(perfect, scenes, order)
    assert psnr_db == pytest.approx(100)
    assert all(one.is_right for one in judged)
    assert not any(one.is_right for one in measure_restoring(perfect, scenes, order.roll(1, 0))[1])
    assert recognised_grids(trained, scenes).shape == role_grids(scenes).shape


@pytest.mark.parametrize(
    "figure", ["restored pairs", "recognised singles", "drawn singles", "seen place", "colour"]
)
def test_every_figure_of_a_gate_is_a_share(
    folder: Path, figure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "_SCENES", 3)
    words = (folder / "tokenizer.json").read_text(encoding="utf-8")
    workshop = stages.Workshop(find_recipe("micro"), torch.device("cpu"), words)
    assert gates.is_figure(figure)
    percent = gates.measure_figure(figure, workshop.model, workshop.naming, workshop.tokenizer)
    assert 0 <= percent <= 100


@pytest.mark.parametrize("name", ["drawn", "drawn stars", "seen", "nothing", ""])
def test_other_names_are_no_figures(name: str) -> None:
    assert not gates.is_figure(name)


def test_a_gate_for_an_unknown_figure_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    micro = Path(run.__file__).parent / "recipes" / "micro.json"
    content = json.loads(micro.read_text(encoding="utf-8"))
    content["stages"][0]["gates"] = [{"step": 1, "figure": "drawn stars", "least": 1}]
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(content), encoding="utf-8")
    assert main(["run", str(recipe), "--run", str(tmp_path / "begun"), "--device", "cpu", "--quiet"]) == 1
    assert 'gate for "drawn stars"' in capsys.readouterr().err
    assert not (tmp_path / "begun").exists()


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
