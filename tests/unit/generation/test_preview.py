from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from janus_core import Janus, decoded_preview, fit_code_colours, preview_image, to_uint8
from janus_core.inputs.preprocessing import to_images

SIDE, SIZE_PX = 4, 16
TOKENS = torch.arange(0, 64, 4)


@pytest.fixture(scope="module")
def colours(janus: Janus) -> torch.Tensor:
    with torch.inference_mode():
        return fit_code_colours(janus.model.vq_tokenizer, torch.float32, torch.device("cpu"))


def decoded(janus: Janus, count: int) -> torch.Tensor:
    with torch.inference_mode():
        samples = decoded_preview(janus.model.vq_tokenizer, TOKENS[:count], SIDE, torch.float32)
    return torch.from_numpy(samples)


def rough(colours: torch.Tensor, count: int) -> torch.Tensor:
    return torch.from_numpy(preview_image(TOKENS[:count], colours, SIDE, SIZE_PX))


def test_every_code_has_a_colour(colours: torch.Tensor) -> None:
    assert colours.shape == (64, 3)
    assert 0 <= colours.min() <= colours.max() <= 1
    assert len(colours.unique(dim=0)) > 8


def test_a_rough_preview_shows_each_cell_in_its_colour(colours: torch.Tensor) -> None:
    image = rough(colours, 16)
    assert image.shape == (SIZE_PX, SIZE_PX, 3)
    assert image.dtype == torch.uint8
    colour = (colours[TOKENS[6]] * 255).to(torch.uint8)
    assert torch.equal(image[4:8, 8:12], colour.expand(4, 4, 3))  # row 1, column 2


def test_a_decoded_preview_of_a_whole_grid_is_the_picture(janus: Janus) -> None:
    with torch.inference_mode():
        picture = to_images(janus.decode_pixels(TOKENS.view(1, SIDE, SIDE)))
    assert_close(decoded(janus, 16), torch.from_numpy(to_uint8(picture))[0])


@pytest.mark.parametrize("count", [1, 5, 15])
@pytest.mark.parametrize("way", ["rough", "decoded"])
def test_cells_not_yet_drawn_are_grey(janus: Janus, colours: torch.Tensor, way: str, count: int) -> None:
    image = rough(colours, count) if way == "rough" else decoded(janus, count)
    cells = image.unfold(0, 4, 4).unfold(1, 4, 4).flatten(0, 1)  # (cells, 3, 4, 4)
    is_grey = (cells == 127).flatten(1).all(dim=1)
    assert is_grey.tolist() == [False] * count + [True] * (16 - count)
