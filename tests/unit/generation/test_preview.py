from __future__ import annotations

import pytest
import torch

from janus_core import Janus, TokenWatch, fit_code_colours, preview_image

SIDE, SIZE_PX = 4, 16
TOKENS = torch.arange(0, 64, 4)


@pytest.fixture(scope="module")
def colours(janus: Janus) -> torch.Tensor:
    with torch.inference_mode():
        return fit_code_colours(janus.model.vq_tokenizer, torch.float32, torch.device("cpu"))


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


@pytest.mark.parametrize("count", [1, 5, 15])
def test_cells_not_yet_drawn_are_grey(colours: torch.Tensor, count: int) -> None:
    cells = rough(colours, count).unfold(0, 4, 4).unfold(1, 4, 4).flatten(0, 1)  # (cells, 3, 4, 4)
    is_grey = (cells == 127).flatten(1).all(dim=1)
    assert is_grey.tolist() == [False] * count + [True] * (16 - count)


# watching


def test_tokens_that_were_looked_at_are_seen_once() -> None:
    watch = TokenWatch()
    assert watch.seen() is None
    watch.look(TOKENS[:3])
    seen = watch.seen()
    assert seen is not None
    assert torch.equal(seen, TOKENS[:3])
    assert watch.seen() is None


def test_what_was_seen_does_not_change_with_the_drawing() -> None:
    watch, tokens = TokenWatch(), TOKENS.clone()
    watch.look(tokens[:3])
    tokens.zero_()
    seen = watch.seen()
    assert seen is not None
    assert torch.equal(seen, TOKENS[:3])


def test_a_second_look_waits_for_the_first() -> None:
    watch = TokenWatch()
    watch.look(TOKENS[:3])
    watch.look(TOKENS[:9])
    seen = watch.seen()
    assert seen is not None
    assert len(seen) == 3


class FakeEvent:
    """Stands in for a CUDA event that a device has not reached yet, or has."""

    is_reached = False

    def record(self, stream: object) -> None:
        pass

    def query(self) -> bool:
        return FakeEvent.is_reached


class FakeTokens:
    """Stands in for tokens on a GPU; tells how it was copied."""

    is_cuda = True
    device = torch.device("cuda")

    def __init__(self) -> None:
        self.copied: dict[str, bool] = {}

    def to(self, device: str, **how: bool) -> torch.Tensor:
        self.copied = how
        return TOKENS.clone()


def test_tokens_on_a_gpu_are_copied_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.Event", FakeEvent)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: None)
    watch, tokens = TokenWatch(), FakeTokens()
    watch.look(tokens)  # type: ignore[arg-type] - what it uses of a tensor
    assert tokens.copied == {"non_blocking": True, "copy": True}
    assert watch.seen() is None
    monkeypatch.setattr(FakeEvent, "is_reached", True)
    seen = watch.seen()
    assert seen is not None
    assert torch.equal(seen, TOKENS)
