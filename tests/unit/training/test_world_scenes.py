"""Scenes by seed: determinism, the split by composition, and what every scene promises."""

from itertools import combinations

import numpy as np
import pytest

from janus_core.errors import ConfigError
from janus_training.world.compositions import (
    COMBINATIONS,
    all_keys,
    compositions,
    is_held_out,
    is_test_composition,
    relation_key,
    thing_key,
)
from janus_training.world.dice import new_dice, pick_weighted, shuffled
from janus_training.world.outlines import OUTLINES
from janus_training.world.passages import passage
from janus_training.world.questions import questions
from janus_training.world.rendering import render
from janus_training.world.scene_sampling import sample_foreign_scene, sample_scene
from janus_training.world.scenes import is_clear, place_of, relation_between
from janus_training.world.vocabulary import (
    COLOUR_RGB,
    COLOURS,
    GROUND_COLOURS,
    GROUND_RGB,
    KINDS,
    PLACES,
    RADIUS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
)

TRAIN = [sample_scene(seed) for seed in range(600)]
TEST = [sample_scene(seed, "test") for seed in range(300)]
DRAWN = [sample_scene(seed, is_drawn=True) for seed in range(300)]
FOREIGN = [sample_foreign_scene(seed) for seed in range(300)]


def test_a_seed_always_gives_the_same_scene():
    assert [sample_scene(seed) for seed in range(30)] == TRAIN[:30]


def test_different_seeds_give_different_scenes():
    assert len(set(TRAIN)) == len(TRAIN)


def test_scenes_stay_the_same_across_releases():
    scene = sample_scene(2)
    assert [(thing.colour, thing.shape, thing.size) for thing in scene.things] == [
        ("yellow", "star", "small"),
        ("orange", "diamond", "large"),
    ]
    assert scene.relation == "inside"
    assert scene.ground.colour == "white"


@pytest.mark.parametrize("scenes", [TRAIN, DRAWN, FOREIGN])
def test_train_shows_no_held_out_composition(scenes):
    assert not any(map(is_test_composition, scenes))


def test_every_test_scene_shows_a_held_out_composition():
    assert all(map(is_test_composition, TEST))


def test_the_splits_share_no_held_out_composition():
    seen = set().union(*map(compositions, TRAIN))
    held_out = {key for scene in TEST for key in compositions(scene) if is_held_out(key)}
    assert held_out
    assert not seen & held_out


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_about_a_tenth_of_every_combination_is_held_out(combination):
    keys = list(all_keys(combination))
    assert len(set(keys)) == len(keys)
    assert 0.08 < sum(map(is_held_out, keys)) / len(keys) < 0.12


def test_every_composition_of_a_scene_is_among_those_that_can_be_held_out():
    known = {key for combination in COMBINATIONS for key in all_keys(combination)}
    assert set().union(*map(compositions, TRAIN + TEST + DRAWN)) <= known


@pytest.mark.parametrize("words", [COLOURS, SHAPES, PLACES])
def test_training_shows_most_places_of_every_word(words):
    held = [key.split(" ", 3)[1:] for key in all_keys("place") if is_held_out(key)]
    shares = [sum(word in key for key in held) for word in words]
    assert sum(shares) == len(held)
    assert max(shares) < 0.25 * 432 / len(words)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_train_keeps_most_sizes_of_every_coloured_shape(colour, shape):
    assert sum(not is_held_out(thing_key(size, colour, shape)) for size in SIZES) >= 2


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({thing.shape for scene in TRAIN for thing in scene.things}, SHAPES),
        ({thing.colour for scene in TRAIN for thing in scene.things}, COLOURS),
        ({thing.size for scene in TRAIN for thing in scene.things}, SIZES),
        ({scene.ground.colour for scene in TRAIN}, GROUND_COLOURS),
        ({scene.ground.texture for scene in TRAIN}, TEXTURES),
        ({scene.kind for scene in TRAIN}, KINDS),
        ({len(scene.things) for scene in TRAIN}, (1, 2, 3, 4)),
        ({scene.relation for scene in TRAIN} - {None}, ("left of", "above", "inside")),
    ],
)
def test_train_shows_every_word(seen, words):
    assert seen == set(words)


def test_relation_keys_do_not_depend_on_who_is_named_first():
    red, blue = ("red", "circle"), ("blue", "square")
    assert relation_key(red, "right of", blue) == relation_key(blue, "left of", red)
    assert relation_key(red, "above", blue) != relation_key(blue, "above", red)


@pytest.mark.parametrize("scene", [*TRAIN[:100], *DRAWN[:100], *FOREIGN[:100]])
def test_things_lie_within_the_picture(scene):
    for thing in scene.things:
        outline = OUTLINES[thing.shape]
        assert outline.half_width * thing.radius < min(thing.x, 1 - thing.x)
        assert outline.half_height * thing.radius < min(thing.y, 1 - thing.y)


