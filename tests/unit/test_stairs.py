"""Holds the stairs of docs/architecture.md: imports go strictly downward between rooms and inside each."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

from tools.stairs import PACKAGES, PAGE, ROOT, Stairs, read_table

COMFYUI = {
    "comfy",
    "comfy_api",
    "comfy_extras",
    "folder_paths",
    "latent_preview",
    "server",
    "nodes",
    "execution",
}
LIBRARIES = {"torch", "tokenizers", "safetensors", "einops", "PIL", "numpy", "tqdm"}
LIBRARIES |= {"huggingface_hub"}  # comes with transformers; only downloads use it, and say where it is absent
OPTIONAL = {Path("janus_core/generation/triton_kernels"): {"triton"}}  # each by one file, which few import

ROOMS = read_table((ROOT / PAGE).read_text(encoding="utf-8"))
STAIRS = Stairs(ROOMS)
MODULES = STAIRS.modules()
INNER = STAIRS.inner_modules()
ENGINE = [module for module in MODULES if module.parts[0] == "janus_core"]


def each(modules: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", modules, ids=[module.as_posix() for module in modules])


def outside_names(module: Path) -> set[str]:
    """Return the top-level names that a module imports from outside its own package."""
    found = set()
    for node in STAIRS.syntax(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


def test_the_page_lists_every_file_once() -> None:
    listed = [f"{room.path}/{file}" for room in ROOMS for file in room.files]
    listed += [room.path for room in ROOMS if not room.files]
    assert sorted(listed) == [module.as_posix() for module in INNER]


@each(INNER)
def test_imports_go_strictly_downward(module: Path) -> None:
    assert STAIRS.upward(module) == []


def test_no_two_files_of_the_engine_share_a_name() -> None:
    names = Counter(module.name for module in INNER if module.parts[0] == "janus_core")
    assert [name for name, times in names.items() if times > 1] == []


@each(ENGINE)
def test_the_engine_does_not_know_comfyui(module: Path) -> None:
    assert outside_names(module) & COMFYUI == set()


@each(ENGINE)
def test_the_engine_does_not_know_training(module: Path) -> None:
    assert "janus_training" not in outside_names(module)


@each([module for module in MODULES if module.parts[0] != "nodes"])
def test_only_declared_libraries_are_imported(module: Path) -> None:
    allowed = LIBRARIES | set(PACKAGES) | OPTIONAL.get(module, set())
    assert outside_names(module) - sys.stdlib_module_names - allowed == set()


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("janus_core/model/heads", "from .vision_tower import VisionTower"),
        ("janus_core/model/heads", "from ..generation.sampling import guide"),
        ("janus_core/errors", "from . import options"),
        ("janus_core/cli/draw", "from janus_training.world import scenes"),
        ("nodes/bridge/folders", "from ..draw import JanusDraw"),
    ],
)
def test_an_import_that_goes_up_would_be_noticed(module: str, line: str, tmp_path: Path) -> None:
    for path in MODULES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).with_suffix(".py").touch()
    (tmp_path / module).with_suffix(".py").write_text(line, encoding="utf-8")
    assert Stairs(ROOMS, tmp_path).upward(Path(module)) != []
