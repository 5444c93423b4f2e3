"""A real ComfyUI page in headless Chromium, with the pack and a small model behind it."""

import json
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "comfyui"))  # the server is the one that the node tests start

from comfy_server import HOW_TO_GET_ONE, Server, find_comfyui, run_project_python

GOLDEN_MODEL = HERE.parent / "parity" / "golden" / "janus-tiny-bin"
WORKFLOWS = HERE.parents[1] / "workflows"
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_IS_READY = "window.app?.rootGraph && Object.keys(LiteGraph.registered_node_types).length > 100"


def _chromium() -> str | None:
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    comfy = find_comfyui()
    if comfy is None:
        pytest.skip(HOW_TO_GET_ONE)
    base = tmp_path_factory.mktemp("comfy-page") / "base"
    made = Server(comfy, base, packs=[], has_page=True)
    shutil.copytree(GOLDEN_MODEL, base / "models" / "janus" / "janus-tiny")
    run_project_python(
        HERE.parent / "comfyui" / "write_random_model.py", base / "models" / "janus" / "janus-random"
    )
    made.start()
    request = urllib.request.Request(
        f"{made.url}/settings",
        data=json.dumps({"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:  # noqa: F821 - playwright is optional
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make test-browser"
    )
    chromium = _chromium()
    if chromium is None:
        pytest.skip("no Chromium found: install the distribution's package")
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(server: Server, browser: "Browser") -> Iterator["Page"]:  # noqa: F821 - likewise
    page = browser.new_page(viewport={"width": 1700, "height": 1000})
    page.goto(server.url)
    page.wait_for_function(_IS_READY, timeout=120_000)
    yield page
    page.close()
