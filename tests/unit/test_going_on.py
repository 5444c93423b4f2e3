"""Drawings that were interrupted: what is kept of them, and that going on gives the pictures of the seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from janus_core import Drawn, DrawOptions, ImageError, ImageTokens, Janus, SamplingError, Sketch
from janus_core.inputs.image_tokens import UNDRAWN

from .generation.test_drawing import StoppedByTestError
from .generation.test_keeping_the_best import drawer  # noqa: F401 - a fixture
from .test_redraw import CELLS, MIDDLE, ids

OPTIONS = DrawOptions(cfg_weight=1.5, top_k=40)


def interrupted(
    janus: Janus,
    steps: int,
    *,
    num_images: int = 1,
    batch_size: int = 4,
    options: DrawOptions = OPTIONS,
    start: ImageTokens | None = None,
) -> ImageTokens:
    """Draw until a number of steps is done; return what is drawn by then."""
    begun = janus.begin(num_images, start)
    sketch = Sketch(begun)
    assert sketch.tokens() is None

    def stop(done: int, total: int) -> None:
        if done == steps:
            raise StoppedByTestError

    with pytest.raises(StoppedByTestError):
        janus.resume(
            begun, "a cat", seed=5, options=options, batch_size=batch_size, on_step=stop,
            on_tokens=sketch.on_tokens,
        )  # fmt: skip
    tokens = sketch.tokens()
    assert tokens is not None
    return tokens


def whole(janus: Janus, num_images: int = 1, options: DrawOptions = OPTIONS) -> Drawn:
    return janus.draw("a cat", num_images=num_images, seed=5, options=options, batch_size=16)


def resumed(janus: Janus, begun: ImageTokens, options: DrawOptions = OPTIONS, batch_size: int = 16) -> Drawn:
    return janus.resume(begun, "a cat", seed=5, options=options, batch_size=batch_size)


@pytest.mark.parametrize("steps", [1, 7, CELLS])
def test_going_on_equals_the_uninterrupted_drawing(drawer: Janus, steps: int) -> None:  # noqa: F811
    expected = whole(drawer)
    begun = interrupted(drawer, steps)
    assert ids(begun) == [ids(expected.tokens)[0][:steps] + [UNDRAWN] * (CELLS - steps)]
    further = resumed(drawer, begun)
    assert torch.equal(further.tokens.grid, expected.tokens.grid)
    assert torch.equal(further.images, expected.images)
    assert further.seeds == expected.seeds


@pytest.mark.parametrize("together", [1, 2, 5])
def test_pictures_of_several_batches_go_on_each_from_where_it_was(
    drawer: Janus,  # noqa: F811
    together: int,
) -> None:
    begun = interrupted(drawer, CELLS + 3, num_images=5, batch_size=2)
    assert begun.cells_drawn == [CELLS, CELLS, 3, 3, 0]
    further = resumed(drawer, begun, batch_size=together)
    assert torch.equal(further.tokens.grid, whole(drawer, 5).tokens.grid)


@pytest.mark.parametrize("steps", [3, 6, 12])
@pytest.mark.parametrize("batch_size", [8, 3])
def test_a_choice_of_the_best_goes_on_to_the_same_ones(
    drawer: Janus,  # noqa: F811
    steps: int,
    batch_size: int,
) -> None:
    options = replace(OPTIONS, keep_best=2)
    begun = interrupted(drawer, steps, num_images=8, batch_size=batch_size, options=options)
    expected = whole(drawer, 8, options)
    for together in (8, 3):
        further = resumed(drawer, begun, options, together)
        assert further.seeds == expected.seeds
        assert torch.equal(further.tokens.grid, expected.tokens.grid)
        assert further.scores == pytest.approx(expected.scores, abs=1e-3)


def test_pictures_given_up_keep_what_was_drawn_of_them(janus: Janus) -> None:
    options = replace(OPTIONS, keep_best=2)
    begun = interrupted(janus, 12, num_images=8, batch_size=8, options=options)
    assert sorted(begun.cells_drawn) == [4, 4, 4, 4, 8, 8, 12, 12]


def test_more_cells_than_a_cut_looks_at_do_not_change_the_choice(drawer: Janus) -> None:  # noqa: F811
    options = replace(OPTIONS, keep_best=2)
    begun = interrupted(drawer, 13, num_images=8, batch_size=8)
    assert resumed(drawer, begun, options).seeds == whole(drawer, 8, options).seeds


def test_a_drawing_that_goes_on_can_be_interrupted_again(janus: Janus) -> None:
    begun = interrupted(janus, CELLS + 3, num_images=5, batch_size=2)
    again = interrupted(janus, CELLS + 9, num_images=5, batch_size=2, start=begun)
    assert again.cells_drawn == [CELLS, CELLS, 9, 9, 0]
    assert torch.equal(resumed(janus, again).tokens.grid, whole(janus, 5).tokens.grid)


def test_what_is_there_is_read_in_one_pass(janus: Janus, rows_run: list[int]) -> None:
    begun = interrupted(janus, 12)
    rows_run.clear()
    resumed(janus, begun)
    assert rows_run == [2, 2, 2, 2, 2]  # the prompt, the cells that are there, a step for each but the first


def test_another_prompt_goes_on_from_the_same_cells(janus: Janus) -> None:
    begun = interrupted(janus, 7)
    [other] = ids(janus.resume(begun, "a house", seed=5, options=OPTIONS).tokens)
    assert other[:7] == ids(begun)[0][:7]
    assert other[7:] != ids(whole(janus).tokens)[0][7:]


def test_several_pictures_go_on_from_one(janus: Janus) -> None:
    begun = interrupted(janus, 7)
    several = ids(resumed(janus, janus.begin(3, begun)).tokens)
    alone = [janus.resume(begun, "a cat", seed=seed, options=OPTIONS) for seed in (5, 6, 7)]
    assert several == [ids(drawn.tokens)[0] for drawn in alone]
    assert several[0] != several[1]


def test_finished_pictures_are_decoded(janus: Janus, rows_run: list[int]) -> None:
    drawn = whole(janus)
    rows_run.clear()
    again = janus.resume(drawn.tokens, "a house")
    assert torch.equal(again.images, drawn.images)
    assert rows_run == []


def test_unfinished_tokens_survive_a_file(janus: Janus, tmp_path: Path) -> None:
    begun = interrupted(janus, 7)
    begun.save(tmp_path / "begun.safetensors")
    assert torch.equal(ImageTokens.load(tmp_path / "begun.safetensors").grid, begun.grid)


# what cannot be gone on from


USES: dict[str, Callable[[Janus, ImageTokens], object]] = {
    "decode": lambda janus, tokens: janus.decode(tokens),
    "redraw": lambda janus, tokens: janus.redraw(tokens, MIDDLE, "a cat"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_unfinished_pictures_are_named_where_whole_ones_are_needed(
    janus: Janus, use: Callable[[Janus, ImageTokens], object]
) -> None:
    begun = interrupted(janus, CELLS + 3, num_images=4, batch_size=2)
    with pytest.raises(ImageError, match=r"2 of 4 pictures are not finished, .* number 3, after 3 of 16"):
        use(janus, begun)


@pytest.mark.parametrize("token", [UNDRAWN, -2, 64])
def test_damaged_tokens_are_refused(janus: Janus, token: int) -> None:
    begun = interrupted(janus, 7)
    begun.grid[0, 0, 0] = token
    with pytest.raises(ImageError, match="damaged"):
        resumed(janus, begun)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook": "another"}, "made with the codebook another"),
        ({"grid": torch.zeros(1, 8, 8, dtype=torch.int64)}, "grid of 8 × 8; this model draws 4 × 4"),
    ],
)
def test_tokens_of_another_model_are_refused(janus: Janus, changes: dict[str, object], message: str) -> None:
    begun = replace(interrupted(janus, 7), **changes)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=message):
        resumed(janus, begun)


def test_a_wrong_number_of_pictures_is_refused(janus: Janus) -> None:
    begun = interrupted(janus, 7, num_images=3)
    assert len(janus.begin(1, begun)) == len(janus.begin(3, begun)) == 3
    with pytest.raises(ImageError, match="3 pictures to start from, but 2"):
        janus.begin(2, begun)
    with pytest.raises(SamplingError, match="num_images"):
        janus.begin(0)
