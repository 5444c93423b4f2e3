"""Holds the stairs of docs/architecture.md: imports go strictly downward between rooms and inside each."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("janus_core", "janus_training", "nodes")
COMFYUI = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "server", "nodes", "execution"}
LIBRARIES = {"torch", "tokenizers", "safetensors", "einops", "PIL", "numpy", "tqdm"}
LIBRARIES |= {"huggingface_hub"}  # comes with transformers; only downloads use it, and say where it is absent


@dataclass(frozen=True, kw_only=True)
class Room:
    """A row of the table: a file, or a folder with its files from the lowest up."""

    level: int
    path: str
    files: tuple[str, ...]


def read_table(page: str) -> list[Room]:
    rows = re.findall(r"^\| (\d+) \| `([\w/]+)` \|([\w ]*)\| .+\. \|$", page, flags=re.MULTILINE)
    return [Room(level=int(level), path=path, files=tuple(files.split())) for level, path, files in rows]


ROOMS = read_table((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("") for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)
INNER = [module for module in MODULES if module.name not in ("__init__", "__main__")]  # the others are doors
ENGINE = [module for module in MODULES if module.parts[0] == "janus_core"]


def each(modules: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", modules, ids=[module.as_posix() for module in modules])


def nodes_of(module: Path, root: Path = ROOT) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((root / module).with_suffix(".py").read_text(encoding="utf-8")))


def modules_imported(module: Path, root: Path = ROOT) -> set[Path]:
    """Return our own modules that one of them imports, as paths below the root."""
    found = set()
    for node in nodes_of(module, root):
        if not isinstance(node, ast.ImportFrom):
            continue
        named = tuple(node.module.split(".")) if node.module else ()
        target = (*module.parts[: len(module.parts) - node.level], *named) if node.level else named
        if target and target[0] in PACKAGES and (node.level or target[0] != "nodes"):
            names = [Path(*target, alias.name) for alias in node.names]
            found |= {name if is_module(name, root) else Path(*target) for name in names}
    return found


def is_module(path: Path, root: Path) -> bool:
    return (root / path).is_dir() or (root / path).with_suffix(".py").is_file()


def room_of(module: Path) -> Room | None:
    """Return the room that a module stands in; doors stand in none."""
    here = [room for room in ROOMS if module.as_posix() == room.path or module.parent.as_posix() == room.path]
    return here[0] if here else None


def upward(module: Path, root: Path = ROOT) -> list[str]:
    """Return what a module imports although it does not stand below it."""
    own = room_of(module)
    assert own is not None, module
    wrong = []
    for imported in modules_imported(module, root):
        room = room_of(imported)
        if room is None:
            # A package itself: nodes take the engine's public names, or a file of the bridge by its folder.
            is_allowed = own.path.startswith("nodes") and imported == Path("janus_core")
        elif room == own:
            is_allowed = own.files.index(imported.name) < own.files.index(module.name)
        else:
            is_allowed = room.level < own.level
        if not is_allowed:
            wrong.append(imported.as_posix())
    return sorted(wrong)


def outside_names(module: Path) -> set[str]:
    """Return the top-level names that a module imports from outside its own package."""
    found = set()
    for node in nodes_of(module):
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
    assert upward(module) == []


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
    assert outside_names(module) - sys.stdlib_module_names - LIBRARIES - set(PACKAGES) == set()


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
    assert upward(Path(module), tmp_path) != []
