"""Folders of models and token files: names in a combo to paths on disk, and back.

A model's name is the bare name of a folder, or of a file that holds a whole model. What a combo sends is
untrusted and is checked before it becomes a path.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import folder_paths

from ...janus_core import (
    PUBLISHED,
    CheckpointError,
    ImageError,
    OutputError,
    bundled_models,
    is_complete_folder,
    is_janus_folder,
    is_unfinished,
    models_in,
)

KEY = "janus"
TOKENS_SUFFIX = ".janus.safetensors"
NOTHING_INSTALLED = "(no Janus model installed)"

_SETTLED_NS = 2_000_000_000  # no less than the coarsest clock of a file system, FAT's two seconds

# Where models in one file may lie beside ours: where people put what reads text.
_TEXT_ENCODERS = "text_encoders"

# Folders that other packs use, searched so that nobody downloads twice.
_SHARED_FOLDERS = ("Janus-Pro", "LLM", "deepseek-ai")


def register() -> None:
    """Tell ComfyUI about `models/janus`; folders of the user's `extra_model_paths.yaml` stay first."""
    folder_paths.add_model_folder_path(KEY, str(Path(folder_paths.models_dir) / KEY))
    folder_paths.folder_names_and_paths[KEY][1].update({".safetensors", ".bin", ".json"})


def search_folders() -> list[Path]:
    """List the folders that may hold model folders, ours first."""
    own = [Path(path) for path in folder_paths.get_folder_paths(KEY)]
    shared = [Path(folder_paths.models_dir) / name for name in _SHARED_FOLDERS]
    known = (folder_paths.folder_names_and_paths.get(name, ([], set()))[0] for name in _SHARED_FOLDERS)
    return list(dict.fromkeys([*own, *shared, *(Path(path) for paths in known for path in paths)]))


def model_choices() -> list[str]:
    """List what the model combo offers: bundled, installed, published; never empty."""
    ready = [*bundled_models(), *_installed()]
    return list(dict.fromkeys([*(ready or [NOTHING_INSTALLED]), *PUBLISHED]))


def model_folder(name: str) -> Path:
    """Return the folder of a model's name, or the file that holds it.

    Raises:
        CheckpointError: not a bare name, or not installed; the message says what to do.
    """
    is_bare = isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name
    if not is_bare or "\\" in name or "\0" in name:
        raise CheckpointError(f"{name!r} is no name of a model folder. Choose a model from the list.")
    if name in bundled_models():
        return bundled_models()[name]
    installed = _installed_folders()
    if name in installed:
        return installed[name]
    for folder in search_folders():
        if (folder / name).exists():
            return folder / name
    same = [other for other in installed if other.lower() == name.lower()]
    if len(same) == 1:
        return installed[same[0]]
    target = search_folders()[0] / name
    if name == NOTHING_INSTALLED:
        first = next(iter(PUBLISHED.values()))
        raise CheckpointError(
            f'There is no Janus model yet. Put one into "{target.parent}", or choose {first.name} in the '
            f"list, which is then downloaded ({first.size_gb} GB)."
        )
    raise CheckpointError(
        f'There is no model folder "{name}" in "{target.parent}" or the other model folders. Choose one '
        f"from the list{_listed()}."
    )


def folder_to_fill(name: str) -> Path | None:
    """Return where a published model is to be downloaded; None where it is installed, or not published."""
    if not isinstance(name, str) or name not in PUBLISHED or name in bundled_models():
        return None
    there = [place for other, place in _installed_folders().items() if other.lower() == name.lower()]
    if any(is_complete_folder(place) for place in there):
        return None
    begun = [folder / name for folder in search_folders() if is_unfinished(folder / name)]
    if begun:
        return begun[0]
    return None if there else search_folders()[0] / name


def installed_models() -> dict[str, Path]:
    """Return the folders of all models that can be loaded now, by name."""
    return {**_installed_folders(), **bundled_models()}


def shown_path(path: Path) -> str:
    """Return a path as people see it, from ComfyUI's folder on where it lies in there."""
    base = Path(folder_paths.base_path)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def _listed() -> str:
    ready = [*bundled_models(), *_installed()]
    return f": {', '.join(ready)}" if ready else ""


