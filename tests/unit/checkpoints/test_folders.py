"""Model folders as people have them: every layout, several formats, links, and folders of other models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from janus_core import CheckpointError, is_janus_folder, load_janus
from janus_core.checkpoints.load import read_checkpoint

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
INDEX = "pytorch_model.bin.index.json"


def assert_same(state_dict: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state_dict.keys() == expected.keys()
    assert all(torch.equal(state_dict[name].float(), expected[name].float()) for name in expected)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        load_janus(folder, dtype="float32", device="cpu")
    return str(raised.value)


# --- layouts ---


@pytest.mark.parametrize(
    ("name", "layout"), [("janus-tiny-bin", "authors"), ("janus-tiny-hf", "transformers")]
)
def test_the_layout_is_told_from_the_files(name: str, layout: str) -> None:
    assert read_checkpoint(GOLDEN / name).layout == layout


def test_all_layouts_of_one_model_give_the_same_tensors(
    bare: Path, published: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    save_file({name: tensor.float() for name, tensor in published.items()}, bare / "model.safetensors")
    assert_same(read_checkpoint(bare).state_dict, expected)
    assert_same(read_checkpoint(GOLDEN / "janus-tiny-hf").state_dict, expected)


def test_tensors_keep_the_files_dtype() -> None:
    state_dict = read_checkpoint(GOLDEN / "janus-tiny-bin").state_dict
    assert {tensor.dtype for tensor in state_dict.values()} == {torch.bfloat16}


def without_model(name: str) -> str:
    return name.removeprefix("model.")


def model_inside(name: str) -> str:
    return without_model(name).replace("language_model.", "language_model.model.")


def model_twice(name: str) -> str:
    return f"model.{name}"


@pytest.mark.parametrize("rename", [without_model, model_inside, model_twice])
def test_other_prefixes_of_native_files_are_read(
    native: Path, expected: dict[str, Tensor], rename: Callable[[str], str]
) -> None:
    tensors = load_file(native / "model.safetensors")
    save_file({rename(name): tensor for name, tensor in tensors.items()}, native / "model.safetensors")
    assert_same(read_checkpoint(native).state_dict, expected)


def test_one_native_tensor_under_two_prefixes_is_refused(native: Path) -> None:
    tensors = load_file(native / "model.safetensors")
    tensors["model.lm_head.weight"] = tensors["lm_head.weight"].clone()
    save_file(tensors, native / "model.safetensors")
    assert '1 tensor is stored twice under different prefixes, first "lm_head.weight"' in refusal(native)


def test_native_queries_keys_and_values_must_be_equal_thirds(native: Path) -> None:
    tensors = load_file(native / "model.safetensors")
    prefix = "model.vision_model.encoder.layers.0.self_attn."
    longer, shorter = f"{prefix}q_proj.weight", f"{prefix}k_proj.weight"
    tensors[longer] = torch.cat((tensors[longer], tensors[shorter][:8]))
    tensors[shorter] = tensors[shorter][8:].clone()
    save_file(tensors, native / "model.safetensors")
    message = refusal(native)
    assert f'2 tensors are of another shape than config.json says, first "{shorter}"' in message
    assert "It has [40, 48] instead of [48, 48]" in message


# --- which files are read ---


def test_safetensors_are_preferred_to_bin(folder: Path, expected: dict[str, Tensor]) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"damaged")
    assert_same(read_checkpoint(folder).state_dict, expected)


def test_a_single_file_is_preferred_to_the_index_of_shards(folder: Path, expected: dict[str, Tensor]) -> None:
    (folder / "model.safetensors.index.json").write_text("damaged")
    assert_same(read_checkpoint(folder).state_dict, expected)


def test_a_bin_is_preferred_to_safetensors_of_another_name(
    bare: Path, published: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    torch.save(published, bare / "pytorch_model.bin")
    save_file({"adapter": torch.zeros(1)}, bare / "adapter_model.safetensors")
    assert_same(read_checkpoint(bare).state_dict, expected)


def test_the_only_safetensors_file_may_have_any_name(folder: Path, expected: dict[str, Tensor]) -> None:
    (folder / "model.safetensors").rename(folder / "janus.safetensors")
    assert_same(read_checkpoint(folder).state_dict, expected)


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_a_complete_shard_set_needs_no_index(
    bare: Path, published: dict[str, Tensor], expected: dict[str, Tensor], suffix: str
) -> None:
    names = sorted(published)
    for number in range(3):
        part, path = names[number::3], bare / f"model-0000{number + 1}-of-00003.{suffix}"
        tensors = {name: published[name] for name in part}
        save_file(tensors, path) if suffix == "safetensors" else torch.save(tensors, path)
    assert_same(read_checkpoint(bare).state_dict, expected)


def test_a_hugging_face_cache_of_links_is_read(
    tmp_path: Path, shards: Path, expected: dict[str, Tensor]
) -> None:
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "1daa72f", tmp_path / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(shards.iterdir()):
        shutil.move(path, blobs / f"{number:040x}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:040x}")
    assert_same(read_checkpoint(snapshot).state_dict, expected)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "written before torch 1.6"])
def test_a_single_bin_is_read(
    bare: Path, published: dict[str, Tensor], expected: dict[str, Tensor], is_zip: bool
) -> None:
    torch.save(published, bare / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    assert_same(read_checkpoint(bare).state_dict, expected)


def test_parameters_in_a_bin_become_plain_tensors(
    bare: Path, published: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    torch.save({n: torch.nn.Parameter(t) for n, t in published.items()}, bare / "pytorch_model.bin")
    state_dict = read_checkpoint(bare).state_dict
    assert_same(state_dict, expected)
    assert {type(tensor) for tensor in state_dict.values()} == {Tensor}
    assert not any(tensor.requires_grad for tensor in state_dict.values())


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_byte_order_mark_is_skipped(folder: Path, expected: dict[str, Tensor], name: str) -> None:
    (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert_same(read_checkpoint(folder).state_dict, expected)


def test_unused_tensors_may_be_missing_or_of_any_dtype(
    bare: Path, published: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    needed = {name: tensor for name, tensor in published.items() if ".attn_pool." not in name}
    counter = {"gen_vision_model.quantize.codebook_used": torch.zeros(4, dtype=torch.int64)}
    save_file(needed | counter, bare / "model.safetensors")
    assert_same(read_checkpoint(bare).state_dict, expected)


def test_weights_whose_first_bytes_look_like_text_are_no_web_page(
    bare: Path, published: dict[str, Tensor]
) -> None:
    save_file(published, bare / "plain.safetensors")
    content = (bare / "plain.safetensors").read_bytes()
    old = int.from_bytes(content[:8], "little")
    new = 0x13C20  # as bytes: a space, then "<"
    assert old < new
    header = content[8 : 8 + old] + b" " * (new - old)
    (bare / "plain.safetensors").unlink()
    (bare / "model.safetensors").write_bytes(new.to_bytes(8, "little") + header + content[8 + old :])
    assert read_checkpoint(bare).layout == "authors"


# --- folders that are no Janus ---


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f'Cannot load "{tmp_path / "nowhere"}": it does not exist' in refusal(tmp_path / "nowhere")


def test_the_home_of_nobody_is_a_missing_folder() -> None:
    assert 'Cannot load "~nobody-of-that-name/janus": it does not exist' in refusal(
        Path("~nobody-of-that-name/janus")
    )


def test_a_path_too_long_for_the_system_is_refused() -> None:
    assert "Cannot look into" in refusal(Path("a" * 5000))


def test_a_file_instead_of_a_folder_is_refused(folder: Path) -> None:
    assert "so it is no model in one file. Give the folder that it lies in" in refusal(
        folder / "model.safetensors"
    )


@pytest.mark.parametrize("layout", ["folder", "native"])
@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {
                "model_type": "multi_modality",
                "vision_config": {},
                "aligner_config": {},
                "language_config": {},
            },
            "is a DeepSeek-VL model: it sees, but has no parts for drawing. Choose a Janus model",
        ),
        ({"model_type": "llama"}, "is not a Janus model: its config.json says model_type 'llama'. Choose"),
        ({"model_type": ["janus"]}, "is not a Janus model: its config.json says model_type ['janus']"),
        ({}, "is not a Janus model: its config.json says model_type None"),
    ],
    ids=["DeepSeek-VL", "Llama", "a list", "nothing"],
)
def test_another_model_is_called_by_its_name(
    request: pytest.FixtureRequest, layout: str, config: dict[str, Any], said: str
) -> None:
    folder: Path = request.getfixturevalue(layout)
    (folder / "config.json").write_text(json.dumps(config))
    message = refusal(folder)
    assert said in message
    assert str(folder) in message
    assert not is_janus_folder(folder)


@pytest.mark.parametrize("name", ["janus-tiny-bin", "janus-tiny-hf"])
def test_a_janus_folder_is_recognised(name: str) -> None:
    assert is_janus_folder(GOLDEN / name)


# --- hosts ---


def test_a_host_may_read_the_weight_files_itself(folder: Path, expected: dict[str, Tensor]) -> None:
    seen: list[Path] = []

    def read(path: Path) -> dict[str, Tensor]:
        seen.append(path)
        return load_file(path)

    assert_same(read_checkpoint(folder, read_tensors=read).state_dict, expected)
    assert seen == [folder / "model.safetensors"]


def test_a_name_that_no_system_takes_is_a_folder_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint("a\0b")


def test_whole_weights_beside_a_damaged_index_are_used(shards: Path, expected: dict[str, Tensor]) -> None:
    (shards / "model.safetensors.index.json").write_text("{", encoding="utf-8")
    assert_same(read_checkpoint(shards).state_dict, expected)
