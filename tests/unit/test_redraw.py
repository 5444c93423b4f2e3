from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from janus_core import DrawOptions, ImageError, ImageTokens, Janus, RedrawOptions, SamplingError
from janus_core.generation import static_decoder
from janus_core.generation.noise import gumbel_noise
from janus_core.inputs.masks import fit_masks, redrawn_cells
from janus_core.inputs.preprocessing import fitted_samples

from .generation.test_drawing import image_logits, rows

SIDE, SIZE, CELLS = 4, 16, 16
MIDDLE = torch.zeros(SIZE, SIZE)
MIDDLE[4:12, 8:16] = 1.0  # cells 6, 7, 10, 11
REDRAWN = [6, 7, 10, 11]


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(5))


@pytest.fixture(params=["streamed", "static"])
def drawer(
    request: pytest.FixtureRequest,
    make_janus: Callable[[torch.dtype], Janus],
    monkeypatch: pytest.MonkeyPatch,
) -> Janus:
    """The model with either decoder; the static one reads layers that nobody has packed."""
    made = make_janus(torch.float32)
    if request.param == "static":
        monkeypatch.setattr(static_decoder, "may_capture", lambda model, compute: True)
        monkeypatch.setattr("janus_core.painting.pack_for_drawing", lambda language: None)
    return made


def ids(tokens: ImageTokens) -> list[list[int]]:
    found: list[list[int]] = tokens.grid.flatten(1).tolist()
    return found


def options(**changes: Any) -> RedrawOptions:
    return RedrawOptions(**changes)


# both ends


@pytest.mark.parametrize("negative_prompt", ["", "grey and much too blurred"])
def test_a_full_mask_equals_a_draw(drawer: Janus, picture: Tensor, negative_prompt: str) -> None:
    chosen = DrawOptions(temperature=0.9, top_k=40)
    drawn = drawer.draw("a cat", num_images=3, seed=8, negative_prompt=negative_prompt, options=chosen)
    asked = options(num_images=3, negative_prompt=negative_prompt, drawing=chosen)
    redrawn = drawer.redraw(picture, torch.ones(SIZE, SIZE), "a cat", seed=8, options=asked)
    assert torch.equal(redrawn.tokens.grid, drawn.tokens.grid)
    assert torch.equal(redrawn.images, drawn.images)
    assert redrawn.seeds == drawn.seeds


def test_an_empty_mask_returns_the_picture_bit_for_bit(
    janus: Janus, picture: Tensor, rows_run: list[int]
) -> None:
    redrawn = janus.redraw(picture, torch.zeros(SIZE, SIZE), "a cat")
    assert torch.equal(redrawn.images[0], picture)
    assert torch.equal(redrawn.tokens.grid, janus.encode(picture).grid)
    assert rows_run == []


def test_strength_zero_returns_the_encoded_picture(
    janus: Janus, picture: Tensor, rows_run: list[int]
) -> None:
    asked = options(strength=0.0, keep_original=False)
    redrawn = janus.redraw(picture, torch.ones(SIZE, SIZE), "a cat", options=asked)
    source = janus.encode(picture)
    assert torch.equal(redrawn.tokens.grid, source.grid)
    assert torch.equal(redrawn.images, janus.decode(source))
    assert rows_run == []


# between


def test_kept_cells_keep_their_tokens_and_their_pixels(drawer: Janus, picture: Tensor) -> None:
    redrawn = drawer.redraw(picture, MIDDLE, "a cat", seed=3)
    [before], [after] = ids(drawer.encode(picture)), ids(redrawn.tokens)
    changed = [cell for cell in range(CELLS) if before[cell] != after[cell]]
    assert changed
    assert set(changed) <= set(REDRAWN)
    assert torch.equal(redrawn.images[0][MIDDLE == 0], picture[MIDDLE == 0])
    decoded = drawer.decode(redrawn.tokens)[0]
    assert torch.equal(redrawn.images[0][MIDDLE == 1], decoded[MIDDLE == 1])


