"""What a person receives: the files of the wheel, and those of the registry's archive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"janus_core", "janus_training"}


def sources(package: str, ending: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob(f"*{ending}")}


# the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel, without the isolation that would need a network, and list its files."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [path] = folder.glob("*.whl")
    with ZipFile(path) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_two_packages_alone(wheel: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel} == PACKAGES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_the_wheel_holds_every_module_and_says_that_they_are_typed(package: str, wheel: set[str]) -> None:
    modules = {name for name in wheel if name.startswith(f"{package}/") and name.endswith(".py")}
    assert modules == sources(package, ".py")
    assert f"{package}/py.typed" in wheel


def test_the_wheel_holds_the_bundled_model_and_the_recipes(wheel: set[str]) -> None:
    assert {name for name in wheel if "/bundled/" in name} == sources("janus_core/bundled", ".*")
    assert {name for name in wheel if "/recipes/" in name} == sources("janus_training/recipes", ".json")


# the registry's archive: what git tracks, less what .comfyignore names


@pytest.fixture(scope="module")
def archive() -> set[str]:
    pathspec = pytest.importorskip("pathspec")
    if not (ROOT / ".git").exists():
        pytest.skip("which files are tracked is known to git alone")
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    ignored = pathspec.PathSpec.from_lines("gitignore", patterns)
    return {name for name in done.stdout.splitlines() if not ignored.match_file(name)}


def test_the_archive_holds_what_the_pack_needs_and_nothing_else(archive: set[str]) -> None:
    folders = {"janus_core", "locales", "nodes", "web", "workflows"}
    files = {"CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "pyproject.toml", "requirements.txt"}
    assert {name.split("/")[0] for name in archive} == folders | files


def test_the_archive_keeps_the_help_pages(archive: set[str]) -> None:
    assert {name for name in archive if name.startswith("web/")} == sources("web", ".*")


def test_no_name_in_the_archive_would_be_quoted_by_git(archive: set[str]) -> None:
    assert [name for name in archive if name.startswith('"')] == []
