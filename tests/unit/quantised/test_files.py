"""Quantised models from files: what is read and computed, what is refused, and what damage leads to."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from janus_core import (
    CheckpointError,
    ConfigError,
    FlowOptions,
    Janus,
    JanusFlow,
    TextOptions,
    convert,
    load_janus,
    read_checkpoint,
)
from janus_core.adapters.changes import Place, Whole, merge_into
from janus_core.cli.inspect_model import describe
from janus_core.converting.quantising import KINDS
from janus_core.errors import JanusError
from janus_core.quantised import linear
from janus_core.quantised.linear import QuantisedLinear
from janus_core.quantised.weight import read_weight

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
LAYER = "language_model.model.layers.0.self_attn.q_proj"
Tensors = dict[str, Tensor]


def contents(path: Path) -> tuple[Tensors, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("quantised")
    made = {kind: folder / f"tiny_{kind}.safetensors" for kind in KINDS}
    for kind, path in made.items():
        convert(GOLDEN / "janus-tiny-bin", path, quantise=kind)
    return made


@pytest.fixture(scope="module")
def whole() -> Janus:
    loaded = load_janus(GOLDEN / "janus-tiny-bin", dtype="float32", device="cpu")
    loaded.bring_all()
    assert isinstance(loaded, Janus)
    return loaded


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_decoders_matrices_are_quantised(files: dict[str, Path], whole: Janus, kind: str) -> None:
    checkpoint, plain = read_checkpoint(files[kind]), read_checkpoint(GOLDEN / "janus-tiny-bin").state_dict
    assert all(".layers." in layer and layer.endswith("_proj") for layer in checkpoint.quantised)
    assert len(checkpoint.quantised) == (21 if kind in ("int8", "int8_convrot", "fp8_scaled") else 12)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in checkpoint.state_dict.items())
    assert (
        checkpoint.state_dict.keys() | {f"{layer}.weight" for layer in checkpoint.quantised} == plain.keys()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_model_computes_what_its_expanded_weights_compute(
    files: dict[str, Path], kind: str
) -> None:
    checkpoint = read_checkpoint(files[kind])
    packed = load_janus(files[kind], dtype="float32", device="cpu")
    plain = load_janus(GOLDEN / "janus-tiny-bin", dtype="float32", device="cpu")
    for janus in (packed, plain):
        janus.bring_all()
    for layer, weight in checkpoint.quantised.items():
        assert isinstance(packed.model.get_submodule(layer), QuantisedLinear)
        plain.model.get_submodule(layer).weight = torch.nn.Parameter(
            weight.dequantised(torch.float32), requires_grad=False
        )
    for tokens in (1, 9):  # one step, and a prompt
        x = torch.randn(1, tokens, 64, generator=torch.Generator().manual_seed(0))
        positions = torch.arange(tokens)[None]
        hidden = [janus.model.language.language_model(x, positions) for janus in (packed, plain)]
        assert torch.allclose(*hidden, atol=2e-5)


def test_a_quantised_model_draws_and_answers(files: dict[str, Path]) -> None:
    janus = load_janus(files["int8"], dtype="bfloat16", device="cpu")
    assert isinstance(janus, Janus)
    assert janus.draw("a cat").images.isfinite().all()
    assert janus.ask("What is it?", [GOLDEN / "images" / "tiny.png"], options=TextOptions(max_new_tokens=4))


def test_a_flow_model_is_quantised_like_the_others(tmp_path: Path) -> None:
    made = convert(GOLDEN / "janusflow-tiny", tmp_path / "flow.safetensors", quantise="int8")
    flow = load_janus(tmp_path / "flow.safetensors", dtype="float32", device="cpu")
    assert isinstance(flow, JanusFlow)
    held = [layer for layer in flow.model.modules() if isinstance(layer, QuantisedLinear)]
    assert len(held) == made.quantised > 0
    assert flow.draw("a cat", options=FlowOptions(steps=1)).latents.isfinite().all()


def test_moving_keeps_the_stored_numbers(files: dict[str, Path]) -> None:
    weight = next(iter(read_checkpoint(files["fp8_scaled"]).quantised.values()))
    layer = torch.nn.Sequential(QuantisedLinear(weight)).to(torch.bfloat16)[0]
    assert layer.weight.tensors["weight"].dtype == torch.float8_e4m3fn
    assert layer.weight.tensors["weight_scale"].dtype == torch.float32


@pytest.mark.parametrize("kind", ["int8", "int8_convrot"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 9])
def test_the_cpus_products_differ_by_rounding_alone(
    files: dict[str, Path], kind: str, dtype: torch.dtype, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = read_checkpoint(files[kind]).quantised["language.language_model.layers.0.self_attn.q_proj"]
    monkeypatch.setattr(linear, "_BLOCK", 24)  # the last block is smaller
    by_blocks = mock.Mock(wraps=linear._by_blocks)
    monkeypatch.setattr(linear, "_by_blocks", by_blocks)
    x = torch.randn(2, tokens, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = x.float() @ weight.dequantised(torch.float32).T
    assert torch.allclose(
        QuantisedLinear(weight)(x).float(), wanted, atol=1e-4 if dtype.itemsize == 4 else 0.05
    )
    is_torchs = dtype == torch.bfloat16 and tokens == 1 and linear._has_int8_product()
    assert by_blocks.call_count == (0 if is_torchs else 1)


def test_rows_that_no_whole_vectors_fill_are_multiplied_by_blocks() -> None:
    """Torch's own product would read beyond the end of the last row."""
    q = torch.arange(64 * 172).remainder(251).sub(125).to(torch.int8).reshape(64, 172)
    weight = read_weight("a", {"format": "int8_tensorwise"}, {"weight": q, "weight_scale": torch.ones(64, 1)})
    found = QuantisedLinear(weight)(torch.ones(1, 172, dtype=torch.bfloat16))
    assert torch.equal(found, q.float().sum(dim=1)[None].bfloat16())


