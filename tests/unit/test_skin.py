"""The skin keeps to its place: what the nodes may import, read from their source."""

import ast
from pathlib import Path

import pytest

from janus_core import __all__ as public_names

ROOT = Path(__file__).parents[2]
NODES = sorted((ROOT / "nodes").rglob("*.py"))
COMFYUI = {"comfy", "folder_paths", "server"}
each_file = pytest.mark.parametrize("path", NODES, ids=[path.relative_to(ROOT).as_posix() for path in NODES])


def imports(path):
    """Return (level, module, name) of every import of a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(0, alias.name, "") for alias in node.names]
    return found


@each_file
def test_comfyui_is_known_to_the_bridge_alone(path):
    known = {module.split(".")[0] for level, module, _ in imports(path) if level == 0}
    assert path.parent.name == "bridge" or not known & COMFYUI


@each_file
def test_nodes_use_public_names_of_the_core(path):
    used = {name for level, module, name in imports(path) if level and module.split(".")[0] == "janus_core"}
    assert used <= set(public_names)


@each_file
def test_the_core_is_imported_as_a_whole_and_relatively(path):
    modules = {(level, module) for level, module, _ in imports(path) if "janus_core" in module}
    assert all(level and module == "janus_core" for level, module in modules)


@each_file
def test_the_bridge_knows_no_node(path):
    themes = {theme.stem for theme in NODES if theme.parent.name == "nodes"} - {"__init__", "types", "compat"}
    if path.parent.name == "bridge":
        assert not {module.split(".")[0] for level, module, _ in imports(path) if level == 2} & themes


def unused_inputs(source):
    """Return the inputs of nodes, as node.input, that `execute` takes and never reads."""
    unused = []
    for node in ast.walk(ast.parse(source)):
        methods = node.body if isinstance(node, ast.ClassDef) else []
        for method in (found for found in methods if getattr(found, "name", "") == "execute"):
            given = {argument.arg for argument in [*method.args.args, *method.args.kwonlyargs]} - {"cls"}
            read = {name.id for name in ast.walk(method) if isinstance(name, ast.Name)}
            unused += [f"{node.name}.{name}" for name in sorted(given - read)]
    return unused


@each_file
def test_every_input_of_a_node_is_used(path):
    assert unused_inputs(path.read_text(encoding="utf-8")) == []


def test_an_input_without_effect_would_be_noticed():
    source = "class Draw:\n    @classmethod\n    def execute(cls, prompt, top_p):\n        return prompt\n"
    assert unused_inputs(source) == ["Draw.top_p"]
