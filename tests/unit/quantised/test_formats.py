"""The formats on matrices small enough to work out by hand, and the error of each on normal numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from janus_core.quantised.formats import FORMATS
from janus_core.quantised.rotation import is_rotation, rotated, rotation
from janus_core.quantised.tiles import from_tiles, tiled_shape, to_tiles

CPU = torch.device("cpu")


def quantised(name: str, matrix: Tensor, size: int = 0) -> dict[str, Tensor]:
    made = FORMATS[name]
    assert made.quantise is not None
    return made.quantise(matrix, size, matrix.abs().amax())


def there_and_back(name: str, matrix: Tensor, size: int = 0) -> Tensor:
    return FORMATS[name].dequantise(quantised(name, matrix, size), size, torch.float32)


# --- rotation and tiles ---


@pytest.mark.parametrize("size", [4, 16, 64, 256])
def test_a_rotation_is_orthogonal_symmetric_and_its_own_inverse(size: int) -> None:
    matrix = rotation(size, CPU)
    assert torch.equal(matrix, matrix.T)
    assert torch.allclose(matrix @ matrix, torch.eye(size), atol=1e-5)
    assert matrix.abs().unique().tolist() == [size**-0.5]
    assert not (matrix.sum(dim=1).abs() > size**0.5 + 1e-3).any()  # no row is constant


def test_each_run_of_columns_is_rotated_alone() -> None:
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    whole = rotated(x, 16)
    assert torch.equal(whole[:, 16:], rotated(x[:, 16:], 16))
    assert torch.allclose(rotated(whole, 16), x, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "can"), [(4, True), (256, True), (8, False), (0, False), (True, False), ("64", False)]
)
def test_only_powers_of_four_rotate(size: object, can: bool) -> None:
    assert is_rotation(size) is can


def test_a_scale_lies_where_the_layout_says() -> None:
    rows, columns = 200, 6
    scales = torch.arange(rows * columns).remainder(251).to(torch.uint8).reshape(rows, columns)
    stored = to_tiles(scales)
    assert stored.shape == tiled_shape(rows, columns) == (256, 8)
    for r, c in ((0, 0), (5, 3), (130, 5), (199, 4), (37, 2)):
        place = ((r // 128) * 2 + c // 4) * 512 + (r % 32) * 16 + ((r % 128) // 32) * 4 + c % 4
        assert stored.reshape(-1)[place] == scales[r, c]
    assert stored.long().sum() == scales.long().sum()  # the rest is zero
    assert torch.equal(from_tiles(stored, rows, columns), scales)


# --- each format ---


def test_float8_has_one_scale_that_makes_the_largest_entry_448() -> None:
    matrix = torch.tensor([[896.0, -2.0], [1.0, 0.0]])
    stored = quantised("float8_e4m3fn", matrix)
    assert stored["weight_scale"].item() == 2
    assert stored["weight"].float().tolist() == [[448, -1], [0.5, 0]]
    assert torch.equal(there_and_back("float8_e4m3fn", matrix), matrix)


def test_int8_has_a_scale_for_each_row() -> None:
    matrix = torch.tensor([[127.0, -1.4], [-0.0254, 0.0254], [0.0, 0.0]])
    stored = quantised("int8_tensorwise", matrix)
    assert stored["weight"].tolist() == [[127, -1], [-127, 127], [0, 0]]
    assert torch.allclose(stored["weight_scale"], torch.tensor([[1.0], [0.0002], [0.0]]))
    assert there_and_back("int8_tensorwise", matrix)[2].tolist() == [0, 0]


def test_mxfp8_scales_32_columns_by_a_power_of_two_that_is_large_enough() -> None:
    matrix = torch.zeros(32, 96)
    matrix[0, 0], matrix[0, 32], matrix[1, 0] = 448, 449, 448 * 2.0**-127
    stored = quantised("mxfp8", matrix)
    exponents = from_tiles(stored["weight_scale"], 32, 3)
    assert exponents[0].tolist() == [127, 128, 0]  # an empty block's is 0
    assert there_and_back("mxfp8", matrix)[0, [0, 32, 64]].tolist() == [448, 448, 0]


def test_nvfp4_rounds_to_the_nearest_of_sixteen_numbers_and_ties_to_even() -> None:
    numbers = [6.0, 0.24, 0.25, 0.26, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 5.01, -0.75, -6.0, -0.1, 0.0, -1.6]
    rounded = [6.0, 0.0, 0.0, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0, -1.0, -6.0, -0.0, 0.0, -1.5]
    matrix = torch.tensor([numbers] * 16) * 448  # so that the scales are 448 and 1
    assert there_and_back("nvfp4", matrix)[0].tolist() == [448 * number for number in rounded]


def test_nvfp4_packs_the_first_number_into_the_upper_half() -> None:
    matrix = torch.zeros(16, 16)
    matrix[0, :2] = torch.tensor([6.0, -0.5])
    assert quantised("nvfp4", matrix)["weight"][0, 0].item() == 0x79


@pytest.mark.parametrize(
    ("name", "size", "error"),
    [
        ("float8_e4m3fn", 0, 0.027),
        ("int8_tensorwise", 0, 0.008),
        ("int8_tensorwise", 256, 0.008),
        ("mxfp8", 0, 0.027),
        ("nvfp4", 0, 0.097),
    ],
)
def test_the_error_on_normal_numbers_is_the_formats_own(name: str, size: int, error: float) -> None:
    matrix = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    found = ((there_and_back(name, matrix, size) - matrix).norm() / matrix.norm()).item()
    assert 0.9 * error < found < error


def test_a_rotation_spreads_an_outlier() -> None:
    matrix = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    matrix[:, 7] *= 50
    plain, turned = (
        (
            (there_and_back("int8_tensorwise", matrix, size) - matrix)[:, 8:].norm() / matrix[:, 8:].norm()
        ).item()
        for size in (0, 256)
    )
    assert turned < plain / 3


@pytest.mark.parametrize("name", [name for name, made in FORMATS.items() if made.quantise is not None])
def test_what_is_written_is_what_is_asked_for_when_it_is_read(name: str) -> None:
    stored = quantised(name, torch.ones(64, 64))
    kinds = FORMATS[name].kinds(64, 64)
    assert stored.keys() == kinds.keys()
    for part, (dtypes, shapes) in kinds.items():
        assert stored[part].dtype == dtypes[0]
        assert tuple(stored[part].shape) == shapes[0]
