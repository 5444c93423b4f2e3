"""Image tokens by role: they tell a scene completely, compose, and read back."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from janus_training.world.detector import detect
from janus_training.world.rendering import render
from janus_training.world.roles import SIDE, Role, cells_of, read_roles, rim, role_codes, role_tokens, roles
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.vocabulary import COLOURS, SHAPES, SIZES

SCENES = [sample_scene(seed, "test" if seed % 2 else "train", is_drawn=True) for seed in range(400)]
INSIDE = [scene for scene in SCENES if scene.relation == "inside"]


def sorts_of(things):
    return Counter((thing.colour, thing.shape, thing.size) for thing in things)


def test_every_token_says_something_else():
    assert len(set(roles())) == len(roles()) <= 320


@pytest.mark.parametrize("scene", SCENES)
def test_tokens_read_back_as_their_scene(scene):
    read = read_roles(role_tokens(scene))
    assert read is not None
    ground, things = read
    assert ground == scene.ground.colour
    assert sorts_of(things) == sorts_of(scene.things)
    cells = {(thing.row, thing.column) for thing in things}
    inner = scene.things[:1] if scene.relation == "inside" else scene.things
    assert cells == {(int(thing.y * SIDE), int(thing.x * SIDE)) for thing in inner}


def test_inside_is_among_what_is_read():
    assert len(INSIDE) > 20
    for scene in INSIDE:
        _, things = read_roles(role_tokens(scene))
        assert [thing.is_outer for thing in things] == [False, True]
        assert things[1].colour == scene.things[1].colour


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.relation != "inside"][:100])
def test_another_colour_changes_one_token(scene):
    other = COLOURS[(COLOURS.index(scene.things[0].colour) + 1) % len(COLOURS)]
    changed = replace(scene, things=(replace(scene.things[0], colour=other), *scene.things[1:]))
    assert (role_tokens(scene) != role_tokens(changed)).sum() == 1


def test_no_cell_tells_two_things():
    for scene in SCENES:
        if scene.relation != "inside":
            cells = [cell[:2] for thing in scene.things for cell in cells_of(thing)]
            assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("shape", SHAPES)
def test_sizes_have_tokens_of_their_own(shape):
    said = [
        {role for role in roles() if (role.part, role.shape, role.size) == ("rim", shape, size)}
        for size in SIZES
    ]
    assert [len(each) for each in said] == [len(rim(shape, size)) for size in SIZES]
    assert not said[0] & said[1]


@pytest.mark.parametrize("seed", range(60))
def test_a_token_changed_at_random_contradicts_the_others(seed):
    scene = SCENES[seed]
    tokens, true = role_tokens(scene), read_roles(role_tokens(scene))
    dice = np.random.Generator(np.random.PCG64(seed))
    row, column = dice.integers(SIDE, size=2)
    tokens[row, column] = (tokens[row, column] + 1 + dice.integers(len(roles()) - 1)) % len(roles())
    read = read_roles(tokens)
    assert read != true
    if read is not None:  # another colour in a centre, or another ground, is no contradiction
        assert roles()[tokens[row, column]].part in ("centre", "around")


def test_an_empty_grid_shows_nothing():
    assert read_roles(np.zeros((SIDE, SIDE), dtype=np.int64)) is None
    assert read_roles(np.full((SIDE, SIDE), len(roles()), dtype=np.int64)) is None


@pytest.mark.parametrize("scene", SCENES[:150])
def test_the_detector_finds_in_the_picture_what_the_tokens_tell(scene):
    told = [(thing.colour, thing.shape) for thing in read_roles(role_tokens(scene))[1]]
    found = [(thing.colour, thing.shape) for thing in detect(render(scene))]
    assert Counter(told) == Counter(found)


def test_a_scene_that_lies_anywhere_gets_the_nearest_tokens():
    free = [sample_scene(seed) for seed in range(200)]
    for scene in free:
        tokens = role_tokens(scene)
        said = Counter(roles()[token].colour for token in tokens.flat if roles()[token].part == "centre")
        centres = {(int(t.y * SIDE), int(t.x * SIDE)): t.colour for t in scene.things}
        if scene.relation != "inside" and len(centres) == len(scene.things):
            assert said == Counter(centres.values())


def test_codes_of_tokens_that_differ_in_one_thing_lie_near_each_other():
    codes = role_codes(32, 1)
    codes = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    first = roles().index(Role("rim", None, "circle", "small", (0, 1)))
    near = roles().index(Role("rim", None, "circle", "medium", (0, 1)))
    far = roles().index(Role("centre", "red"))
    assert codes[first] @ codes[near] > 0.5 > abs(codes[first] @ codes[far])
    assert np.array_equal(role_codes(32, 1), role_codes(32, 1))
    assert len(codes) == len(roles())
