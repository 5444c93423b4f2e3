"""Folders as people have them: each loads, or is called by its name with the way out."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from janus_core import CheckpointError, load_janus
from janus_core.checkpoints.folders import is_complete_folder, models_in
from janus_core.checkpoints.load import read_checkpoint
from janus_core.inputs.prompting import TurnText, plan_conversation

from .conftest import GOLDEN, SHARDS

WEIGHTS = "model.safetensors"


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        load_janus(folder, dtype="float32", device="cpu")
    return str(raised.value)


def assert_same(folder: Path, expected: dict[str, Tensor]) -> None:
    state_dict = read_checkpoint(folder).state_dict
    assert state_dict.keys() == expected.keys()
    assert all(torch.equal(state_dict[name].float(), expected[name].float()) for name in expected)


@pytest.fixture
def remarks(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "janus.checkpoints")
    return lambda: [record.getMessage() for record in caplog.records]


# --- where it lies ---


def into(*parts: str) -> Callable[[Path, Path], Path]:
    """Return how to move a model folder a few names deeper; gives the folder that a person would name."""

    def move(model: Path, root: Path) -> Path:
        target = root.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(model, target)
        return root / parts[0]

    return move


def into_a_cache(model: Path, root: Path) -> Path:
    cache = root / "models--deepseek-ai--Janus-Pro-1B"
    for commit in ("1111", "2222"):
        shutil.copytree(model, cache / "snapshots" / commit)
    (cache / "snapshots" / "1111" / WEIGHTS).write_bytes(b"old")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("2222")
    return cache


PLACES = {
    "itself": (into("Janus-Pro-1B"), "Janus-Pro-1B"),
    "owner and name": (into("deepseek-ai", "Janus-Pro-1B"), "Janus-Pro-1B"),
    "doubled out of a zip file": (into("mine", "mine"), "mine"),
    "a download cache": (into_a_cache, "Janus-Pro-1B"),
    "a cache without a reference": (into("models--me--Mine", "snapshots", "abc"), "Mine"),
}


@pytest.mark.parametrize("case", list(PLACES.values()), ids=list(PLACES))
def test_a_model_that_lies_deeper_is_found_and_named(
    folder: Path, tmp_path: Path, expected: dict[str, Tensor], case: tuple[Callable[..., Path], str]
) -> None:
    move, name = case
    root = tmp_path / "models"
    root.mkdir()
    given = move(folder, root)
    assert_same(given, expected)
    assert [model.name for model in models_in(root)] == [name]


def test_several_models_in_one_folder_are_listed(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    for name in ("one", "two"):
        shutil.copytree(folder, root / name)
    assert f'holds 2 models. Choose one of them: "{root / "one"}", "{root / "two"}"' in refusal(root)


def test_hidden_folders_and_files_are_no_models(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    shutil.copytree(folder, root / ".cache")
    (root / "config").write_text("x")
    assert list(models_in(root)) == []


# --- which files are used ---


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


SPOILT = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": cut,
    "cut in its header": lambda path: path.write_bytes(path.read_bytes()[:500]),
    "a pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "still being fetched": lambda path: path.with_name(f"{WEIGHTS}.aria2").write_bytes(b"x"),
}


@pytest.mark.parametrize("spoil", list(SPOILT.values()), ids=list(SPOILT))
def test_a_complete_bin_beside_unusable_safetensors_is_used(
    folder: Path,
    published: dict[str, Tensor],
    expected: dict[str, Tensor],
    spoil: Callable[[Path], Any],
    remarks: Callable[[], list[str]],
) -> None:
    torch.save(published, folder / "pytorch_model.bin")
    spoil(folder / WEIGHTS)
    assert_same(folder, expected)
    [remark] = remarks()
    assert WEIGHTS in remark
    assert remark.endswith("pytorch_model.bin is used instead.")


def test_complete_shards_beside_half_a_set_of_others_are_used(
    shards: Path, published: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    save_file({"a": torch.zeros(1)}, shards / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(shards, expected)


ENDINGS = [".aria2", ".incomplete", ".part", ".crdownload", ".partial", ".!qB"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_control_file_of_a_download_program_refuses_the_weights(folder: Path, ending: str) -> None:
    (folder / f"{WEIGHTS}{ending}").write_bytes(b"")
    message = refusal(folder)
    assert f'"{WEIGHTS}{ending}" lies beside it. Continue the download' in message


def test_a_control_file_beside_any_shard_counts(shards: Path) -> None:
    (shards / f"{SHARDS[1]}.aria2").write_bytes(b"")
    assert f'{SHARDS[1]}" is not finished' in refusal(shards)


# --- gaps ---


def punch(path: Path, start: float, length: int) -> None:
    """Fill a part of a file's data with zeros, as space that is reserved and not yet written."""
    content = bytearray(path.read_bytes())
    at = int(len(content) * start)
    content[at : at + length] = bytes(length)
    path.write_bytes(content)


