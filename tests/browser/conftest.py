"""A real ComfyUI page in headless Chromium, with the pack and small models behind it, for two frontends."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# the server is the one that the node tests start; what a test does with the page stands beside this file
sys.path[:0] = [str(HERE.parent / "comfyui"), str(HERE)]

from comfy_server import HOW_TO_GET_ONE, Server, find_comfyui, run_project_python
from page_start import chromium, launched, open_page, quiet_settings

GOLDEN = HERE.parent / "parity" / "golden"
INSTALLED, NEWEST = "installed", "1.58.1"
_NEWEST_ROOT = HERE.parents[1] / ".venv" / "frontend" / "comfyui_frontend_package" / "static"
_HOW_TO_GET_THE_NEWEST = (
    f"NO FRONTEND {NEWEST} FOUND, THE PAGE IS TESTED WITH THE INSTALLED ONE ONLY. `make test-browser` "
    f"fetches it; or set COMFYUI_FRONTEND_PATH to the folder `static` of comfyui-frontend-package=={NEWEST}."
)


def _frontend_options(frontend: str) -> list[str]:
    if frontend == INSTALLED:
        return []
    root = Path(os.environ.get("COMFYUI_FRONTEND_PATH", _NEWEST_ROOT))
    if not (root / "index.html").is_file():
        pytest.skip(_HOW_TO_GET_THE_NEWEST)
    return ["--front-end-root", str(root)]


@pytest.fixture(scope="session", params=[INSTALLED, NEWEST])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    comfy = find_comfyui()
    if comfy is None:
        pytest.skip(HOW_TO_GET_ONE)
    options = _frontend_options(request.param)
    base = tmp_path_factory.mktemp("comfy-page") / "base"
    made = Server(comfy, base, packs=[], has_page=True, further_options=options)
    models = base / "models" / "janus"
    shutil.copytree(GOLDEN / "janus-tiny-bin", models / "janus-tiny")
    shutil.copytree(GOLDEN / "janusflow-tiny", models / "janusflow-tiny")
    run_project_python(HERE.parent / "comfyui" / "write_random_model.py", models / "janus-random")
    made.start()
    quiet_settings(made)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:  # noqa: F821 - playwright is optional
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make test-browser"
    )
    if chromium() is None:
        pytest.skip("no Chromium found: install the distribution's package")
    with playwright.sync_playwright() as session:
        browser = launched(session)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def page(server: Server, browser: "Browser") -> Iterator["Page"]:  # noqa: F821 - likewise
    """One page for all tests of a frontend, since it starts slowly; each test opens a graph of its own."""
    context = browser.new_context(
        viewport={"width": 1700, "height": 1000}, permissions=["clipboard-read", "clipboard-write"]
    )
    yield open_page(context, server)
    context.close()
