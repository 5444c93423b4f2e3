from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from janus_core import ImageError, ImageTokens, Janus, OutputError
from janus_core.inputs.image_tokens import codebook_identity

CODEBOOK = "64x8-0123456789abcdef"


@pytest.fixture
def grid() -> Tensor:
    return torch.arange(32).reshape(2, 4, 4)


@pytest.fixture
def tokens(grid: Tensor) -> ImageTokens:
    return ImageTokens(grid=grid, codebook=CODEBOOK)


@pytest.fixture
def saved(tokens: ImageTokens, tmp_path: Path) -> Path:
    path = tmp_path / "drawn.safetensors"
    tokens.save(path)
    return path


# the value


def test_the_length_is_the_number_of_pictures(tokens: ImageTokens) -> None:
    assert len(tokens) == 2


@pytest.mark.parametrize(
    "grid",
    [torch.zeros(2, 4, 4), torch.zeros(2, 16, dtype=torch.int64), torch.zeros(0, 4, 4, dtype=torch.int64)],
    ids=["fractions", "flat", "no picture"],
)
def test_what_is_no_grid_of_whole_numbers_is_refused(grid: Tensor) -> None:
    with pytest.raises(ImageError, match=r"whole numbers in a grid"):
        ImageTokens(grid=grid, codebook=CODEBOOK)


# the codebook's identity


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_identity_is_the_same_in_every_dtype(janus: Janus, dtype: torch.dtype) -> None:
    stored = janus.model.vq_tokenizer.codebook.weight.bfloat16()
    assert codebook_identity(stored.to(dtype)) == codebook_identity(stored.float())


def test_one_changed_value_changes_the_identity(janus: Janus) -> None:
    codebook = janus.model.vq_tokenizer.codebook.weight.clone()
    before = codebook_identity(codebook)
    codebook[-1, -1] += 1
    assert codebook_identity(codebook) != before


def test_the_identity_tells_the_size(janus: Janus) -> None:
    assert janus.codebook.startswith("64x8-")


# files


def test_saved_tokens_come_back(saved: Path, tokens: ImageTokens) -> None:
    loaded = ImageTokens.load(saved)
    assert torch.equal(loaded.grid, tokens.grid)
    assert loaded.codebook == tokens.codebook


def test_a_path_may_be_text(tokens: ImageTokens, tmp_path: Path) -> None:
    path = str(tmp_path / "as text.safetensors")
    tokens.save(path)
    assert torch.equal(ImageTokens.load(path).grid, tokens.grid)


def test_a_grid_that_is_a_view_is_saved_as_it_looks(tmp_path: Path, grid: Tensor) -> None:
    view = grid.transpose(1, 2)
    ImageTokens(grid=view, codebook=CODEBOOK).save(tmp_path / "view.safetensors")
    assert torch.equal(ImageTokens.load(tmp_path / "view.safetensors").grid, view)


def test_a_file_says_what_it_is(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        assert file.metadata() == {"format": "janus-image-tokens-1", "codebook": CODEBOOK}


def test_a_file_names_the_model_that_made_it(grid: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "named.safetensors"
    ImageTokens(grid=grid, codebook=CODEBOOK, model="janus-shapes").save(path)
    assert ImageTokens.load(path).model == "janus-shapes"


def test_loaded_tokens_do_not_depend_on_their_file(saved: Path, grid: Tensor) -> None:
    loaded = ImageTokens.load(saved)
    saved.write_bytes(b"gone")
    assert torch.equal(loaded.grid, grid)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r'no file of image tokens at ".*missing\.safetensors"'):
        ImageTokens.load(tmp_path / "missing.safetensors")


def test_a_folder_is_no_file_of_tokens(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no file of image tokens"):
        ImageTokens.load(tmp_path)


@pytest.mark.parametrize(
    "kept", [0, 7, 20, -1], ids=["empty", "no header", "half a header", "one byte short"]
)
def test_a_damaged_file_is_named(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(ImageError) as caught:
        ImageTokens.load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"weight": torch.zeros(2)}, None),
        ({"grid": torch.zeros(2, 4, 4, dtype=torch.int64)}, None),
        ({"grid": torch.zeros(2, 4, 4, dtype=torch.int64)}, {"format": "janus-image-tokens-1"}),
        ({"grid": torch.zeros(2, 4, 4, dtype=torch.int64)}, {"format": "another", "codebook": CODEBOOK}),
        ({"weight": torch.zeros(2)}, {"format": "janus-image-tokens-1", "codebook": CODEBOOK}),
    ],
    ids=["weights", "no metadata", "no codebook", "another format", "no grid"],
)
def test_another_safetensors_file_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None
) -> None:
    save_file(tensors, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(ImageError, match=r'other\.safetensors" holds no image tokens'):
        ImageTokens.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    "where", ["missing/drawn.safetensors", "."], ids=["missing folder", "a folder itself"]
)
def test_a_path_that_cannot_be_written_is_named(tokens: ImageTokens, tmp_path: Path, where: str) -> None:
    with pytest.raises(OutputError) as caught:
        tokens.save(tmp_path / where)
    assert str(tmp_path / where) in str(caught.value)


# decoding


def test_tokens_of_the_model_can_be_decoded(janus: Janus, grid: Tensor) -> None:
    assert janus.decode(ImageTokens(grid=grid, codebook=janus.codebook)).shape == (2, 16, 16, 3)


def test_tokens_of_another_codebook_are_refused(janus: Janus, tokens: ImageTokens) -> None:
    with pytest.raises(ImageError, match=rf"{CODEBOOK}.* {janus.codebook}"):
        janus.decode(tokens)


@pytest.mark.parametrize("shape", [(3, 4), (4, 5), (8, 8)])
def test_a_grid_of_another_size_states_both(janus: Janus, shape: tuple[int, int]) -> None:
    grid = torch.zeros((1, *shape), dtype=torch.int64)
    with pytest.raises(ImageError, match=rf"{shape[0]} × {shape[1]}.* 4 × 4"):
        janus.decode(ImageTokens(grid=grid, codebook=janus.codebook))


@pytest.mark.parametrize(("place", "value"), [((0, 0, 0), -1), ((1, 3, 3), 64)])
def test_tokens_outside_the_codebook_are_refused(
    janus: Janus, grid: Tensor, place: tuple[int, int, int], value: int
) -> None:
    damaged = grid.clone()
    damaged[place] = value
    with pytest.raises(ImageError, match=rf"{value}\b.* codes 0 to 63"):
        janus.decode(ImageTokens(grid=damaged, codebook=janus.codebook))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="no file of image tokens"):
        ImageTokens.load(name)
