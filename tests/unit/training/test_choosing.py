"""How choosing among tries is measured: masks over objects, jumps across their borders, and costs."""

from __future__ import annotations

import pytest
import torch

from janus_core import Janus, load_janus
from janus_training.choosing import jumps, measure_best_of, measure_cost, measure_seams, upper_half
from janus_training.world.scenes import Thing


@pytest.fixture(scope="module")
def shapes() -> Janus:
    loaded = load_janus("janus-shapes", device="cpu")
    assert isinstance(loaded, Janus)
    return loaded


def thing(x: float, y: float, radius: float) -> Thing:
    return Thing(shape="circle", colour="red", size="small", x=x, y=y, radius=radius, rgb=(255, 0, 0))


@pytest.mark.parametrize(
    ("centre", "radius", "rows", "columns"),
    [
        ((0.5, 0.5), 0.2, slice(2, 4), slice(2, 6)),
        ((0.1, 0.1), 0.1, slice(0, 1), slice(0, 2)),
        ((0.9, 0.9), 0.2, slice(5, 7), slice(5, 8)),
    ],
)
def test_a_mask_covers_the_upper_half_of_a_thing(
    centre: tuple[float, float], radius: float, rows: slice, columns: slice
) -> None:
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[rows, columns] = True
    assert torch.equal(upper_half(thing(*centre, radius), 8), expected)


def test_a_jump_is_what_pixels_differ_by_across_the_border() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, 1:3, 1:3] = True
    pictures = torch.full((2, 16, 16, 3), 0.5)
    pictures[1, 4:12, 4:12] = 0.8  # a step at the border
    pictures[:, 6:9, 6:9] = 0.0  # and something inside, which is none
    assert jumps(pictures, mask) == pytest.approx([0.0, 0.3])


@pytest.mark.slow
def test_keeping_four_of_sixteen_takes_half_of_the_row_steps(shapes: Janus) -> None:
    cost = measure_cost(shapes, repeats=1)
    assert cost.row_steps <= 0.6


@pytest.mark.slow
def test_what_is_measured_has_every_figure(shapes: Janus) -> None:
    assert list(measure_seams(shapes, 2, (1, 2))) == [
        "the pictures themselves",
        "1 candidate",
        "2 candidates",
    ]
    assert all(figure.endswith("%") or "±" in figure for figure in measure_best_of(shapes, "single", 2, of=2))
