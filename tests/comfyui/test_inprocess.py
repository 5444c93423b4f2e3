"""Checks that need the nodes at hand, run by ComfyUI's own Python in one process of its own."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_server import PACK, ComfyUI, environment
from conftest import GOLDEN, HERE

_FILES = sorted((HERE / "inprocess").glob("checks_*.py"))
_CHECKS = [
    function.name
    for file in _FILES
    for function in ast.parse(file.read_text(encoding="utf-8")).body
    if isinstance(function, ast.FunctionDef) and function.name.startswith("check_")
]


@pytest.fixture(scope="module")
def results(comfy: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Return what the import brought in, and by check None or its traceback."""
    folder = tmp_path_factory.mktemp("inprocess")
    models, out = folder / "models", folder / "results.json"
    shutil.copytree(GOLDEN / "janus-tiny-bin", models / "janus-tiny")
    shutil.copytree(GOLDEN / "janusflow-tiny", models / "janusflow-tiny")
    command = [comfy.python, HERE / "inprocess" / "run.py", comfy.path, PACK, models, out]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert out.exists(), done.stdout + done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("check", _CHECKS)
def test_inside_comfyui(results: dict, check: str) -> None:
    trace = results["checks"][check]
    assert trace is None, trace


@pytest.mark.parametrize("dynamic", ["off", "on"])
def test_checks_for_a_gpu_walk_through_on_a_cpu(comfy: ComfyUI, tmp_path: Path, dynamic: str) -> None:
    command = [comfy.python, HERE / "residency.py", comfy.path, "--cpu", "--dynamic", dynamic]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ok", "FAIL"))]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(lines) == 10, lines


def test_importing_the_nodes_imports_nothing_but_what_comes_with_python(results: dict) -> None:
    """Whatever is slow to import, torch above all, is there already or waits for its first use."""
    assert "janus_pack" in results["imported"]
    assert set(results["imported"]) <= {"janus_pack", *sys.stdlib_module_names}