def test_centres_of_what_is_drawn_lie_in_the_middle_of_image_tokens():
    outer = [scene.things[1] for scene in DRAWN if scene.relation == "inside"]
    placed = [thing for scene in DRAWN for thing in scene.things if thing not in outer]
    assert {value * 8 % 1 for thing in placed for value in (thing.x, thing.y)} == {0.5}
    assert len({(thing.x, thing.y) for thing in placed}) == 36


def test_what_is_drawn_has_pure_colours_on_plain_grounds():
    for scene in DRAWN:
        assert scene.ground.texture == "plain"
        assert scene.ground.rgb == GROUND_RGB[scene.ground.colour]
        assert all(thing.rgb == COLOUR_RGB[thing.colour] for thing in scene.things)


def test_what_is_only_looked_at_lies_anywhere():
    between = [thing for scene in TRAIN for thing in scene.things if thing.x * 8 % 1 != 0.5]
    assert 0.4 < len(between) / sum(len(scene.things) for scene in TRAIN) < 0.8


def test_foreign_things_have_any_radius_but_a_clear_size():
    singles = [scene.things[0] for scene in FOREIGN if scene.kind == "single"]
    assert min(thing.radius for thing in singles) < 0.11
    assert max(thing.radius for thing in singles) > 0.3
    for thing in singles:
        near, next_near, _ = sorted(abs(np.log(thing.radius / RADIUS[size])) for size in SIZES)
        assert abs(np.log(thing.radius / RADIUS[thing.size])) == near < 0.7 * next_near + 1e-9


@pytest.mark.parametrize("scene", [scene for scene in TRAIN if len(scene.things) > 1][:100])
def test_things_keep_apart_unless_one_is_inside(scene):
    for a, b in combinations(scene.things, 2):
        first, second = OUTLINES[a.shape], OUTLINES[b.shape]
        across = abs(a.x - b.x) - a.radius * first.half_width - b.radius * second.half_width
        down = abs(a.y - b.y) - a.radius * first.half_height - b.radius * second.half_height
        assert max(across, down) > 0.04 or scene.relation == "inside"


@pytest.mark.parametrize("scene", [scene for scene in TRAIN if scene.kind == "pair"][:100])
def test_a_pair_has_a_clear_canonical_relation(scene):
    assert scene.relation in ("left of", "above", "inside")
    assert is_clear(*scene.things)


def test_no_centre_is_near_a_border_between_places():
    centres = [value for scene in TRAIN for thing in scene.things for value in (thing.x, thing.y)]
    beside = [
        value for scene in TRAIN if scene.relation == "inside" for t in scene.things for value in (t.x, t.y)
    ]
    doubtful = [value for value in centres if 0.34 < value < 0.39 or 0.61 < value < 0.66]
    assert set(doubtful) <= set(beside)  # an inner thing is placed by its relation alone


@pytest.mark.parametrize(
    ("dx", "dy", "relation"),
    [
        (-0.3, 0.1, "left of"),
        (0.3, -0.1, "right of"),
        (0.1, -0.3, "above"),
        (-0.1, 0.3, "below"),
        (0.02, 0, "inside"),
    ],
)
def test_relations_follow_geometry(dx, dy, relation):
    outer = next(scene.things[1] for scene in TRAIN if scene.relation == "inside")

    class Point:
        x, y, radius = outer.x + dx, outer.y + dy, 0.05 if relation == "inside" else outer.radius

    assert relation in RELATIONS
    assert relation_between(Point(), outer) == relation


@pytest.mark.parametrize(
    ("x", "y", "place"),
    [(0.2, 0.2, "top left"), (0.5, 0.5, "centre"), (0.8, 0.5, "right"), (0.5, 0.8, "bottom")],
)
def test_places_follow_coordinates(x, y, place):
    class Point:
        radius = 0.1

    point = Point()
    point.x, point.y = x, y
    assert place_of(point) == place


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_kinds_can_be_chosen(kind, split):
    assert {sample_scene(seed, split, kinds=(kind,)).kind for seed in range(5)} == {kind}


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"seed": 0, "split": "dev"}, {"seed": 0, "kinds": ()}])
def test_impossible_wishes_are_config_errors(arguments):
    with pytest.raises(ConfigError):
        sample_scene(**arguments)


def test_colours_lie_at_least_ninety_apart():
    objects = [np.array(rgb) for rgb in COLOUR_RGB.values()]
    grounds = [np.array(rgb) for rgb in GROUND_RGB.values()]
    pairs = [*combinations(objects, 2), *((a, b) for a in objects for b in grounds)]
    assert min(float(np.linalg.norm(a - b)) for a, b in pairs) >= 90


def test_global_random_state_is_untouched():
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    scene = sample_scene(5)
    render(scene)
    questions(scene, 5)
    passage(5)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_streams_of_one_seed_are_independent():
    assert new_dice("a", 1).random() != new_dice("b", 1).random()


def test_shuffling_keeps_every_option():
    assert sorted(shuffled(new_dice("a", 1), range(9))) == list(range(9))


def test_weights_of_zero_are_never_picked():
    dice = new_dice("a", 1)
    assert {pick_weighted(dice, "abc", (0, 1, 0)) for _ in range(50)} == {"b"}