def test_an_adapter_expands_the_matrix_that_it_changes(files: dict[str, Path]) -> None:
    janus = load_janus(files["int8"], dtype="float32", device="cpu")
    path = "language.language_model.layers.0.self_attn.q_proj"
    layer = janus.model.get_submodule(path)
    assert isinstance(layer, QuantisedLinear)
    place = Place(tensor=f"{path}.weight", first_row=0, shape=torch.Size((64, 64)))
    change = Whole(place=place, value=torch.ones(64, 64), is_added=True)
    merge_into(janus.model, {f"{path}.weight": [(change, 0.5)]})
    changed = janus.model.get_submodule(path).weight
    assert torch.allclose(changed.float(), layer.weight.dequantised(torch.float32) + 0.5, atol=0.01)
    assert isinstance(janus.model.get_submodule(path.replace("q_proj", "k_proj")), QuantisedLinear)


def test_a_quantised_layer_does_not_learn(files: dict[str, Path]) -> None:
    layer = QuantisedLinear(next(iter(read_checkpoint(files["int8"]).quantised.values())))
    with pytest.raises(ConfigError, match="Quantised weights cannot learn"):
        layer(torch.ones(1, 64, requires_grad=True))


def test_inputs_are_smoothed_where_a_layer_says_so() -> None:
    tensors = {
        "weight": torch.ones(2, 4, dtype=torch.int8),
        "weight_scale": torch.ones(2, 1),
        "pre_quant_scale": torch.tensor([1.0, 2.0, 3.0, 4.0]),
    }
    weight = read_weight("a", {"format": "int8_tensorwise"}, tensors)
    assert QuantisedLinear(weight)(torch.ones(1, 4)).tolist() == [[10, 10]]


def test_inspect_says_how_matrices_are_stored(files: dict[str, Path]) -> None:
    plain, found = describe(str(GOLDEN / "janus-tiny-bin")), describe(str(files["int8"]))
    assert found["parameters"] == plain["parameters"]
    assert "21 matrices in int8_tensorwise" in found["stored as"]
    assert found["memory"]["float32"]["weights"] < plain["memory"]["float32"]["weights"]


def test_a_quantised_model_is_not_converted_again(files: dict[str, Path], tmp_path: Path) -> None:
    for target in ("again.safetensors", "folder"):
        with pytest.raises(CheckpointError, match="is quantised already"):
            convert(files["nvfp4"], tmp_path / target)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='There is no kind "q4_k" of quantised files'):
        convert(GOLDEN / "janus-tiny-bin", tmp_path / "one.safetensors", quantise="q4_k")


# --- files that say what is not so ---


def marker(tensors: Tensors, **said: object) -> None:
    tensors[f"{LAYER}.comfy_quant"] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


def no_scale(tensors: Tensors, _: dict[str, str]) -> None:
    del tensors[f"{LAYER}.weight_scale"]