@pytest.mark.parametrize("start", [0.2, 0.45, 0.7, 0.9])
def test_a_gap_of_a_preallocated_download_is_refused(folder: Path, start: float) -> None:
    punch(folder / WEIGHTS, start, 2**16)
    message = refusal(folder)
    assert "long stretches of zeros, first" in message
    assert "continue it, or fetch the weights again" in message


def test_a_gap_in_a_bin_is_refused(shards: Path) -> None:
    punch(shards / SHARDS[0], 0.5, 2**16)
    assert "long stretches of zeros" in refusal(shards)


def test_zeros_that_models_really_have_are_no_gap(folder: Path, published: dict[str, Tensor]) -> None:
    changed = {name: tensor.clone() for name, tensor in published.items()}
    for name, tensor in changed.items():
        if tensor.ndim == 1:
            tensor.zero_()  # biases often are
        elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
            tensor[408:] = 0  # behind the tokenizer's last word
            tensor[5:9] = 0  # words that training never reached
    save_file(changed, folder / WEIGHTS)
    assert read_checkpoint(folder).layout == "authors"


@pytest.mark.parametrize("name", ["janus-tiny-bin", "janus-tiny-hf"])
def test_whole_checkpoints_have_no_gap(name: str) -> None:
    assert read_checkpoint(GOLDEN / name).folder.name == name


# --- names and tables as tools save them ---


def prefixed(prefix: str) -> Callable[[str], str]:
    return lambda name: prefix + name


def compiled_blocks(name: str) -> str:
    return name.replace(".blocks.", ".blocks._orig_mod.").replace(".layers.", ".layers.module.")


RENAMES = {
    "data parallel": prefixed("module."),
    "model": prefixed("model."),
    "PEFT": prefixed("base_model.model."),
    "compiled": prefixed("_orig_mod."),
    "Lightning": prefixed("vl_gpt."),
    "two wrappers": prefixed("module._orig_mod."),
    "wrappers inside": compiled_blocks,
    "both": lambda name: "module." + compiled_blocks(name),
    "base layers": lambda name: "base_model.model." + name.replace("q_proj.", "q_proj.base_layer."),
}


@pytest.mark.parametrize("rename", list(RENAMES.values()), ids=list(RENAMES))
def test_what_wrappers_put_into_names_is_taken_off(
    folder: Path,
    published: dict[str, Tensor],
    expected: dict[str, Tensor],
    rename: Callable[[str], str],
) -> None:
    save_file({rename(name): tensor for name, tensor in published.items()}, folder / WEIGHTS)
    assert_same(folder, expected)


def test_the_missing_tensor_of_wrapped_ones_is_named_as_it_is_wanted(
    folder: Path, published: dict[str, Tensor]
) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in published.items() if name != "gen_embed.weight"}
    save_file(wrapped, folder / WEIGHTS)
    assert '1 tensor is missing, first "gen_embed.weight"' in refusal(folder)


@pytest.mark.parametrize("key", ["state_dict", "model", "module", "model_state_dict"])
def test_a_table_inside_a_training_checkpoint_is_found(
    bare: Path, published: dict[str, Tensor], expected: dict[str, Tensor], key: str
) -> None:
    torch.save({key: published, "epoch": 3, "optimizer": {"state": {}}}, bare / "pytorch_model.bin")
    assert_same(bare, expected)


def test_double_precision_is_converted(bare: Path, published: dict[str, Tensor]) -> None:
    save_file({name: tensor.double() for name, tensor in published.items()}, bare / WEIGHTS)
    assert {tensor.dtype for tensor in read_checkpoint(bare).state_dict.values()} == {torch.float32}


LEFTOVERS = [
    "gen_vision_model.encoder.norm_out.num_batches_tracked",
    "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
    "gen_vision_model.loss.discriminator.main.0.weight",
    "gen_vision_model.quantize.cluster_size",
    "vision_model.total_ops",
]


@pytest.mark.parametrize("name", LEFTOVERS)
def test_what_training_leaves_behind_is_ignored(
    folder: Path, published: dict[str, Tensor], expected: dict[str, Tensor], name: str
) -> None:
    save_file(published | {name: torch.zeros(1, dtype=torch.int64)}, folder / WEIGHTS)
    assert_same(folder, expected)


# --- adapters ---