def one_by_one(janus: Janus, tokens: list[int], cells: list[int], seed: int) -> list[int]:
    """Redraw by drawings that are told all tokens but one: the plainest reading of the rule."""
    cond, uncond = rows(janus, "a cat")
    for cell in cells:
        away = image_logits(janus, uncond, tokens[:cell])
        logits = away + 5.0 * (image_logits(janus, cond, tokens[:cell]) - away)
        noise = gumbel_noise([seed], [cell], len(logits), torch.device("cpu"))
        tokens[cell] = int((logits + noise.flatten()).argmax())
    return tokens


def test_redrawn_cells_are_drawn_with_all_cells_before_them(drawer: Janus, picture: Tensor) -> None:
    [source] = ids(drawer.encode(picture))
    redrawn = drawer.redraw(picture, MIDDLE, "a cat", seed=3)
    assert ids(redrawn.tokens) == [one_by_one(drawer, source, REDRAWN, 3)]


def test_picture_and_tokens_as_source_give_the_same_tokens(janus: Janus, picture: Tensor) -> None:
    source = janus.encode(picture)
    from_tokens = janus.redraw(source, MIDDLE, "a cat")
    assert ids(from_tokens.tokens) == ids(janus.redraw(picture, MIDDLE, "a cat").tokens)
    assert torch.equal(from_tokens.images[0][MIDDLE == 0], janus.decode(source)[0][MIDDLE == 0])


def test_less_strength_keeps_more_of_the_source(drawer: Janus) -> None:
    sources = drawer.draw("a house", num_images=8, seed=50).tokens
    kept = []
    for strength in (1.0, 0.8, 0.5, 0.2, 0.01):
        asked = options(strength=strength, drawing=DrawOptions(min_p=0.2))
        redrawn = drawer.redraw(sources, torch.ones(SIZE, SIZE), "a cat", options=asked)
        kept.append(int((redrawn.tokens.grid == sources.grid).sum()))
    assert kept == sorted(kept)
    assert kept[0] < kept[2] < kept[-1] == sources.grid.numel()


# batches


def test_the_batch_size_does_not_change_pictures(janus: Janus) -> None:
    sources = janus.draw("a house", num_images=3, seed=50).tokens
    masks = torch.stack([MIDDLE, MIDDLE.T, torch.ones(SIZE, SIZE)])
    whole = janus.redraw(sources, masks, "a cat", seed=4, batch_size=3)
    assert ids(janus.redraw(sources, masks, "a cat", seed=4, batch_size=1).tokens) == ids(whole.tokens)
    assert ids(janus.redraw(sources, masks, "a cat", seed=4, batch_size=2).tokens) == ids(whole.tokens)


def test_a_picture_that_keeps_everything_may_stand_among_others(janus: Janus) -> None:
    sources = janus.draw("a house", num_images=2, seed=50).tokens
    masks = torch.stack([torch.zeros(SIZE, SIZE), MIDDLE])
    redrawn = janus.redraw(sources, masks, "a cat", batch_size=1)
    assert ids(redrawn.tokens)[0] == ids(sources)[0]
    assert ids(redrawn.tokens)[1] != ids(sources)[1]


def test_one_mask_serves_all_pictures(janus: Janus) -> None:
    sources = janus.draw("a house", num_images=2, seed=50).tokens
    each = janus.redraw(sources, torch.stack([MIDDLE, MIDDLE]), "a cat")
    assert ids(janus.redraw(sources, MIDDLE, "a cat").tokens) == ids(each.tokens)


def test_several_pictures_of_one_source_use_a_seed_each(janus: Janus, picture: Tensor) -> None:
    several = ids(janus.redraw(picture, MIDDLE, "a cat", seed=6, options=options(num_images=3)).tokens)
    assert several == [ids(janus.redraw(picture, MIDDLE, "a cat", seed=seed).tokens)[0] for seed in (6, 7, 8)]


# masks


@pytest.mark.parametrize(("value", "is_redrawn"), [(0.5, False), (0.51, True)])
def test_a_cell_is_redrawn_above_a_half_anywhere_in_it(
    janus: Janus, picture: Tensor, value: float, is_redrawn: bool
) -> None:
    mask = torch.zeros(SIZE, SIZE)
    mask[5, 6] = value
    source = ids(janus.encode(picture))[0]
    changed = [ids(janus.redraw(picture, mask, "a cat", seed=seed).tokens)[0] != source for seed in range(4)]
    assert any(changed) == is_redrawn


