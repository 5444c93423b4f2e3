"""`--lora` and `extract-lora`: what changes, what stays, and what is refused."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from .conftest import MODEL

DRAW = ("draw", "a cat", "--temperature", 0, "--json", "--dtype", "float32", "--out")
LAYER = "language_model.model.layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Return a copy of the tiny model with one matrix changed by a product of rank 2."""
    folder = shutil.copytree(MODEL, tmp_path_factory.mktemp("tuned") / "tuned")
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text("utf-8"))
    file = folder / index["weight_map"][LAYER]
    weights = torch.load(file, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    rows, columns = weights[LAYER].shape
    change = torch.randn(rows, 2, generator=generator) @ torch.randn(2, columns, generator=generator)
    weights[LAYER] = weights[LAYER].float() + change
    torch.save(weights, file)
    return folder


@pytest.fixture(scope="module")
def style(tuned):
    """Return the adapter that leads from the tiny model to the changed one."""
    from janus_core.cli import main

    file = tuned.parent / "style.safetensors"
    assert main(["extract-lora", str(MODEL), str(tuned), "-o", str(file), "--rank", "2", "--quiet"]) == 0
    return file


def test_the_share_of_the_difference_is_told(janus, tuned, tmp_path):
    out = tmp_path / "style"
    code, text, err = janus("extract-lora", MODEL, tuned, "-o", out, "--rank", 2, "--json", model=None)
    found = json.loads(text)
    assert (code, err) == (0, "")
    assert found["kept"] > 0.999
    assert found["worst"] == "language.language_model.layers.0.mlp.down_proj.weight"
    assert found["bytes"] == (out / "adapter_model.safetensors").stat().st_size
    assert json.loads((out / "adapter_config.json").read_text("utf-8"))["r"] == 2
    code, text, err = janus("extract-lora", MODEL, tuned, "-o", out, "--rank", 1, model=None)
    assert "% of the squared difference is kept, least in language." in text


def test_an_adapter_draws_what_the_tuned_model_draws(janus, style, tuned, tmp_path):
    base = json.loads(janus(*DRAW, tmp_path)[1])["token_ids"]
    adapted = json.loads(janus(*DRAW, tmp_path, "--lora", style)[1])
    expected = json.loads(janus(*DRAW, tmp_path, model=tuned)[1])["token_ids"]
    off = json.loads(janus(*DRAW, tmp_path, "--lora", f"{style}:0")[1])["token_ids"]
    undone = json.loads(janus(*DRAW, tmp_path, "--lora", style, "--lora", f"{style}:-1")[1])["token_ids"]
    assert adapted["token_ids"] == expected
    assert adapted["token_ids"] != base
    assert off == undone == base
    assert Image.open(adapted["files"][0]).text["model"] == f"{MODEL.name} + style × 1"


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ("absent.safetensors", 'There is no adapter "absent.safetensors"'),
        ("style:1000", "strength is 1000.0; it must be between -100 and 100"),
    ],
)
def test_adapters_that_cannot_be_used_are_refused(janus, tmp_path, lora, said):
    code, out, err = janus(*DRAW, tmp_path, "--lora", lora)
    assert (code, out) == (1, "")
    assert said in err


def test_an_adapter_for_another_model_is_refused_with_both_widths(janus, style, tmp_path):
    wide = {
        name: torch.ones(2, 4096) if "lora_A" in name else torch.ones(4096, 2) for name in load_file(style)
    }
    save_file(wide, tmp_path / "wide.safetensors")
    code, out, err = janus(*DRAW, tmp_path, "--lora", tmp_path / "wide.safetensors")
    assert (code, out) == (1, "")
    assert "is 4096 × 4096 wide, that of" in err
