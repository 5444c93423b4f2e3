"""Inputs of a wrong kind, as a link in a graph or a stranger's file brings them: each is named, soon."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from janus_core import (
    ConfigError,
    DrawOptions,
    ImageError,
    JanusError,
    PromptError,
    RedrawOptions,
    SamplingError,
    TextOptions,
    read_presets,
)
from janus_core.downloads.record import read_record
from janus_core.errors import shown
from janus_core.inputs.carried_tokens import read_note
from janus_core.inputs.masks import read_masks
from janus_core.janus import Janus

NUMBERS = {"cfg_weight": 0.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": -1.0}
PICTURE = torch.zeros(16, 16, 3)
DEEP = "[" * 100_000
NOTE = {
    "format": "janus-carried-tokens-1", "codebook": "x", "model": "x", "grid": [1, 1], "kind": "<u2",
    "tokens": "AAA=",
    "pixels": "x",
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", ["x", None, [], (), b"x", 1j, object(), True, torch.tensor(0.5), "a" * 20_000]
)
def test_a_number_that_is_none_is_named(name: str, value: Any) -> None:
    if (name, value) in (("cfg_weight", None), ("min_p", None)):
        return  # in Python these mean: what the model recommends
    with pytest.raises(SamplingError, match=rf"^{name} is ") as raised:
        DrawOptions.from_numbers(**{**NUMBERS, name: value})
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("stop", [None, 3, 1.5, object(), "x", [""], [3]])
def test_stop_texts_that_are_none_are_refused(stop: Any) -> None:
    with pytest.raises(SamplingError, match=r"^stop is "):
        TextOptions(stop=stop)


@pytest.mark.parametrize("text", [None, 3, 1.5, ["x"], b"x", object()])
@pytest.mark.parametrize(
    "use",
    [
        lambda janus, text: janus.ask(text),
        lambda janus, text: janus.ask("x", system=text),
        lambda janus, text: janus.draw([text]),
        lambda janus, text: janus.draw("x", negative_prompt=text),
        lambda janus, text: janus.choose([PICTURE], text, ["a", "b"]),
        lambda janus, text: janus.choose([PICTURE], "x", ["a", text]),
        lambda janus, text: janus.score([PICTURE], text),
        lambda janus, text: janus.score([PICTURE], "x", question=text),
        lambda janus, text: janus.caption([PICTURE], question=text if text is not None else 3),
    ],
)
def test_a_text_that_is_none_is_named(janus: Janus, use: Callable[[Janus, Any], object], text: Any) -> None:
    with pytest.raises(PromptError, match=r"it must be a text. Connect or write one."):
        use(janus, text)


@pytest.mark.parametrize("prompts", [3, None, 1.5])
def test_prompts_that_are_no_list_are_refused(janus: Janus, prompts: Any) -> None:
    with pytest.raises(PromptError, match=r"^The prompt is "):
        janus.draw(prompts)


@pytest.mark.parametrize("choices", [3, None, 1.5])
def test_choices_that_are_no_list_are_refused(janus: Janus, choices: Any) -> None:
    with pytest.raises(PromptError, match=r"^The choices are "):
        janus.choose([PICTURE], "x", choices)


@pytest.mark.parametrize("count", [0, -1, 2**16 + 1, 2**70, 1.5, "x"])
def test_a_number_of_pictures_that_no_memory_holds_is_refused(janus: Janus, count: Any) -> None:
    for draw in (lambda: janus.draw("x", num_images=count), lambda: janus.begin(count)):
        with pytest.raises(SamplingError, match=rf"^num_images is .*between 1 and {2**16}"):
            draw()
    with pytest.raises(SamplingError, match=r"^num_images is "):
        RedrawOptions(num_images=count)


@pytest.mark.parametrize("tokens", ["x", 3, []])
def test_image_tokens_that_are_none_are_refused(janus: Janus, tokens: Any) -> None:
    with pytest.raises(ImageError, match=r"are no image tokens"):
        janus.begin(1, tokens)


@pytest.mark.parametrize("picture", [PICTURE.to("meta"), PICTURE.to_sparse()])
def test_a_picture_without_values_is_refused(janus: Janus, picture: torch.Tensor) -> None:
    with pytest.raises(ImageError, match=r"has no values that can be read"):
        janus.encode([picture])


@pytest.mark.parametrize(
    "mask", [torch.zeros(4, 4, device="meta"), np.full((4, 4), object()), np.full((4, 4), "x")]
)
def test_a_mask_without_values_is_refused(mask: Any) -> None:
    with pytest.raises(ImageError, match=r"A mask has no values that can be read"):
        read_masks(mask)


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": [float("inf"), 1]}, {"grid": [float("nan"), 1]}, {"grid": 5}, {"codebook": ["x"]},
        {"model": None},
        {"pixels": 3}, {"tokens": 3}, {"kind": []},
    ],
)  # fmt: skip
def test_an_odd_note_in_a_picture_is_refused(changes: dict[str, Any]) -> None:
    assert read_note(json.dumps(NOTE), "x.png").pixels == "x"
    with pytest.raises(ImageError, match=r'^The image tokens inside "x.png" cannot be read') as raised:
        read_note(json.dumps(NOTE | changes), "x.png")
    assert len(str(raised.value)) < 500


def test_what_is_nested_too_deeply_is_refused_by_every_reader(tmp_path: Path, janus: Janus) -> None:
    (tmp_path / "captions.toml").write_text(f"a = {DEEP}")
    (tmp_path / ".janus-download.json").write_text(DEEP)
    readers: tuple[Callable[[], object], ...] = (
        lambda: read_note(DEEP, "x.png"),
        lambda: read_presets(tmp_path / "captions.toml"),
        lambda: read_record(tmp_path),
    )
    for read in readers:
        with pytest.raises(JanusError):
            read()


@pytest.mark.parametrize("content", ["a = " + "9" * 5000, "a = 2026-99-99", "a = 1e999999"])
def test_numbers_that_python_cannot_read_are_refused_in_a_file_of_styles(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "captions.toml").write_text(content)
    with pytest.raises(ConfigError):
        read_presets(tmp_path / "captions.toml")


def test_a_value_is_shown_short_whatever_it_is() -> None:
    assert shown(10**5000) == "a value of the type int" or len(shown(10**5000)) < 200  # newer Pythons can
    assert all(
        len(shown(value)) < 200 for value in ("a" * 10_000, [[[[[1] * 100] * 100]]], 10**4000, 10**5000)
    )
    assert shown(3) == "3"