def test_a_feathered_mask_blends(janus: Janus, picture: Tensor) -> None:
    mask = MIDDLE.clone()
    mask[4:12, 8:10] = 0.25  # in cells that the rest of the mask has redrawn
    redrawn = janus.redraw(picture, mask, "a cat", seed=3)
    new = janus.decode(redrawn.tokens)[0]
    torch.testing.assert_close(redrawn.images[0][6, 8], new[6, 8] * 0.25 + picture[6, 8] * 0.75)
    assert torch.equal(redrawn.images[0][6, 12], new[6, 12])


def test_without_the_original_the_whole_picture_is_decoded(janus: Janus, picture: Tensor) -> None:
    redrawn = janus.redraw(picture, MIDDLE, "a cat", options=options(keep_original=False))
    assert torch.equal(redrawn.images, janus.decode(redrawn.tokens))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_mask_goes_the_way_of_its_picture(fit: Any) -> None:
    samples = np.zeros((24, 48, 3), np.float32)
    samples[:, 24:] = 1.0  # the right half is white, and masked
    fitted = fit_masks([samples[..., 0]], [(48, 24)], SIZE, fit)
    white = torch.from_numpy(fitted_samples(samples, SIZE, fit))[..., 0] > 0.6  # brighter than padding
    assert torch.equal(fitted[0] > 0.6, white)
    rows = slice(1, 3) if fit == "pad" else slice(0, 4)
    expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[rows, 2:] = True
    assert torch.equal(redrawn_cells(fitted, SIDE), expected.reshape(1, CELLS))


def test_a_mask_of_another_size_is_stretched_over_its_picture(janus: Janus, picture: Tensor) -> None:
    big = MIDDLE.repeat_interleave(4, 0).repeat_interleave(4, 1)
    expected = ids(janus.redraw(picture, MIDDLE, "a cat").tokens)
    assert ids(janus.redraw(picture, big, "a cat").tokens) == expected
    redrawn = janus.redraw(picture, torch.zeros(64, 64), "a cat")  # what a picture without alpha comes with
    assert torch.equal(redrawn.images[0], picture)


# what cannot be redrawn


BAD: dict[str, tuple[Any, str]] = {
    "no pixels": (torch.zeros(0, 4), "at least 1×1"),
    "four axes": (torch.zeros(1, 1, 4, 4), "has shape"),
    "nan": (torch.full((4, 4), float("nan")), "NaN or infinite"),
    "three masks": (torch.zeros(3, 4, 4), "3 masks for 2 pictures"),
    "no mask": ("mask.png", "is no mask"),
}


@pytest.mark.parametrize(("mask", "message"), BAD.values(), ids=BAD.keys())
def test_masks_that_are_none_are_refused(janus: Janus, picture: Tensor, mask: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        janus.redraw([picture, picture], mask, "a cat")


def test_more_pictures_than_sources_are_refused(janus: Janus, picture: Tensor) -> None:
    with pytest.raises(ImageError, match="2 pictures to start from, but 3"):
        janus.redraw([picture, picture], MIDDLE, "a cat", options=options(num_images=3))


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_has_a_range(strength: float) -> None:
    with pytest.raises(SamplingError, match="strength"):
        options(strength=strength)


def test_interrupting_leaves_the_model_usable(janus: Janus, picture: Tensor) -> None:
    before = ids(janus.redraw(picture, MIDDLE, "a cat").tokens)

    def interrupt(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        janus.redraw(picture, MIDDLE, "a cat", on_step=interrupt)
    assert ids(janus.redraw(picture, MIDDLE, "a cat").tokens) == before


def test_half_precision_redraws(make_janus: Callable[[torch.dtype], Janus], picture: Tensor) -> None:
    half = make_janus(torch.bfloat16)
    asked = options(strength=0.5)
    redrawn = half.redraw(picture, MIDDLE, "a cat", options=asked)
    assert torch.equal(redrawn.images[0][MIDDLE == 0], picture[MIDDLE == 0])