def model_state(name: str) -> str:
    """Return what changes with the files of a model's folder, which a published model need not have yet.

    ComfyUI writes it into every picture that it saves, so it must not tell where the files lie.
    """
    state = folder_state(folder_to_fill(name) or model_folder(name))
    return hashlib.sha256(repr(state).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def folder_state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return path, size and time of every file of a model, to notice that it was replaced."""
    inside = folder.iterdir() if folder.is_dir() else [folder]
    files = sorted(path for path in inside if path.is_file())
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def _installed() -> list[str]:
    return list(_installed_folders())


def _installed_folders() -> dict[str, Path]:
    """Return the folders of installed models by name; of several under one name, a complete one."""
    found: dict[str, list[Path]] = {}
    for root in search_folders():
        try:
            models = list(models_in(root))
        except OSError:
            continue  # a shared folder that this installation does not have
        for model in models:
            try:
                stamp = (model.folder / "config.json").stat().st_mtime_ns
            except OSError:
                continue  # gone since
            if _is_janus(str(model.folder), stamp):
                found.setdefault(model.name, []).append(model.folder)
    for file in _one_files():
        found.setdefault(file.name, []).append(file)
    return {name: _most_complete(places) for name, places in found.items()}


def _one_files() -> Iterator[Path]:
    """Find models in one file, also in subfolders; whether a file is one stands in its header."""
    for key in (KEY, _TEXT_ENCODERS):
        for name in listed(key) if key in folder_paths.folder_names_and_paths else ():
            path = folder_paths.get_full_path(key, name) if name.endswith(".safetensors") else None
            with contextlib.suppress(OSError):  # gone since
                if path is not None and _is_janus(path, Path(path).stat().st_mtime_ns):
                    yield Path(path)


def listed(key: str) -> list[str]:
    """List the files of one of ComfyUI's kinds of folders by their names, those in subfolders too."""
    try:
        return list(folder_paths.get_filename_list(key))
    except FileNotFoundError:  # core remembers a folder that is gone
        folder_paths.filename_list_cache.pop(key, None)
        return list(folder_paths.get_filename_list(key))


def _most_complete(places: list[Path]) -> Path:
    if len(places) == 1:
        return places[0]
    return next((place for place in places if is_complete_folder(place)), places[0])


@lru_cache(maxsize=4096)
def _is_janus(place: str, _mtime_ns: int) -> bool:
    """Tell it of a folder, or of one file, and remember it until its configuration changes."""
    return is_janus_folder(place)


def token_choices() -> list[str]:
    """List token files in the input folder, and in the output folder marked as ComfyUI marks them."""
    found = [
        path.relative_to(base).as_posix() + mark
        for base, mark in (
            (Path(folder_paths.get_input_directory()), ""),
            (Path(folder_paths.get_output_directory()), " [output]"),
        )
        for path in sorted(_token_files(base))
    ]
    return found or ["(no token file)"]


def _token_files(folder: Path) -> Iterator[Path]:
    """Find token files in a folder and below; only folders that changed are read again.

    ComfyUI asks for the choices many times a prompt, and an output folder may hold a hundred thousand files.
    """
    try:
        changed_ns = folder.stat().st_mtime_ns
    except OSError:
        return
    # A change within the clock's last tick would go unnoticed later.
    is_settled = time.time_ns() - changed_ns > _SETTLED_NS
    files, subfolders = (_listing if is_settled else _listing.__wrapped__)(folder, changed_ns)
    yield from (folder / name for name in files)
    for name in subfolders:
        yield from _token_files(folder / name)


@lru_cache(maxsize=4096)
def _listing(folder: Path, _changed_ns: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of token files and of subfolders."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError:
        return (), ()
    files = tuple(entry.name for entry in entries if entry.name.endswith(TOKENS_SUFFIX) and entry.is_file())
    return files, tuple(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def token_file(name: str) -> Path:
    """Return the path of a token file's name.

    Raises:
        ImageError: outside ComfyUI's folders, or not there.
    """
    path = known_file(name)
    if path is not None:
        return path
    raise ImageError(
        f'There is no token file "{name}". Put files that end in {TOKENS_SUFFIX} into the input folder, or '
        "save some with Save Janus Tokens."
    )


def known_file(name: str) -> Path | None:
    """Return the file in ComfyUI's input or output folder that a person names, if there is one."""
    bases = (folder_paths.get_input_directory(), folder_paths.get_output_directory())
    # Newer releases refuse a path that leads outside, and every one refuses a null character.
    with contextlib.suppress(ValueError, OSError):
        real = Path(folder_paths.get_annotated_filepath(name)).resolve()
        if any(real.is_relative_to(Path(base).resolve()) for base in bases) and real.is_file():
            return real
    return None


def new_token_file(filename_prefix: str) -> Path:
    """Return an unused path in the output folder for a prefix, which may name a subfolder.

    Raises:
        OutputError: the prefix leads out of the output folder, or the folder cannot be made.
    """
    [path] = unused_files(filename_prefix, (TOKENS_SUFFIX,))
    return path


def unused_files(filename_prefix: str, endings: Sequence[str], size: tuple[int, int] = (0, 0)) -> list[Path]:
    """Return paths of one stem in the output folder, one for each ending, none of which exists.

    Args:
        filename_prefix: may name a subfolder.
        endings: of the files.
        size: width and height, which the prefix may refer to.

    Raises:
        OutputError: the prefix leads out of the output folder, or the folder cannot be made.
    """
    base = folder_paths.get_output_directory()
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, base, *size)
        stem = Path(folder) / name
        paths = _numbered(stem, counter, endings)
        while any(path.exists() for path in paths):
            counter += 1
            paths = _numbered(stem, counter, endings)
    except Exception as error:
        raise OutputError(
            f'Cannot save under the prefix "{filename_prefix}": {error}. Use a prefix inside the output '
            "folder."
        ) from error
    return paths


def _numbered(stem: Path, counter: int, endings: Sequence[str]) -> list[Path]:
    return [stem.with_name(f"{stem.name}_{counter:05}_{ending}") for ending in endings]
