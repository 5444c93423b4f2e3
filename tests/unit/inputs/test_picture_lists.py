from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from janus_core import ImageError, Janus, TextOptions, Turn

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
SHORT = TextOptions(temperature=1.0, top_p=1.0, max_new_tokens=6)
ALONE: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "PIL": Image.open,
    "tensor": lambda path: torch.from_numpy(np.asarray(Image.open(path)) / 255),
    "array": lambda path: np.asarray(Image.open(path)),
}


@pytest.mark.parametrize("alone", ALONE.values(), ids=ALONE.keys())
def test_a_picture_alone_need_not_be_in_a_list(janus: Janus, alone: Callable[[Path], Any]) -> None:
    path = GOLDEN / "images" / "tiny.png"
    expected = janus.ask("Who?", [path], options=SHORT)
    assert janus.ask("Who?", alone(path), options=SHORT) == expected
    assert janus.caption(alone(path), question="Who?", options=SHORT) == [expected]
    turn = Turn(role="user", text="Who?", images=alone(path))
    assert janus.chat([turn], options=SHORT)[-1].text == expected


def test_a_batch_of_pictures_is_its_pictures(janus: Janus) -> None:
    images = janus.draw("a cat", num_images=2).images
    expected = janus.caption(list(images), options=SHORT)
    assert janus.caption(images, options=SHORT) == expected
    assert janus.caption(iter(images), options=SHORT) == expected


@pytest.mark.parametrize("images", [None, 3])
def test_what_is_neither_picture_nor_list_is_refused(janus: Janus, images: Any) -> None:
    with pytest.raises(ImageError, match=rf"A {type(images).__name__} is neither a picture nor a list"):
        janus.ask("Who?", images)
