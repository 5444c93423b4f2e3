"""Holds the stairs of docs/architecture.md: imports go strictly downward."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "janus_core"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

STAIRS = {
    "errors": 0,
    "config": 1, "options": 1, "pictures": 1,
    "layers": 2, "kv_cache": 2, "text_tokenizer": 2, "image_tokens": 2, "preprocessing": 2, "noise": 2,
    "sampling": 2, "repeats": 2, "batches": 2,
    "vision_tower": 3, "language_model": 3, "vq_tokenizer": 3, "heads": 3, "prompting": 3, "memory": 3,
    "model": 4, "preview": 4, "fixed_decoder": 4, "turns": 4,
    "checkpoints": 5, "prefill": 5, "packing": 5, "placement": 5,
    "text_generation": 6, "image_generation": 6,
    "janus": 7,
    "loading": 8,
    "cli": 9,
}  # fmt: skip
DOORS = {"__init__": 11, "__main__": 11}  # they import, and are imported by nobody
CHECKPOINTS = {
    "layout": 0,
    "names": 1, "config_files": 1, "config_writing": 1, "folders": 1,
    "load": 2,
    "__init__": 3,
}  # fmt: skip
TRAINING = ROOT / "janus_training"
COMFYUI = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "server", "nodes", "execution"}
LIBRARIES = {"torch", "tokenizers", "safetensors", "einops", "PIL", "numpy", "tqdm"}

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
each_module = pytest.mark.parametrize("module", MODULES, ids=[path.as_posix() for path in MODULES])


def nodes_of(module: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8")))


def modules_imported(module: Path) -> set[tuple[str, ...]]:
    """Return the package's modules that one of them imports, each as parts below `janus_core`."""
    found = set()
    for node in nodes_of(module):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module.parts[: len(module.parts) - node.level]
            target = (*base, *(node.module or "").split(".")) if node.module else base
            names = [(*target, alias.name) for alias in node.names]
            found |= {name if is_module(name) else target for name in names}
    return found


def is_module(parts: tuple[str, ...]) -> bool:
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()


def outside_names(module: Path) -> set[str]:
    """Return the top-level names that a module imports from outside its own package."""
    found = set()
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


def room_of(parts: tuple[str, ...]) -> str:
    return Path(parts[0]).stem if parts else "__init__"


def test_every_room_stands_on_the_stairs() -> None:
    rooms = {room_of(module.parts) for module in MODULES}
    assert rooms - DOORS.keys() - STAIRS.keys() == set()


def test_the_architecture_page_tells_the_same_levels() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| .+\. \|$", ARCHITECTURE, flags=re.MULTILINE)
    assert {room: int(level) for level, room in rows} == STAIRS


@pytest.mark.parametrize("room", CHECKPOINTS)
def test_the_architecture_page_mentions_the_rooms_of_checkpoints(room: str) -> None:
    assert f"`{room}`" in ARCHITECTURE


@each_module
def test_imports_go_strictly_downward(module: Path) -> None:
    level, own = {**STAIRS, **DOORS}, room_of(module.parts)
    others = {room_of(imported) for imported in modules_imported(module)} - {own}
    assert [other for other in sorted(others & level.keys()) if level[other] >= level.get(own, 0)] == []


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_imports_inside_checkpoints_go_strictly_downward(name: str) -> None:
    imported = modules_imported(Path("checkpoints") / f"{name}.py")
    inside = {parts[1] for parts in imported if parts[0] == "checkpoints" and len(parts) > 1}
    assert [other for other in sorted(inside) if CHECKPOINTS[other] >= CHECKPOINTS[name]] == []


def test_every_room_of_checkpoints_is_known() -> None:
    assert {path.stem for path in (PACKAGE / "checkpoints").glob("*.py")} == CHECKPOINTS.keys()


@each_module
def test_the_engine_does_not_know_comfyui(module: Path) -> None:
    assert outside_names(module) & COMFYUI == set()


@each_module
def test_the_engine_imports_only_what_it_declares(module: Path) -> None:
    assert outside_names(module) - sys.stdlib_module_names - LIBRARIES == set()


def test_a_sideways_import_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heads.py").write_text("from .vision_tower import VisionTower\n", encoding="utf-8")
    (tmp_path / "vision_tower.py").touch()
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    with pytest.raises(AssertionError):
        test_imports_go_strictly_downward(Path("heads.py"))
