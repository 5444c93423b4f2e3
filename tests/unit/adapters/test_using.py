"""Models with adapters: what they compute, and what stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from janus_core import DrawOptions, Janus, Lora, SamplingError, load_janus
from janus_core.cli.models import chosen_loras
from janus_core.residency import packing
from janus_core.residency.packing import PackedLinear

from .conftest import LAYERS, MODEL, Tiny, WriteAdapter, hand_merged, tensors_for

CPU = torch.device("cpu")


def loaded(*loras: Lora, **options: object) -> Janus:
    janus = load_janus(MODEL, **{"dtype": "float32", "device": "cpu", "loras": loras, **options})
    assert isinstance(janus, Janus)
    return janus


def weights_of(janus: Janus) -> dict[str, Tensor]:
    janus.bring_all()
    return janus.model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def style(tiny: Tiny, write_adapter: WriteAdapter) -> Path:
    return write_adapter(tensors_for(tiny, seed=0), "style")


@pytest.fixture
def second(tiny: Tiny, write_adapter: WriteAdapter) -> Path:
    return write_adapter(tensors_for(tiny, seed=1), "second", use_rslora=True)


def test_strength_zero_is_the_model_itself_bit_for_bit(style: Path) -> None:
    off = loaded(Lora(path=style, strength=0))
    assert same(weights_of(off), weights_of(loaded()))
    assert off.adapters == ()


def test_weights_are_those_of_the_merge_by_hand(tiny: Tiny, style: Path) -> None:
    janus, expected = loaded(Lora(path=style)), hand_merged(tiny)
    for name, tensor in weights_of(janus).items():
        assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)
    assert str(janus) == "janus-tiny-bin + style × 1, float32, CPU"


def test_several_adapters_give_the_same_bits_in_any_order(style: Path, second: Path) -> None:
    one, two = Lora(path=style, strength=0.7), Lora(path=second, strength=-0.4)
    first, other = weights_of(loaded(one, two)), weights_of(loaded(two, one))
    assert same(first, other)
    assert not same(first, weights_of(loaded(one)))


def test_nothing_is_merged_before_a_task_needs_it(style: Path) -> None:
    janus, base = loaded(Lora(path=style)), loaded()
    janus.encode(torch.zeros(janus.config.vision.image_size, janus.config.vision.image_size, 3))
    assert same(janus.model.state_dict(), {**base.model.state_dict(), **_vq(janus)})


def _vq(janus: Janus) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in janus.model.state_dict().items() if name.startswith("vq_")}


def test_a_drawing_with_an_adapter_is_that_of_the_merged_model(tiny: Tiny, style: Path) -> None:
    janus, merged = loaded(Lora(path=style, strength=4.0)), loaded()
    merged.bring_all()
    scale = 4.0 * 6.0 / 4
    merged.model.load_state_dict(hand_merged(tiny, scale=scale))
    options = DrawOptions(temperature=0)
    grids = [model.draw("a cat", options=options).tokens.grid for model in (janus, merged, loaded())]
    assert torch.equal(grids[0], grids[1])
    assert not torch.equal(grids[0], grids[2])


def test_two_models_side_by_side_keep_their_own_weights(style: Path) -> None:
    """Packing, kept states and mapped files are of one model each."""
    base, adapted = loaded(), loaded(Lora(path=style, strength=4.0))
    options = DrawOptions(temperature=0)
    alone = loaded().draw("a cat", options=options).tokens.grid
    first = base.draw("a cat", options=options).tokens.grid
    other = adapted.draw("a cat", options=options).tokens.grid
    again = base.draw("a cat", options=options).tokens.grid
    assert torch.equal(first, alone)
    assert torch.equal(again, alone)
    assert not torch.equal(other, alone)


def test_bundled_weights_are_packed_with_the_adapter_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is packed has to be the merged matrix."""
    monkeypatch.setattr(packing, "_LEAST", 0)  # small matrices, too
    module = "language_model.model.layers.0.mlp.down_proj"
    down, up = torch.randn(2, 352) / 20, torch.randn(128, 2) / 4
    factors = {"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.tensor(2.0)}
    save_file({f"{module}.{name}": tensor for name, tensor in factors.items()}, tmp_path / "one.safetensors")
    janus = load_janus(
        "janus-shapes", dtype="float32", device="cpu", loras=[Lora(path=tmp_path / "one.safetensors")]
    )
    base = load_janus("janus-shapes", dtype="float32", device="cpu")
    assert isinstance(janus, Janus)
    plain: nn.Module = base.model.get_submodule("language.language_model.layers.0.mlp.down_proj")
    x = torch.randn(3, 352)
    expected = x @ (plain.weight.float() + up @ down).T
    janus.draw("a red circle", options=DrawOptions(temperature=0))
    packed = janus.model.get_submodule("language.language_model.layers.0.mlp.down_proj")
    assert isinstance(packed, PackedLinear)
    with torch.inference_mode():
        assert_close(packed(x), expected, rtol=1e-3, atol=1e-3)


def test_layers_of_a_callers_own_get_merged_weights(tiny: Tiny, style: Path) -> None:
    janus, expected = loaded(Lora(path=style), operations=nn), hand_merged(tiny)
    for name, tensor in janus.model.state_dict().items():
        assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)


def test_half_precision_is_merged_in_full_and_rounded_once(tiny: Tiny, style: Path) -> None:
    janus, expected = loaded(Lora(path=style), dtype="bfloat16"), hand_merged(tiny)
    name = f"{LAYERS[0]}.weight"
    found = weights_of(janus)[name]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected[name].to(torch.bfloat16))


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 101, -101])
def test_a_strength_out_of_range_is_refused(style: Path, strength: float) -> None:
    with pytest.raises(SamplingError, match="strength"):
        Lora(path=style, strength=strength)


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("style.safetensors", "style.safetensors", 1.0),
        ("style.safetensors:0.8", "style.safetensors", 0.8),
        ("style:-1", "style", -1.0),
        (r"C:\loras\style.safetensors", r"C:\loras\style.safetensors", 1.0),
        (r"C:\loras\style.safetensors:0.5", r"C:\loras\style.safetensors", 0.5),
    ],
)
def test_the_command_line_takes_a_strength_behind_the_last_colon(
    text: str, path: str, strength: float
) -> None:
    from argparse import Namespace

    assert chosen_loras(Namespace(lora=[text])) == (Lora(path=path, strength=strength),)
