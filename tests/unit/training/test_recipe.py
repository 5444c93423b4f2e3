"""Recipes: what they refuse, the learning rate they ask for, and how a batch is shared out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from janus_core.errors import ConfigError
from janus_training.gates import is_figure
from janus_training.loop import learning_rate
from janus_training.recipe import StageRecipe, find_recipe, parse_recipe, read_recipe
from janus_training.samples import split_batch
from janus_training.world.roles import roles

RECIPES = Path(__file__).parents[3] / "janus_training" / "recipes"
STAGE = StageRecipe(stage="mix", steps=110, batch_size=64, learning_rate=1.0, warmup_steps=10, mix=(5, 1, 4))


def micro() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RECIPES / "micro.json").read_text(encoding="utf-8"))
    return content


def spoilt(where: str, key: str, value: object) -> dict[str, Any]:
    content = micro()
    (content if where == "recipe" else content["model"] if where == "model" else content["stages"][0])[
        key
    ] = value
    return content


@pytest.mark.parametrize("name", ["janus-shapes", "micro"])
def test_a_recipe_survives_json(name: str) -> None:
    recipe = find_recipe(name)

    assert parse_recipe(recipe.to_json()) == recipe


@pytest.mark.parametrize("name", ["janus-shapes", "micro"])
def test_a_shipped_recipe_goes_through_all_stages_in_order(name: str) -> None:
    names = [stage.stage for stage in find_recipe(name).stages]

    assert list(dict.fromkeys(names)) == ["vq_decoder", "vq_encoder", "vision", "drawing", "mix", "questions"]


def test_the_shipped_recipe_has_a_gate_in_every_stage_of_known_figures() -> None:
    for stage in find_recipe("janus-shapes").stages:
        assert stage.gates, stage.stage
        for gate in stage.gates:
            assert 0 < gate.step <= stage.steps
            assert 0 < gate.least <= 100
            assert is_figure(gate.figure)


def test_there_is_a_token_for_every_role() -> None:
    assert find_recipe("janus-shapes").model.codebook_size >= len(roles())


def test_the_shipped_model_is_small_enough_to_ship() -> None:
    from janus_core import build_model

    model = build_model(find_recipe("janus-shapes").model.to_config())

    assert 2 * sum(parameter.numel() for parameter in model.parameters()) < 11.5e6


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("stage", "stage", "IV"),
        ("stage", "questions", 0),
        ("stage", "gates", [{"figure": "where"}]),
        ("stage", "steps", 0),
        ("stage", "batch_size", 0),
        ("stage", "accumulation", 0),
        ("stage", "learning_rate", 0.0),
        ("stage", "moments", 3),
        ("recipe", "stages", []),
        ("recipe", "seed", "many"),
        ("recipe", "cfg_weight", 101),
        ("recipe", "min_p", 1.5),
        ("model", "layers", None),
        ("model", "width", 3),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(tmp_path: Path, where: str, key: str, value: object) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(spoilt(where, key, value)), encoding="utf-8")

    with pytest.raises(ConfigError):
        read_recipe(path).model.to_config()


@pytest.mark.parametrize("mix", [(), (1, 2), (0, 0, 0), (1, -1, 1)])
def test_a_mixture_needs_three_shares(mix: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="three shares"):
        replace(STAGE, mix=mix)


def test_two_equal_stages_are_refused() -> None:
    content = micro()
    content["stages"].append(content["stages"][0])

    with pytest.raises(ConfigError, match="different names"):
        parse_recipe(content)


def test_a_missing_recipe_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        find_recipe("nowhere.json")


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.525), (110, 0.05), (500, 0.05)],
)
def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine(step: int, expected: float) -> None:
    assert learning_rate(STAGE, step) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(4, 0.5), (10, 1.0), (88, 1.0), (99, 0.525), (110, 0.05), (500, 0.05)]
)
def test_with_a_decay_the_rate_stays_until_the_last_share(step: int, expected: float) -> None:
    stage = replace(STAGE, decay=0.2)

    assert learning_rate(stage, step) == pytest.approx(expected)


@pytest.mark.parametrize("decay", [-0.1, 1.1])
def test_a_decay_is_a_share(decay: float) -> None:
    with pytest.raises(ConfigError, match="decay is a share"):
        replace(STAGE, decay=decay)


@pytest.mark.parametrize(
    ("batch", "mix", "expected"),
    [
        (64, (5, 1, 4), (32, 6, 26)),
        (20, (7, 3, 10), (7, 3, 10)),
        (64, (1, 0, 3), (16, 0, 48)),
        (3, (1, 1, 1), (1, 1, 1)),
        (1, (2, 1, 4), (0, 0, 1)),
    ],
)
def test_a_batch_is_shared_out_by_the_mixture(
    batch: int, mix: tuple[float, float, float], expected: tuple[int, int, int]
) -> None:
    assert split_batch(replace(STAGE, batch_size=batch, mix=mix)) == expected
