"""Pictures of scenes, and the judge that finds their objects again."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from janus_core.errors import ImageError
from janus_training.world.components import dilate, erode, split_components
from janus_training.world.contact_sheet import contact_sheet
from janus_training.world.detector import detect, matches
from janus_training.world.drawing_prompts import drawing_prompt
from janus_training.world.facts import facts_of
from janus_training.world.outlines import OUTLINES
from janus_training.world.parsing import caption_facts
from janus_training.world.patch_labels import patch_labels
from janus_training.world.rendering import render, render_mask
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.scenes import Ground, Scene, Thing
from janus_training.world.segmentation import find_ground
from janus_training.world.vocabulary import COLOUR_RGB, COLOURS, GROUND_COLOURS, GROUND_RGB, SHAPES, SIZES

SCENES = [sample_scene(seed, "test") for seed in range(400)]
GREY = Ground(colour="grey", texture="plain", rgb=GROUND_RGB["grey"], mark_rgb=GROUND_RGB["grey"])


def thing(colour, shape, x, y, radius=0.195, size="medium"):
    return Thing(shape=shape, colour=colour, size=size, x=x, y=y, radius=radius, rgb=COLOUR_RGB[colour])


def blurred(picture, radius):
    levels = Image.fromarray((picture * 255).round().astype(np.uint8))
    return np.asarray(levels.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / np.float32(255)


def noisy(picture, spread, seed):
    return picture + np.random.default_rng(seed).normal(0, spread, picture.shape).astype(np.float32)


# Rendering


@pytest.mark.parametrize("size_px", [32, 64, 96])
def test_pictures_have_the_size_asked_for(size_px):
    picture = render(SCENES[0], size_px)
    assert picture.shape == (size_px, size_px, 3)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_a_scene_is_always_drawn_the_same():
    assert np.array_equal(render(SCENES[1]), render(SCENES[1]))


def test_a_thing_shows_its_colour_at_its_centre_and_the_ground_in_the_corner():
    picture = render(Scene(kind="single", things=(thing("red", "circle", 0.25, 0.75),), ground=GREY))
    assert np.allclose(picture[48, 16] * 255, COLOUR_RGB["red"])
    assert np.allclose(picture[0, 63] * 255, GROUND_RGB["grey"])


def test_an_inner_thing_is_drawn_upon_the_outer():
    inner, outer = thing("red", "circle", 0.5, 0.5, 0.11), thing("blue", "square", 0.5, 0.5, 0.33)
    for things in ((inner, outer), (outer, inner)):
        picture = render(Scene(kind="pair", things=things, ground=GREY))
        assert np.allclose(picture[32, 32] * 255, COLOUR_RGB["red"])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_covers_the_outlines_area_about_its_centroid(shape):
    mask = render_mask(shape, 32.0, 30.0, 20.0, 64, 64)
    outline = OUTLINES[shape]
    assert mask.sum() == pytest.approx(outline.area * 400, rel=0.04)
    assert (mask.sum(0) @ (np.arange(64) + 0.5)) / mask.sum() == pytest.approx(
        32 + 20 * outline.centroid[0], abs=0.3
    )
    assert (mask.sum(1) @ (np.arange(64) + 0.5)) / mask.sum() == pytest.approx(
        30 + 20 * outline.centroid[1], abs=0.3
    )


@pytest.mark.parametrize("texture", ["striped", "dotted", "checked"])
def test_textures_are_faint_but_there(texture):
    ground = replace(GREY, texture=texture, mark_rgb=(150, 152, 155))
    picture = render(Scene(kind="single", things=(thing("red", "star", 0.5, 0.5),), ground=ground))
    assert 0 < picture[:8].std() < 0.03


def test_a_picture_of_four_pixels_is_refused():
    with pytest.raises(ImageError, match="side 4"):
        render(SCENES[0], 4)


# Components


def test_parts_that_touch_by_an_edge_are_one_component():
    mask = np.array([[1, 1, 0, 0, 1], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
    labels = np.array([[1, 1, 0, 0, 2], [0, 1, 0, 0, 2], [0, 0, 3, 0, 0], [3, 3, 3, 3, 3]])
    parts = split_components(mask)
    assert [part.tolist() for part in parts] == [(labels == label).tolist() for label in (1, 2, 3)]


def test_a_spiral_is_one_component():
    mask = np.zeros((9, 9), dtype=bool)
    mask[0], mask[:, 8], mask[8], mask[2:, 0], mask[2, :7], mask[2:7, 6], mask[6, 2:7] = (True,) * 7
    mask[1, 8] = True
    assert len(split_components(mask)) == 1


def test_an_empty_mask_has_no_components():
    assert split_components(np.zeros((5, 5), dtype=bool)) == []


def test_erosion_undoes_dilation_of_a_block():
    mask = np.zeros((9, 9), dtype=bool)
    mask[3:6, 2:6] = True
    assert np.array_equal(erode(dilate(mask)), mask)


# Detector


def rate(distort):
    found = [matches(facts_of(scene), detect(distort(render(scene), n))) for n, scene in enumerate(SCENES)]
    return sum(found) / len(found)


def test_the_detector_is_right_on_true_pictures():
    assert rate(lambda picture, n: picture) >= 0.99


def test_the_detector_is_right_on_blurred_noisy_pictures():
    assert rate(lambda picture, n: noisy(blurred(picture, 0.7), 0.03, n)) >= 0.98


def test_the_grounds_colour_is_found():
    assert all(find_ground(render(scene)) == scene.ground.colour for scene in SCENES[:150])


@pytest.mark.parametrize("size_px", [48, 96, 192])
def test_the_detector_works_at_other_sizes(size_px):
    found = [matches(facts_of(scene), detect(render(scene, size_px))) for scene in SCENES[:40]]
    assert sum(found) >= 39


@pytest.mark.parametrize("scene", SCENES[:40])
def test_detected_places_and_radii_are_those_of_the_scene(scene):
    found, true_things = (
        sorted(things, key=lambda thing: (round(16 * thing.x), round(16 * thing.y), thing.radius))
        for things in (detect(render(scene)), scene.things)
    )
    for seen, true in zip(found, true_things, strict=True):
        assert abs(seen.x - true.x) < 0.012
        assert abs(seen.y - true.y) < 0.012
        assert seen.radius == pytest.approx(true.radius, rel=0.08)


@pytest.mark.parametrize("seed", range(60))
def test_a_prompt_matches_its_own_picture_only(seed):
    scene, other = (
        SCENES[seed],
        next(s for s in SCENES if facts_of(s).counts() != facts_of(SCENES[seed]).counts()),
    )
    facts = caption_facts(drawing_prompt(scene, seed))
    assert matches(facts, detect(render(scene)))
    assert not matches(facts, detect(render(other)))


PAIR = Scene(
    kind="pair",
    things=(thing("red", "circle", 0.5, 0.22), thing("blue", "square", 0.5, 0.78)),
    ground=GREY,
)


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ("a red circle above a blue square", True),
        ("a blue square below a red circle", True),
        ("a red circle and a blue square", True),
        ("a medium red circle at the top and a blue square", True),
        ("a red circle below a blue square", False),
        ("a red circle left of a blue square", False),
        ("a red circle inside a blue square", False),
        ("a blue circle above a red square", False),
        ("a red diamond above a blue square", False),
        ("a purple circle above a blue square", False),
        ("two red circles and a blue square", False),
        ("a red circle", False),
        ("a small red circle above a blue square", False),
        ("a red circle at the bottom and a blue square", False),
    ],
)
def test_every_stated_fact_is_judged(text, is_match):
    assert matches(caption_facts(text), detect(render(PAIR))) is is_match


def test_things_of_different_colour_that_touch_are_told_apart():
    things = (thing("red", "square", 0.3, 0.5), thing("blue", "square", 0.3 + 0.155 * 1.63, 0.5))
    found = detect(render(Scene(kind="pair", things=things, ground=GREY)))
    assert sorted((item.colour, item.shape) for item in found) == [("blue", "square"), ("red", "square")]


def test_a_thing_in_the_crook_of_another_of_its_colour_is_a_thing_of_its_own():
    picture = np.full((64, 64, 3), GROUND_RGB["white"], np.float32) / 255
    picture[4:50, 4:14] = picture[4:14, 4:60] = np.float32(COLOUR_RGB["green"]) / 255
    picture[30:58, 14:30] = np.float32(COLOUR_RGB["red"]) / 255
    picture[30:42, 30:42] = np.float32(COLOUR_RGB["green"]) / 255
    assert sorted(thing.colour for thing in detect(picture)) == ["green", "green", "red"]


def test_a_thing_that_is_no_shape_matches_nothing():
    picture = np.full((64, 64, 3), 0.63, dtype=np.float32)
    picture[10:54, 10:14] = picture[10:14, 10:54] = np.array(COLOUR_RGB["red"]) / 255
    assert not any(matches(caption_facts(f"a red {shape}"), detect(picture)) for shape in SHAPES)


def test_specks_are_no_objects():
    picture = render(PAIR)
    picture[4:7, 4:7] = np.array(COLOUR_RGB["green"]) / 255
    assert len(detect(picture)) == 2


def test_an_empty_ground_holds_nothing():
    assert detect(np.full((64, 64, 3), 0.63, dtype=np.float32)) == []


def test_the_detector_refuses_what_is_no_square_picture():
    with pytest.raises(ImageError, match=r"\(64, 32, 3\)"):
        detect(np.zeros((64, 32, 3), dtype=np.float32))


# Contact sheet


def test_a_contact_sheet_holds_every_picture_enlarged():
    sheet = contact_sheet(
        [render(scene) for scene in SCENES[:5]], ["a very long caption of a scene"] * 5, columns=3
    )
    levels = np.asarray(sheet)
    assert levels.shape[1] == 3 * 170 + 10
    corner = render(SCENES[3])[0, 0] * 255
    top = 10 + (levels.shape[0] - 10) // 2
    assert np.allclose(levels[top, 10], corner.round(), atol=1)


def test_a_contact_sheet_needs_a_caption_for_each_picture():
    with pytest.raises(ImageError, match="2 and 1"):
        contact_sheet([render(SCENES[0])] * 2, ["one"])


@pytest.mark.parametrize("seed", range(40))
def test_the_patch_at_a_things_centre_is_labelled_with_it(seed):
    scene = sample_scene(seed, kinds=("single", "count", "mixed"))
    labels = patch_labels(scene, 64).reshape(8, 8, -1)
    for thing in scene.things:
        assert named(labels[int(thing.y * 8), int(thing.x * 8)]) == (thing.colour, thing.shape, thing.size)
    assert {GROUND_COLOURS[number] for number in labels[..., 3].flat} == {scene.ground.colour}


@pytest.mark.parametrize("seed", range(40))
def test_labels_name_the_things_and_no_others(seed):
    scene = sample_scene(seed)
    found = {named(label) for label in patch_labels(scene, 64) if label[0]}
    assert found == {(thing.colour, thing.shape, thing.size) for thing in scene.things}


def named(label):
    return COLOURS[label[0] - 1], SHAPES[label[1] - 1], SIZES[label[2] - 1]


@pytest.mark.parametrize("seed", range(40))
def test_patches_without_a_thing_look_like_the_ground(seed):
    scene = sample_scene(seed)
    is_empty = (patch_labels(scene, 64)[:, 0] == 0).reshape(8, 8)
    picture = render(scene).reshape(8, 8, 8, 8, 3).swapaxes(1, 2)[is_empty]
    assert is_empty.any()
    assert np.abs(picture - np.array(scene.ground.rgb) / 255).mean() < 0.06
