from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from janus_core import CheckpointError, Whole, read_adapter
from janus_core.adapters.changes import merged, stacked
from janus_core.checkpoints.layout import Layout

from .conftest import ALPHA, LAYERS, RANK, Tiny, WriteAdapter, factors, hand_merged, tensors_for

DECODER = "language_model.model.layers.0.self_attn.q_proj"
OURS = "language.language_model.layers.0.self_attn.q_proj.weight"


def merged_with(tiny: Tiny, path: Path, strength: float = 1.0) -> dict[str, Tensor]:
    adapter = read_adapter(path, tiny.shapes, "janus-tiny")
    stack = stacked([(adapter.changes, strength)])
    return {name: merged(tensor, stack.get(name, ())) for name, tensor in tiny.weights.items()}


def one(tiny: Tiny, module: str = DECODER, ours: str = OURS, rank: int = RANK) -> dict[str, Tensor]:
    """Return the two tensors of one layer."""
    down, up = factors(tiny.shapes[ours], 7, rank)
    return {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}


def product(tiny: Tiny, scale: float, rank: int = RANK) -> Tensor:
    down, up = factors(tiny.shapes[OURS], 7, rank)
    return tiny.weights[OURS].float() + scale * up @ down


def test_strength_one_is_the_merge_by_hand(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    found = merged_with(tiny, write_adapter(tensors_for(tiny)))
    expected = hand_merged(tiny)
    assert found.keys() == expected.keys()
    changed = {name for name in found if not torch.equal(found[name], tiny.weights[name])}
    assert changed == {f"{layer}.weight" for layer in LAYERS}
    for name in changed:
        assert_close(found[name].float(), expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", ["authors", "transformers"])
@pytest.mark.parametrize("prefix", ["", "base_model.model.", "base_model.model.model.", "model.", "module."])
def test_names_of_both_layouts_fit_with_any_prefix_of_wrappers(
    tiny: Tiny, write_adapter: WriteAdapter, layout: Layout, prefix: str
) -> None:
    tensors = tensors_for(tiny, layout=layout, prefix=prefix)
    if prefix == "base_model.model." and layout == "transformers":  # some releases save it without "model."
        tensors = {name.replace("base_model.model.model.", prefix): value for name, value in tensors.items()}
    found = merged_with(tiny, write_adapter(tensors))
    expected = hand_merged(tiny)
    for layer in LAYERS:
        assert_close(found[f"{layer}.weight"].float(), expected[f"{layer}.weight"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "module",
    [
        "base_model.model.model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.q_proj",
        "layers.0.self_attn.q_proj",
        "base_model.model.language_model.layers.0.self_attn.q_proj",
    ],
)
def test_an_adapter_of_the_language_model_alone_fits(
    tiny: Tiny, write_adapter: WriteAdapter, module: str
) -> None:
    found = merged_with(tiny, write_adapter(one(tiny, module)))
    assert_close(found[OURS].float(), product(tiny, ALPHA / RANK), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_down.weight", "lora_up.weight"),
        ("lora.down.weight", "lora.up.weight"),
        ("lora_A", "lora_B"),
    ],
)
def test_all_names_of_the_two_factors_are_known(
    tiny: Tiny, write_adapter: WriteAdapter, down: str, up: str
) -> None:
    first, second = one(tiny).values()
    found = merged_with(tiny, write_adapter({f"{DECODER}.{down}": first, f"{DECODER}.{up}": second}))
    assert_close(found[OURS].float(), product(tiny, ALPHA / RANK), rtol=1e-6, atol=1e-6)


def test_a_third_of_the_vision_towers_projection_is_changed_alone(
    tiny: Tiny, write_adapter: WriteAdapter
) -> None:
    ours = "seeing.vision_tower.blocks.0.attention.qkv.weight"
    width = tiny.shapes[ours][1]
    down, up = factors(torch.Size((width, width)), 3)
    module = "model.vision_model.encoder.layers.0.self_attn.k_proj"
    found = merged_with(tiny, write_adapter({f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}))
    expected = tiny.weights[ours].float().clone()
    expected[width : 2 * width] += ALPHA / RANK * up @ down
    assert_close(found[ours].float(), expected, rtol=1e-6, atol=1e-6)


def test_vision_is_never_taken_for_language(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    module = "base_model.model.vision_tower.encoder.layers.0.self_attn.q_proj"
    with pytest.raises(CheckpointError, match="none of its 1 layers is there"):
        merged_with(tiny, write_adapter(one(tiny, module)))


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"lora_alpha": 16}, 16 / RANK),
        ({"lora_alpha": 16, "use_rslora": True}, 16 / math.sqrt(RANK)),
        ({"alpha_pattern": {"q_proj": 2}}, 2 / RANK),
        ({"alpha_pattern": {"layers.[1-9].self_attn.q_proj": 2}}, ALPHA / RANK),
        ({"alpha_pattern": {r"language_model\.model\.layers\.0\.self_attn\.q_proj": 3}}, 3 / RANK),
        ({"alpha_pattern": {"proj": 2}}, ALPHA / RANK),
        ({"r": 2, "rank_pattern": {"q_proj": RANK}}, ALPHA / RANK),
    ],
)
def test_the_configuration_decides_the_scale(
    tiny: Tiny, write_adapter: WriteAdapter, config: dict, scale: float
) -> None:
    tensors = one(tiny, f"base_model.model.{DECODER}")
    found = merged_with(tiny, write_adapter(tensors, **config))
    assert_close(found[OURS].float(), product(tiny, scale), rtol=1e-6, atol=1e-6)