def another_shape(tensors: Tensors, _: dict[str, str]) -> None:
    tensors[f"{LAYER}.weight_scale"] = torch.ones(64)


def scale_of_another_dtype(tensors: Tensors, _: dict[str, str]) -> None:
    tensors[f"{LAYER}.weight_scale"] = torch.ones(64, 1, dtype=torch.int32)


def no_marker(tensors: Tensors, _: dict[str, str]) -> None:
    del tensors[f"{LAYER}.comfy_quant"]


def no_weight(tensors: Tensors, _: dict[str, str]) -> None:
    del tensors[f"{LAYER}.weight"]


def unknown_format(tensors: Tensors, _: dict[str, str]) -> None:
    marker(tensors, format="convrot_w4a4")


def another_format(tensors: Tensors, _: dict[str, str]) -> None:
    marker(tensors, format="nvfp4")


def odd_rotation(tensors: Tensors, _: dict[str, str]) -> None:
    marker(tensors, format="int8_tensorwise", convrot=True, convrot_groupsize=8)


def large_rotation(tensors: Tensors, _: dict[str, str]) -> None:
    marker(tensors, format="int8_tensorwise", params={"convrot": True})


def rotation_of_nothing(tensors: Tensors, _: dict[str, str]) -> None:
    marker(tensors, format="int8_tensorwise", convrot=True, convrot_groupsize=0)


def broken_marker(tensors: Tensors, _: dict[str, str]) -> None:
    tensors[f"{LAYER}.comfy_quant"] = torch.tensor([1, 2, 3], dtype=torch.uint8)


def lying_header(_: Tensors, texts: dict[str, str]) -> None:
    texts["_quantization_metadata"] = '{"layers": {"lm_head_of_another": {"format": "float8_e4m3fn"}}}'


def broken_header(_: Tensors, texts: dict[str, str]) -> None:
    texts["_quantization_metadata"] = '{"layers": [1]}'


def another_model(tensors: Tensors, _: dict[str, str]) -> None:
    tensors[f"{LAYER}.weight"] = torch.ones(32, 64, dtype=torch.int8)
    tensors[f"{LAYER}.weight_scale"] = torch.ones(32, 1)


CASES: dict[Callable[[Tensors, dict[str, str]], None], str] = {
    no_scale: "is quantised and has no weight_scale",
    another_shape: r"has \[64\] in torch.float32 instead of \[64, 1\]",
    scale_of_another_dtype: r"in torch\.int32 instead of",
    no_marker: "is stored as torch.int8, and nothing says by which scale",
    no_weight: "is quantised, and has no weight of this name",
    unknown_format: r"is quantised as 'convrot_w4a4', which cannot be read",
    another_format: "as nvfp4 wants it",
    odd_rotation: "in groups of 8, and only a power of 4 can be",
    rotation_of_nothing: "in groups of 0, and only a power of 4 can be",
    large_rotation: "in groups of 256, which do not divide its 64 columns",
    broken_marker: 'What ".+comfy_quant" says about quantised layers cannot be read',
    lying_header: '"lm_head_of_another" is quantised, and has no weight of this name',
    broken_header: "says about quantised layers cannot be read",
    another_model: "of another shape than config.json says",
}


@pytest.mark.parametrize("change", CASES)
def test_what_does_not_fit_is_said(
    files: dict[str, Path], tmp_path: Path, change: Callable[[Tensors, dict[str, str]], None]
) -> None:
    tensors, texts = contents(files["int8"])
    change(tensors, texts)
    path = tmp_path / "changed.safetensors"
    save_file(tensors, path, texts)
    with pytest.raises(CheckpointError, match=CASES[change]) as raised:
        read_checkpoint(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_load_or_raise_a_janus_error(files: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """40 copies of each of five kinds, damaged where a format keeps its structure and elsewhere."""
    data = files[kind].read_bytes()
    path, rng = tmp_path / "damaged.safetensors", random.Random(kind)
    said: list[str] = []
    header = int.from_bytes(data[:8], "little")
    for _ in range(40):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            changed[rng.choice((rng.randrange(8 + header), rng.randrange(len(data))))] = rng.randrange(256)
        path.write_bytes(changed[: rng.choice((len(data), len(data), rng.randrange(len(data))))])
        try:
            read_checkpoint(path)
        except JanusError as error:
            said.append(str(error))
    assert len(said) > 10
    assert all(str(path) in text and len(text) < 1000 for text in said)
