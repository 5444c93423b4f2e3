"""The tiny checkpoint in its three layouts, and what the reference computed from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from janus_core import DrawOptions, Janus, load_janus
from janus_core.generation.drawing import DrawingStep
from janus_core.generation.plans import DrawPlan
from janus_core.inputs.prompting import PromptPlan

GOLDEN = Path(__file__).parent / "golden"
LAYOUTS = ("authors' bin", "transformers", "authors' safetensors")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # the model is tiny: several threads mostly wait for each other


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "janus-tiny.golden.safetensors")


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / "janus-tiny.golden.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def flow_golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "janusflow-tiny.golden.safetensors")


@pytest.fixture(scope="session")
def flow_facts() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / "janusflow-tiny.golden.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the files; a tall one as the golden data's Pillow makes it, whichever Pillow is here.

    Pillow shrinks in 8 bits, from version 13 on the height of a tall picture first; the two orders differ by
    up to 3 of 255 levels. A picture of the right size is not resized again.
    """
    paths = {path.stem: path for path in (GOLDEN / "images").glob("*.png")}
    if int(PIL.__version__.partition(".")[0]) < 13:
        with Image.open(paths["portrait"]) as tall:  # (120, 45), to be (64, 24)
            lower = tall.convert("RGB").resize((tall.width, 64), Image.Resampling.BICUBIC)
        paths["portrait"] = tmp_path_factory.mktemp("pictures") / "portrait.png"
        lower.resize((24, 64), Image.Resampling.BICUBIC).save(paths["portrait"])
    return paths


@pytest.fixture(scope="session")
def safetensors_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the authors' single-file layout in float32; every value of the .bin is exact in it."""
    source, folder = GOLDEN / "janus-tiny-bin", tmp_path_factory.mktemp("janus-tiny")
    for path in source.glob("*.json"):
        if "index" not in path.name:
            shutil.copy(path, folder)
    tensors: dict[str, Tensor] = {}
    for shard in source.glob("*.bin"):
        tensors |= torch.load(shard, weights_only=True)
    save_file({name: tensor.float() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def load_whole() -> Callable[[Path], Janus]:
    """Load models of which tests use the parts."""

    def load(folder: Path) -> Janus:
        janus = load_janus(folder, dtype="float32", device="cpu")
        janus.bring_all()
        return janus

    return load


@pytest.fixture(scope="session", params=LAYOUTS)
def janus(
    request: pytest.FixtureRequest, safetensors_folder: Path, load_whole: Callable[[Path], Janus]
) -> Janus:
    folders = (GOLDEN / "janus-tiny-bin", GOLDEN / "janus-tiny-hf", safetensors_folder)
    folder = dict(zip(LAYOUTS, folders, strict=True))[request.param]
    return load_whole(folder)


@pytest.fixture(scope="session")
def guided_logits() -> Callable[[Janus, tuple[PromptPlan, PromptPlan], DrawOptions, Tensor], Tensor]:
    """Return a function of model, rows, options and ids: (cells, v), what a drawing chooses from.

    The ids (n,) are fed whatever the logits say.
    """

    @torch.inference_mode()
    def compute(
        janus: Janus, rows: tuple[PromptPlan, PromptPlan], options: DrawOptions, fed: Tensor
    ) -> Tensor:
        step = DrawingStep(
            janus.model.language,
            [DrawPlan(cond=rows[0], uncond=rows[1], seed=0)],
            options.decided(janus.guidance),
            num_image_tokens=len(fed),
            pad=janus.tokenizer.special.pad,
            compute=janus.compute,
        )
        found = [step.steered(step.image_logits(step.first))]
        found += [step.steered(step.image_logits(step.feed(token[None]))) for token in fed[:-1]]
        return torch.cat(found)

    return compute
