"""Recognise what is no model: adapters, other programs' files, unfinished downloads.

Messages name what was found and say what to do. Looks at names and first bytes of files, never at tensors.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ..errors import CheckpointError
from ..reading import parse_json, read_small_text

log = logging.getLogger("janus.checkpoints")

ADAPTER_FILES = (
    "adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors", "adapter.safetensors",
    "pytorch_lora_weights.safetensors", "non_lora_trainables.bin",
)  # fmt: skip
# What download programs put beside a file that is not finished.
_UNFINISHED = (".aria2", ".incomplete", ".part", ".crdownload", ".partial", ".download", ".!qB", ".!ut")
_LFS_MARK = b"version https://git-lfs"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FETCH_AGAIN = "Fetch it again from where it was published."
_OTHER_ENDINGS = {
    ".gguf": "a GGUF file, made for llama.cpp; it has no parts for drawing",
    ".onnx": "an ONNX export, which holds a graph instead of weights",
    ".h5": "a Keras or HDF5 file",
    ".msgpack": "weights for Flax",
    ".ckpt": "a checkpoint of Lightning or TensorFlow",
    ".npz": "a NumPy archive",
    ".pte": "an ExecuTorch program",
    ".mlpackage": "a Core ML package",
}
_TAKE_WEIGHTS = "Use the safetensors or .bin files of the model."


def is_adapter_file(path: Path) -> bool:
    """Tell by its name whether a weight file belongs to an adapter."""
    return path.name in ADAPTER_FILES or "lora" in path.name.lower().split(".")[0]


def adapters_in(folder: Path) -> list[str]:
    """Return the names of adapter files in a folder."""
    if (folder / "adapter_config.json").is_file():
        return ["adapter_config.json"]
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in (".safetensors", ".bin") and is_adapter_file(path)
    )


def remark_on_adapters(folder: Path) -> None:
    """Warn that an adapter beside base weights is not used; beside one file it may be another model's."""
    found = adapters_in(folder) if folder.is_dir() else []
    if found:
        log.warning(
            'Janus: "%s" holds an adapter (%s) beside its weights. It is NOT used unasked: choose it in '
            "Janus LoRA, or give it with --lora, to see its effect.",
            folder,
            found[0],
        )


def what_lies_there(folder: Path) -> str | None:
    """Return what a folder without a model's files is instead, as the rest of a sentence, or None."""
    if adapters_in(folder):
        return (
            f"is an adapter{_base_of(folder)}, not a whole model. Load its base model, and choose the "
            "adapter in Janus LoRA, or give it with --lora."
        )
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        kind = kind_by_ending(folder / name)
        if kind:
            return f'holds "{name}", {kind}. {_TAKE_WEIGHTS}'
    return _training_state(folder, names)


def kind_by_ending(path: Path) -> str | None:
    """Return what a file of another program is, by its ending, or None."""
    return _OTHER_ENDINGS.get(path.suffix.lower())


def _base_of(folder: Path) -> str:
    try:
        base = parse_json(read_small_text(folder / "adapter_config.json"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return f' for "{base:.80}"' if isinstance(base, str) and base else ""


def _training_state(folder: Path, names: list[str]) -> str | None:
    if any(name.startswith("global_step") for name in names) or "zero_to_fp32.py" in names:
        return (
            "is a training state of DeepSpeed, its weights cut in pieces. Run zero_to_fp32.py, which lies in "
            "it, and put the result beside config.json and tokenizer.json."
        )
    state = [name for name in names if name.startswith(("optimizer", "scheduler", "trainer_state"))]
    if state:
        return (
            f'holds "{state[0]}", the state of a training run, but no model. Choose the folder that '
            "save_pretrained wrote."
        )
    return None


def refuse_unfinished(path: Path) -> None:
    """Raise CheckpointError if a download program's control file says that a file is not finished."""
    for ending in _UNFINISHED:
        control = path.with_name(path.name + ending)
        if control.exists():
            raise CheckpointError(
                f'"{path}" is not finished: "{control.name}" lies beside it. Continue the download, or fetch '
                "the file again and remove that one."
            )


def refuse_pretenders(path: Path) -> None:
    """Raise CheckpointError for a folder, a broken link, a Git-LFS pointer, a web page or an empty file."""
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is a link to a file that is not there"
        raise CheckpointError(f'"{path}" {what}. {_FETCH_AGAIN}')
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise CheckpointError(f'Cannot read "{path}": {error}. Check the permissions of the file.') from error
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not text:
        raise CheckpointError(f'"{path}" is empty. {_FETCH_AGAIN}')
    if text.startswith(_LFS_MARK):
        raise CheckpointError(
            f'"{path}" is a Git-LFS pointer of a few lines, not the weights. Run "git lfs pull" in the '
            "folder, or download the file itself."
        )
    if text.startswith(b"<") and b"\0" not in head[:8]:  # weights may start so too, but with zero bytes
        raise CheckpointError(
            f'"{path}" is a web page, not weights: the download was answered by an error or a login page. '
            f"{_FETCH_AGAIN}"
        )