def test_an_alpha_beside_the_factors_is_theirs(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    tensors = {**one(tiny), f"{DECODER}.alpha": torch.tensor(1.0)}
    found = merged_with(tiny, write_adapter(tensors))
    assert_close(found[OURS].float(), product(tiny, 1 / RANK), rtol=1e-6, atol=1e-6)


def test_an_alpha_may_be_a_whole_number(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    tensors = {**one(tiny), f"{DECODER}.alpha": torch.tensor(8)}
    assert_close(
        merged_with(tiny, write_adapter(tensors))[OURS].float(), product(tiny, 2.0), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("length", [10, 9000])
def test_messages_stay_short_whatever_names_a_file_has(
    tiny: Tiny, write_adapter: WriteAdapter, length: int
) -> None:
    tensors = {f"{'x' * length}.{name}": value for name, value in one(tiny).items()}
    path = write_adapter(tensors, base_model_name_or_path="y" * length)
    with pytest.raises(CheckpointError, match="none of its 1 layers is there") as raised:
        merged_with(tiny, path)
    assert len(str(raised.value)) < 800


def test_layers_saved_whole_and_biases_take_their_places(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    whole = "language.generation_aligner.layers.0.bias"
    value = torch.arange(float(tiny.shapes[whole].numel()))
    names = ("gen_aligner.layers.0.bias", "gen_aligner.modules_to_save.default.layers.0.bias")
    for number, name in enumerate(names):
        path = write_adapter({**one(tiny), f"base_model.model.{name}": value}, f"whole{number}")
        assert torch.equal(merged_with(tiny, path)[whole].float(), value)
        half = (tiny.weights[whole].float() + value) / 2
        assert_close(merged_with(tiny, path, 0.5)[whole].float(), half)


def test_a_bias_of_the_product_is_added_and_scaled(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    module, ours = "gen_head.vision_head", "language.generation_head.output"
    bias = torch.ones(tiny.shapes[f"{ours}.bias"])
    tensors = {**one(tiny, module, f"{ours}.weight"), f"{module}.lora_B.bias": bias}
    found = merged_with(tiny, write_adapter(tensors))[f"{ours}.bias"]
    assert_close(found.float(), tiny.weights[f"{ours}.bias"].float() + ALPHA / RANK)
    with pytest.raises(CheckpointError, match="a bias, which the model has not"):
        merged_with(tiny, write_adapter({**one(tiny), f"{DECODER}.lora_B.bias": bias}, "other"))


def test_a_table_is_changed_by_transposed_factors(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    ours = "language.language_model.embed_tokens.weight"
    rows, width = tiny.shapes[ours]
    first, second = torch.randn(RANK, rows), torch.randn(width, RANK)
    name = "base_model.model.language_model.model.embed_tokens"
    path = write_adapter({f"{name}.lora_embedding_A": first, f"{name}.lora_embedding_B": second})
    expected = tiny.weights[ours].float() + ALPHA / RANK * (second @ first).T
    assert_close(merged_with(tiny, path)[ours].float(), expected, rtol=1e-5, atol=1e-5)


def test_a_single_file_is_read_with_the_configuration_in_its_header_or_beside_it(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, expected = json.dumps({"peft_type": "LORA", "lora_alpha": 8}), product(tiny, 8 / RANK)
    inside, beside, alone = (tmp_path / name / "style.safetensors" for name in "abc")
    for file in (inside, beside, alone):
        file.parent.mkdir()
        save_file(one(tiny), file, {"adapter_config": config} if file is inside else None)
    beside.with_suffix(".json").write_text(config, encoding="utf-8")
    for file in (inside, beside):
        assert_close(merged_with(tiny, file)[OURS].float(), expected, rtol=1e-6, atol=1e-6)
    assert not caplog.records
    alone.with_suffix(".json").write_text('{"description": "a style", "sd version": "?"}', encoding="utf-8")
    assert_close(merged_with(tiny, alone)[OURS].float(), product(tiny, 1.0), rtol=1e-6, atol=1e-6)
    assert "nothing says the scale" in caplog.text
    alone.with_name("adapter_config.json").write_text(config, encoding="utf-8")
    assert_close(merged_with(tiny, alone)[OURS].float(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"peft_type": "LOHA"}, "of the kind 'LOHA'"),
        ({"layer_replication": [[0, 4]]}, "layer_replication"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa_niter_4"}, "also changes its base model"),
        ({"lora_alpha": "much"}, "says lora_alpha 'much'"),
        ({"lora_alpha": math.nan}, "says lora_alpha nan"),
        ({"lora_alpha": 10**400}, "says lora_alpha"),
        ({"alpha_pattern": {"(": 2}}, "says alpha_pattern"),
        ({"alpha_pattern": {"(a+)+": 2}}, "says alpha_pattern"),
        ({"alpha_pattern": {"(.*)(.*)(.*)(.*)x": 2}}, "says alpha_pattern"),
        ({"alpha_pattern": {"(.?){40}x": 2}}, "says alpha_pattern"),
        ({"alpha_pattern": [1]}, "says alpha_pattern"),
    ],
)
def test_what_would_change_the_arithmetic_is_refused_by_name(
    tiny: Tiny, write_adapter: WriteAdapter, config: dict, said: str
) -> None:
    with pytest.raises(CheckpointError, match='adapter "style"') as raised:
        merged_with(tiny, write_adapter(one(tiny), **config))
    assert said in str(raised.value)


def _with_magnitude(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**tensors, f"{DECODER}.lora_magnitude_vector": torch.ones(8)}


def _wider(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.ones(RANK, 4096) if "lora_A" in name else torch.ones(4096, RANK) for name in tensors}


def _with_a_foreign_layer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**tensors, **{name.replace("layers.0", "layers.29"): value for name, value in tensors.items()}}


def _as_table(name: str) -> str:
    return name.replace(".lora_A.weight", ".lora_embedding_A").replace(".lora_B.weight", ".lora_embedding_B")


POSITIONS = "vision_model.vision_tower.pos_embed"

BROKEN: list[tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = [
    (_with_magnitude, "weight-decomposed .DoRA."),
    (lambda t: {name.replace("lora_A", "hada_w1_a"): value for name, value in t.items()}, "a LoHa"),
    (_wider, '4096 × 4096 wide, that of "janus-tiny" 64 × 64'),
    (_with_a_foreign_layer, '1 of the 2 layers .* are not in "janus-tiny": .*layers.29'),
    (lambda t: {f"lora_unet_x_{i}.weight": v for i, v in enumerate(t.values())}, "none of its 2 layers"),
    (lambda t: {name: value for name, value in t.items() if "lora_A" in name}, "no two matrices that fit"),
    (lambda t: {n: v[:3] if "lora_A" in n else v for n, v in t.items()}, "no two matrices that fit"),
    (lambda t: {name: value * math.nan for name, value in t.items()}, "no finite numbers"),
    (lambda t: {name: value.to(torch.int8) for name, value in t.items()}, "Quantised adapters"),
    (lambda t: {**t, **{n.replace("weight", "other.weight"): v for n, v in t.items()}}, "holds 2 adapters"),
    (lambda t: {n: v[:0] if "lora_A" in n else v[:, :0] for n, v in t.items()}, "no two matrices that fit"),
    (lambda t: {name: value.flatten() for name, value in t.items()}, "no two matrices that fit"),
    (lambda t: {name: value.sum() for name, value in t.items()}, "no two matrices that fit"),
    (lambda t: {_as_table(n): v[None] for n, v in t.items()}, "no two matrices that fit"),
    (lambda t: {**t, f"model.{POSITIONS}": torch.ones(2, 16, 32)}, "made for another model: .*pos_embed"),
    (lambda t: {**t, **{f"model.{n}": v for n, v in t.items()}}, "twice, under different prefixes"),
    (lambda t: {"language_model.model.embed_tokens.weight": torch.ones(4, 4)}, "is a whole model"),
    (lambda t: {}, "holds no tensors"),
    (lambda t: {f"gen_vision_model.{n}": v for n, v in t.items()}, "changes the VQ tokenizer"),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_an_adapter_that_does_not_belong_to_the_model_is_refused(
    tiny: Tiny, write_adapter: WriteAdapter, spoil: Callable, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        merged_with(tiny, write_adapter(spoil(one(tiny))))


def test_a_wrong_base_is_told_with_the_right_one(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    path = write_adapter(_wider(one(tiny)), base_model_name_or_path="deepseek-ai/Janus-Pro-7B")
    with pytest.raises(CheckpointError, match="deepseek-ai/Janus-Pro-7B"):
        merged_with(tiny, path)


def test_pickles_other_files_and_empty_folders_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    pickle, gguf, folder = tmp_path / "style.bin", tmp_path / "style.gguf", tmp_path / "folder"
    folder.mkdir()
    for file in (pickle, gguf):
        file.write_bytes(b"GGUF")
    for path, said in (
        (pickle, "can run code"),
        (gguf, "a GGUF file"),
        (folder, "holds no adapter_model.safetensors"),
        (tmp_path / "absent.safetensors", "There is no adapter"),
        ("~nobody_of_this_name/style.safetensors", "There is no adapter"),
        (r"C:\loras\style.safetensors", "There is no adapter"),
        ("a" * 300, "Cannot look for the adapter"),
    ):
        with pytest.raises(CheckpointError, match=said):
            read_adapter(path, tiny.shapes, "janus-tiny")
    (folder / "adapter_model.bin").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="can run code"):
        read_adapter(folder, tiny.shapes, "janus-tiny")


def test_whole_tensors_are_shaped_as_the_model_has_them(tiny: Tiny, write_adapter: WriteAdapter) -> None:
    ours = "seeing.vision_tower.position_embedding.weight"
    value = torch.ones(1, *tiny.shapes[ours])
    path = write_adapter({"vision_model.vision_tower.pos_embed": value})
    [change] = read_adapter(path, tiny.shapes, "janus-tiny").changes
    assert isinstance(change, Whole)
    assert torch.equal(merged_with(tiny, path)[ours].float(), value[0])
