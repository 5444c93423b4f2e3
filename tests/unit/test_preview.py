from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from janus_core import Janus, decoded_preview, fit_code_colours, preview_image

SIDE, SIZE_PX = 4, 16
TOKENS = torch.arange(0, 64, 4)


@pytest.fixture(scope="module")
def colours(janus: Janus) -> torch.Tensor:
    with torch.inference_mode():
        return fit_code_colours(janus.model.vq_tokenizer, torch.float32, torch.device("cpu"))


def decoded(janus: Janus, count: int) -> torch.Tensor:
    with torch.inference_mode():
        return decoded_preview(janus.model.vq_tokenizer, TOKENS[:count], SIDE, torch.float32)


def test_every_code_has_a_colour(colours: torch.Tensor) -> None:
    assert colours.shape == (64, 3)
    assert 0 <= colours.min() <= colours.max() <= 1
    assert len(colours.unique(dim=0)) > 8


def test_a_rough_preview_shows_each_cell_in_its_colour(colours: torch.Tensor) -> None:
    image = preview_image(TOKENS, colours, SIDE, SIZE_PX)
    assert image.shape == (SIZE_PX, SIZE_PX, 3)
    assert torch.equal(image[4:8, 8:12], colours[TOKENS[6]].expand(4, 4, 3))  # row 1, column 2


def test_a_decoded_preview_of_a_whole_grid_is_the_picture(janus: Janus) -> None:
    with torch.inference_mode():
        pixels = janus.decode_pixels(TOKENS.view(1, SIDE, SIDE))
    assert_close(decoded(janus, 16), (pixels[0].clamp(-1, 1) + 1).permute(1, 2, 0) / 2)


@pytest.mark.parametrize("count", [1, 5, 15])
@pytest.mark.parametrize("way", ["rough", "decoded"])
def test_cells_not_yet_drawn_are_grey(janus: Janus, colours: torch.Tensor, way: str, count: int) -> None:
    image = preview_image(TOKENS[:count], colours, SIDE, SIZE_PX) if way == "rough" else decoded(janus, count)
    cells = image.unfold(0, 4, 4).unfold(1, 4, 4).flatten(0, 1)  # (cells, 3, 4, 4)
    is_grey = (cells == 0.5).flatten(1).all(dim=1)
    assert is_grey.tolist() == [False] * count + [True] * (16 - count)