ADAPTERS = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "my_lora.safetensors"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_beside_the_weights_is_remarked_on_every_time(
    folder: Path, expected: dict[str, Tensor], name: str, remarks: Callable[[], list[str]]
) -> None:
    (folder / name).write_text("{}")
    for _ in range(2):
        assert_same(folder, expected)
    assert [f"holds an adapter ({name})" in remark for remark in remarks()] == [True, True]
    assert "It is NOT used" in remarks()[0]


def test_an_adapter_saved_into_the_weights_is_refused(folder: Path) -> None:
    tensors = {f"base_model.model.{name}": tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    part = "base_model.model.language_model.model.layers.0.self_attn.q_proj"
    tensors[f"{part}.lora_A.default.weight"] = torch.zeros(4, 8)
    save_file(tensors, folder / WEIGHTS)
    message = refusal(folder)
    assert "1 tensor is of an adapter, first" in message
    assert "Merge it (merge_and_unload)" in message


# --- folders that are no model ---

GGUF = "a GGUF file, made for llama.cpp"
STRANGERS: dict[str, tuple[dict[str, str], str]] = {
    "an adapter": (
        {"adapter_config.json": '{"base_model_name_or_path": "deepseek-ai/Janus-Pro-7B"}'},
        'is an adapter for "deepseek-ai/Janus-Pro-7B", not a whole model. Load its base model',
    ),
    "an adapter's weights": ({"adapter_model.bin": "x"}, "is an adapter, not a whole model"),
    "GGUF": ({"Janus-Pro-1B-Q4.gguf": "GGUF", "README.md": "x"}, f'holds "Janus-Pro-1B-Q4.gguf", {GGUF}'),
    "ONNX": ({"decoder.onnx": "x"}, "an ONNX export"),
    "Flax": ({"flax_model.msgpack": "x"}, "weights for Flax"),
    "DeepSpeed": (
        {"zero_to_fp32.py": "x", "latest": "global_step9"},
        "a training state of DeepSpeed.*Run zero_to_fp32",
    ),
    "an optimiser": ({"optimizer.pt": "x", "trainer_state.json": "{}"}, "the state of a training run"),
}


@pytest.mark.parametrize("has_config", [False, True], ids=["bare", "with a configuration"])
@pytest.mark.parametrize("case", list(STRANGERS.values()), ids=list(STRANGERS))
def test_what_is_no_model_is_called_by_its_name(
    bare: Path, case: tuple[dict[str, str], str], has_config: bool
) -> None:
    files, said = case
    if not has_config:
        for path in list(bare.iterdir()):
            path.unlink()
    for name, content in files.items():
        (bare / name).write_text(content)
    with pytest.raises(CheckpointError, match=said) as raised:
        load_janus(bare, device="cpu")
    assert "download is probably incomplete" not in str(raised.value)


def test_the_state_of_an_optimiser_in_place_of_the_weights_is_named(bare: Path) -> None:
    state = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save(state, bare / "pytorch_model.bin")
    assert 'pytorch_model.bin" is the state of an optimiser, not a model' in refusal(bare)


def test_a_gguf_file_given_as_the_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "janus.gguf").write_bytes(b"GGUF")
    assert GGUF in refusal(tmp_path / "janus.gguf")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_a_git_lfs_pointer_in_place_of_a_small_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert f'{name}" is a Git-LFS pointer of a few lines' in refusal(folder)


@pytest.mark.parametrize("content", ['{"guidance_scale": 5,}', "", "[1]", "version https://git-lfs"])
def test_a_damaged_generation_config_does_not_stop_a_load(
    folder: Path, expected: dict[str, Tensor], content: str, remarks: Callable[[], list[str]]
) -> None:
    (folder / "generation_config.json").write_text(content)
    assert_same(folder, expected)
    assert "generation_config.json" in remarks()[0]
    assert remarks()[0].endswith("The model is used without this file.")


def test_a_folder_is_complete_only_with_whole_weights_and_its_tokenizer(folder: Path) -> None:
    assert is_complete_folder(folder)
    cut(folder / WEIGHTS)
    assert not is_complete_folder(folder)


@pytest.mark.parametrize("sft_format", ["deepseek", "deepseek_old", None])
def test_a_tokenizer_without_role_tokens_speaks_the_words_of_old_models(
    folder: Path, sft_format: str | None
) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"] = [one for one in content["added_tokens"] if one["content"] != "<|User|>"]
    content["model"]["vocab"].pop("<|User|>", None)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "processor_config.json").write_text(json.dumps({"sft_format": sft_format}))
    checkpoint = read_checkpoint(folder)
    turns = [TurnText(role="user", text="Hi")]
    old_roles = checkpoint.config.old_roles
    plan = plan_conversation(turns, checkpoint.tokenizer, image_tokens=16, system="", old_roles=old_roles)
    assert checkpoint.tokenizer.decode(plan.token_ids) == "User: Hi\n\nAssistant:"
