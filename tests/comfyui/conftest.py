"""A real ComfyUI with the pack in it, started once; every test gets a connection of its own."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the helpers beside this file

from comfy_client import Client, Run
from comfy_server import HOW_TO_GET_ONE, ComfyUI, Server, find_comfyui, run_project_python
from graphs import Graph

GOLDEN = HERE.parent / "parity" / "golden"
PACKS = HERE / "packs"
_SERVERS = pytest.StashKey[list[Server]]()
_LOG_LINES = 60


@dataclass(frozen=True)
class CoreResults:
    """What the core alone computes: texts by case, and pictures and image tokens by case."""

    texts: dict[str, list[str]]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Drawing:
    """One drawing by the random model: what was sent, what was told, the picture."""

    graph: Graph
    draw: str
    run: Run
    picture: np.ndarray


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SERVERS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a ComfyUI leave one test, skipped for all of them, so that the reason is read."""
    ours = [item for item in items if HERE in item.path.parents]
    if ours and find_comfyui() is None:
        ours[0].add_marker(pytest.mark.skip(reason=HOW_TO_GET_ONE))
        config.hook.pytest_deselected(items=ours[1:])
        items[:] = [item for item in items if item not in ours[1:]]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for server in item.config.stash[_SERVERS]:
            tail = "\n".join(server.log().splitlines()[-_LOG_LINES:])
            report.sections.append((f"end of {server.base.name}'s log", tail))


@pytest.fixture(scope="session")
def comfy() -> ComfyUI:
    found = find_comfyui()
    assert found is not None  # else no test that asks is left
    return found


def furnish(base: Path) -> None:
    """Put the tiny model and the golden pictures where the server looks for them."""
    shutil.copytree(GOLDEN / "janus-tiny-bin", base / "models" / "janus" / "janus-tiny")
    for picture in (GOLDEN / "images").glob("*.png"):
        shutil.copy(picture, base / "input" / picture.name)


def _running(server: Server, config: pytest.Config) -> Iterator[Server]:
    furnish(server.base)
    config.stash[_SERVERS].append(server)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def server(
    comfy: ComfyUI, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("comfy") / "server"
    yield from _running(Server(comfy, base, [PACKS / "janus-test-tools"]), pytestconfig)


@pytest.fixture(scope="session")
def crowded_server(
    comfy: ComfyUI, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Server]:
    """A second server: two other Janus packs beside ours, a person's own folders, no previews.

    It keeps outputs only while they are in use, so that its memory can be measured.
    """
    folder = tmp_path_factory.mktemp("comfy")
    paths = folder / "extra_model_paths.yaml"
    paths.write_text(
        f"elsewhere:\n  base_path: {folder}/elsewhere\n  janus: models\n  janus_datasets: photos\n",
        encoding="utf-8",
    )
    options = ["--cache-classic", "--extra-model-paths-config", str(paths)]
    packs = [path for path in sorted(PACKS.iterdir()) if (path / "__init__.py").exists()]
    made = Server(comfy, folder / "crowded-server", packs, preview_method="none", further_options=options)
    yield from _running(made, pytestconfig)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as made:
        yield made


@pytest.fixture
def crowded_client(crowded_server: Server) -> Iterator[Client]:
    with Client(crowded_server.url) as made:
        yield made


@pytest.fixture
def graph() -> Graph:
    return Graph()


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> CoreResults:
    """Compute by the project's own Python, so that nothing of the nodes can agree with itself."""
    out = tmp_path_factory.mktemp("core")
    run_project_python(HERE / "core_results.py", GOLDEN / "janus-tiny-bin", GOLDEN / "images", out)
    with np.load(out / "drawings.npz") as file:
        arrays = {name: file[name] for name in file.files}
    return CoreResults(json.loads((out / "texts.json").read_text(encoding="utf-8")), arrays)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the random model, whose pictures have the published size."""
    folder = tmp_path_factory.mktemp("models") / "janus-random"
    run_project_python(HERE / "write_random_model.py", folder)
    return folder


@pytest.fixture(scope="session")
def with_random(server: Server, random_model: Path) -> Server:
    """Return the server with the random model installed."""
    (server.base / "models" / "janus" / random_model.name).symlink_to(random_model, target_is_directory=True)
    return server


@pytest.fixture(scope="session")
def drawing(with_random: Server) -> Drawing:
    """One drawing by the random model, which several tests look at."""
    graph = Graph()
    draw = graph.add("JanusDraw", model=graph.load(model="janus-random"), seed=11)
    saved = graph.saved([draw, 0])
    with Client(with_random.url) as client:
        run = client.run(graph)
        assert run.error is None, run.error
        return Drawing(graph, draw, run, client.pictures(run, saved)[0])
