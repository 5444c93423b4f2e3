"""`convert`: one file and back, quantised and compared, and what is refused."""

import json
from pathlib import Path

from .conftest import MODEL, CommandLine


def test_a_folder_becomes_one_file_and_a_folder_again(janus: CommandLine, tmp_path: Path) -> None:
    file, folder = tmp_path / "tiny.safetensors", tmp_path / "tiny"
    code, out, _ = janus("convert", MODEL, "-o", file, model=None)
    assert (code, out.strip()) == (0, str(file))
    code, out, _ = janus("convert", file, "-o", folder, "--json", model=None)
    said = json.loads(out)
    assert code == 0
    assert said == {
        "model": str(file), "file": str(folder), "bytes": said["bytes"], "tensors": 327, "quantised": 0,
    }  # fmt: skip
    assert (folder / "config.json").read_bytes() == (MODEL / "config.json").read_bytes()


def test_a_quantised_model_is_compared_with_its_source(janus: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "tiny_int8.safetensors"
    command = ("convert", MODEL, "-o", file, "--quantise", "int8", "--check", "--device", "cpu", "--json")
    code, out, err = janus(*command, model=None)
    said = json.loads(out)
    assert (code, said["quantised"]) == (0, 21)
    assert said["check"].keys() == {"text", "picture"}
    assert all(0.99 < found["cosine"] < 1 and found["tokens"] == 32 for found in said["check"].values())
    assert "text: " in err
    assert "logits agree to a cosine of 0.99" in err


def test_a_copy_agrees_in_everything(janus: CommandLine, tmp_path: Path) -> None:
    command = ("convert", MODEL, "-o", tmp_path / "tiny.safetensors", "--check", "--device", "cpu")
    _, _, err = janus(*command, model=None)
    assert err.count("all 32 greedy tokens are the same; logits agree to a cosine of 1.00000") == 2


def test_what_exists_is_refused_with_one_sentence(janus: CommandLine, tmp_path: Path) -> None:
    code, out, err = janus("convert", MODEL, "-o", tmp_path, model=None)
    assert (code, out) == (1, "")
    assert err.startswith(f'janus: "{tmp_path}" exists already')
