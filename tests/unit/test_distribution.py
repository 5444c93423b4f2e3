"""What a person receives: the files of the wheel, those of the registry's archive, and what both say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tools.install_group import read_toml

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
    pytest.importorskip("pathspec")
    if not (ROOT / ".git").exists():
        pytest.skip("which files are tracked is known to git alone")
    from tools.archive import archived_files

    return set(archived_files())


def test_the_archive_holds_what_the_pack_needs_and_nothing_else(archive: set[str]) -> None:
    folders = {"janus_core", "locales", "nodes", "web", "workflows"}
    files = {"CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "pyproject.toml", "requirements.txt"}
    assert {name.split("/")[0] for name in archive} == folders | files


def test_the_archive_keeps_the_help_pages(archive: set[str]) -> None:
    assert {name for name in archive if name.startswith("web/")} == sources("web", ".*")


def test_no_name_in_the_archive_would_be_quoted_by_git(archive: set[str]) -> None:
    assert [name for name in archive if name.startswith('"')] == []


# what the registry and a citation say


def addresses() -> dict[str, str]:
    """Return the addresses of ours by their key in pyproject.toml and CITATION.cff."""
    content = read_toml(ROOT / "pyproject.toml")
    urls, comfy = content["project"]["urls"], content["tool"]["comfy"]
    cited = re.findall(r"^(repository-code|url): (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    ours = {name: urls[name] for name in ("Repository", "Documentation", "Bug Tracker", "Changelog")}
    return {**ours, "Icon": comfy["Icon"], "Banner": comfy["Banner"], **dict(cited)}


def test_every_address_of_ours_is_below_the_repository() -> None:
    ours = addresses()
    path = ours["Repository"].removeprefix("https://github.com")
    assert len(path.split("/")) == 3
    strangers = {
        name: url
        for name, url in ours.items()
        if not re.match(rf"https://(github\.com|raw\.githubusercontent\.com){re.escape(path)}(/|$)", url)
    }
    assert strangers == {}


def test_every_file_at_an_address_of_ours_is_here() -> None:
    inside = [re.search(r"/main/(.+)", url) for url in addresses().values()]
    paths = [found[1] for found in inside if found]
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_workflow_that_publishes_runs_at_the_repository_alone() -> None:
    workflow = (ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    path = addresses()["Repository"].removeprefix("https://github.com/")
    assert f"if: github.repository == '{path}'" in workflow


def test_name_and_requirements_are_such_as_the_registry_takes() -> None:
    content = read_toml(ROOT / "pyproject.toml")
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,99}", content["project"]["name"])
    assert "comfyui" not in content["project"]["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", content["project"]["version"])
    assert re.fullmatch(r">=\d+\.\d+\.\d+", content["tool"]["comfy"]["requires-comfyui"])
    assert re.fullmatch(r"[a-z][a-z0-9-]*", content["tool"]["comfy"]["PublisherId"])


def test_the_citation_is_of_the_version_that_is_published() -> None:
    version = read_toml(ROOT / "pyproject.toml")["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_tests_on_every_system_have_every_python_that_is_promised() -> None:
    classifiers = read_toml(ROOT / "pyproject.toml")["project"]["classifiers"]
    promised = [text.rpartition(" ")[2] for text in classifiers if ":: Python :: 3" in text]
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert f"python: [{', '.join(repr(version) for version in promised)}]" in workflow
