"""How the package behaves as a whole: what it shows, what importing it costs, what it declares."""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import inspect
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import janus_core

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "janus_core"
ROOMS: dict[str, str] = vars(janus_core)["_ROOMS"]


# public names


def test_public_names_are_sorted() -> None:
    assert janus_core.__all__ == sorted(janus_core.__all__)


def test_public_names_are_those_of_the_deferred_table() -> None:
    assert janus_core.__all__ == list(ROOMS)


@pytest.mark.parametrize("name", janus_core.__all__)
def test_a_public_name_is_what_its_room_holds(name: str) -> None:
    room = importlib.import_module(f"janus_core.{ROOMS[name]}")
    assert getattr(janus_core, name) is getattr(room, name)


@pytest.mark.parametrize("name", janus_core.__all__)
def test_a_class_or_function_is_public_from_the_room_that_defines_it(name: str) -> None:
    value = getattr(janus_core, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ == f"janus_core.{ROOMS[name]}"


def test_type_checkers_see_the_same_names_from_the_same_rooms() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert {alias.name: node.module for node in imports for alias in node.names} == ROOMS


def test_public_names_are_what_dir_shows() -> None:
    assert dir(janus_core) == janus_core.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"no public name 'Janos'"):
        janus_core.Janos  # noqa: B018 - looking it up is the test


# importing


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_importing_the_package_takes_no_library() -> None:
    libraries = ("torch", "numpy", "PIL", "tokenizers", "safetensors", "einops", "transformers")
    code = f"import sys, janus_core; print([name for name in {libraries} if name in sys.modules])"
    assert python(code) == "[]"


def test_the_engine_runs_without_transformers() -> None:
    code = "import sys, janus_core; janus_core.load_janus; print('transformers' in sys.modules)"
    assert python(code) == "False"


# the pack's root


@pytest.fixture
def root() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pack_outside_comfyui", ROOT / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_root_imports_without_comfyui(root: ModuleType) -> None:
    assert inspect.iscoroutinefunction(root.comfy_entrypoint)


def test_the_web_folder_exists(root: ModuleType) -> None:
    assert (ROOT / root.WEB_DIRECTORY).is_dir()


def test_nodes_that_cannot_be_loaded_leave_a_traceback_in_the_log(
    root: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ImportError), caplog.at_level(logging.ERROR, logger="janus"):
        asyncio.run(root.comfy_entrypoint())
    [record] = caplog.records
    assert record.getMessage() == "Janus: the nodes could not be loaded"
    assert record.exc_info


# what is declared


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    toml = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    content: dict[str, Any] = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return content


def test_requirements_are_the_dependencies_without_torch(project: dict[str, Any]) -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    required = [line for line in lines if line.strip()]
    assert required == [name for name in project["dependencies"] if not re.match(r"torch\b", name)]


def test_torch_is_a_dependency_without_a_pin(project: dict[str, Any]) -> None:
    assert "torch" in project["dependencies"]


@pytest.mark.parametrize("pin", ["==", "<", "~="])
def test_no_dependency_has_an_upper_bound(project: dict[str, Any], pin: str) -> None:
    assert [name for name in project["dependencies"] if pin in name] == []
