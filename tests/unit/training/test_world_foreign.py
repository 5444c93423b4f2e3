"""Pictures in another manner: still what they are said to show, and never from the test's side."""

import ast
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from janus_training.world import strangers as strangers_file
from janus_training.world.compositions import is_test_composition
from janus_training.world.dice import new_dice
from janus_training.world.foreign import see_foreign
from janus_training.world.patch_labels import CLASSES, UNKNOWN, patch_labels
from janus_training.world.rendering import render
from janus_training.world.scene_sampling import sample_foreign_scene
from janus_training.world.sights import sight
from janus_training.world.strangers import strangers
from janus_training.world.vocabulary import COLOURS, SHAPES

SIGHTS = [sight(number, 64) for number in range(300)]


def test_a_number_always_gives_the_same_sight():
    again = [sight(number, 64) for number in range(20)]
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(SIGHTS, again, strict=False))
    assert [one.scene for one in again] == [one.scene for one in SIGHTS[:20]]


def test_sights_are_of_the_training_side():
    assert not any(is_test_composition(one.scene) for one in SIGHTS)


def test_about_half_of_all_sights_are_foreign():
    own = sum(np.array_equal(one.picture, render(one.scene, 64)) for one in SIGHTS)
    assert 0.4 < own / len(SIGHTS) < 0.6


@pytest.mark.parametrize("number", range(80))
def test_a_foreign_thing_is_where_it_should_be_and_stands_out(number):
    scene = sample_foreign_scene(number)
    seen = see_foreign(scene, new_dice("test", number), 64)
    assert seen.picture.shape == (64, 64, 3)
    assert 0 <= seen.picture.min() <= seen.picture.max() <= 1
    # the topmost of things one inside the other is the first
    thing = seen.scene.things[0]
    if thing.shape in ("circle", "square", "cross"):  # centred for sure
        at = seen.picture[int(thing.y * 64), int(thing.x * 64)] * 255
        assert np.abs(at - np.array(thing.rgb)).max() < 70
        assert np.abs(at - np.array(seen.scene.ground.rgb)).max() > 20


def test_grounds_without_a_name_are_labelled_as_unknown():
    unnamed = [one for one in SIGHTS if not one.has_named_ground]
    assert 0.05 < len(unnamed) / len(SIGHTS) < 0.25
    for one in SIGHTS:
        labels = patch_labels(one.scene, 64, one.has_named_ground)
        assert (set(labels[:, 3]) == {UNKNOWN}) == (not one.has_named_ground)


def test_labels_name_row_and_column():
    labels = patch_labels(SIGHTS[0].scene, 64)
    assert labels.shape == (64, len(CLASSES))
    assert labels[:, 4:6].tolist() == [[row, column] for row in range(8) for column in range(8)]


def test_labels_lead_to_the_centre():
    for one in SIGHTS[:60]:
        labels = patch_labels(one.scene, 64).reshape(8, 8, -1)
        for row, column in np.ndindex(8, 8):
            down, across = labels[row, column, 6:] - 3
            if not labels[row, column, 0]:
                assert labels[row, column, 6] == labels[row, column, 7] == UNKNOWN
            elif max(abs(down), abs(across)) < 3 and one.scene.relation != "inside":
                near = [
                    abs(t.y - (row + down + 0.5) / 8) + abs(t.x - (column + across + 0.5) / 8)
                    for t in one.scene.things
                ]
                assert min(near) <= 1 / 8 + 1e-9


def test_manners_vary():
    scene = sample_foreign_scene(3)
    pictures = [see_foreign(scene, new_dice("test", number), 64) for number in range(20)]
    assert len({one.picture.tobytes() for one in pictures}) == 20
    assert len({one.scene.ground.rgb for one in pictures}) > 10
    assert len({one.scene.things[0].rgb for one in pictures}) > 10


def test_strangers_show_every_colour_and_shape_once():
    shown = strangers(1)
    assert Counter((one.colour, one.shape) for one in shown) == {
        (colour, shape): 1 for colour in COLOURS for shape in SHAPES
    }
    assert all(one.image.size == (240, 240) for one in shown)


def test_strangers_depend_on_their_seed():
    first, again, other = strangers(1), strangers(1), strangers(2)
    assert first[5].image.tobytes() == again[5].image.tobytes() != other[5].image.tobytes()


@pytest.mark.parametrize("one", strangers(3))
def test_a_stranger_covers_about_as_much_as_its_shape_should(one):
    levels = np.asarray(one.image).reshape(-1, 3).astype(int)
    ground = levels[0]
    covered = (np.abs(levels - ground).max(axis=1) > 60).mean()
    assert 0.01 < covered < 0.4


def test_strangers_share_no_code_with_the_renderer():
    tree = ast.parse(Path(strangers_file.__file__).read_text(encoding="utf-8"))
    ours = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert ours == []
    assert "janus_training" not in Path(strangers_file.__file__).read_text(encoding="utf-8")
