"""Every example workflow on the real page: it opens whole, sends what it should, and shows its result.

They run on the bundled model that they name; where it is absent, on the test checkpoint in its place.
JANUS_SCREENSHOTS names a folder in which the pictures of the pages are kept.
"""

import io
import json
import os
import urllib.request
from pathlib import Path

import pytest
from comfy_server import EXAMPLE_MODEL
from PIL import Image

from tools.templates.known import ALL

HERE = Path(__file__).parent
WORKFLOWS = HERE.parents[1] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
RIGHT_AFTER_INSTALL = [name for name, template in ALL.items() if template.runs_as_installed()]
pytestmark = pytest.mark.browser

_BROKEN = """app.rootGraph.nodes
    .filter(node => node.has_errors || !(node.type in LiteGraph.registered_node_types))
    .map(node => node.type)"""
_PICTURES = "type => app.rootGraph.nodes.filter(n => n.type === type).map(n => (n.imgs ?? []).length)"
_HAS_PICTURES = f"type => {{ const all = ({_PICTURES})(type); return all.length > 0 && all.every(Boolean) }}"
_TEXTS = """type => app.rootGraph.nodes
    .filter(node => node.type === type)
    .flatMap(node => node.widgets.map(widget => String(widget.value)))"""


_TYPES = "app.rootGraph.nodes.map(node => node.type).sort()"
# Fit all nodes between the bars of the page; returns where they are then, in pixels of the page.
_FIT = """([left, top, width, height]) => {
    const boxes = app.rootGraph.nodes.map(node => node.getBounding());
    const x = Math.min(...boxes.map(b => b[0])), y = Math.min(...boxes.map(b => b[1]));
    const right = Math.max(...boxes.map(b => b[0] + b[2])), end = Math.max(...boxes.map(b => b[1] + b[3]));
    const ds = app.canvas.ds, scale = Math.min(width / (right - x), height / (end - y), 1);
    ds.scale = scale;
    ds.offset = [left / scale - x, top / scale - y];
    app.canvas.setDirty(true, true);
    return [(right - x) * scale, (end - y) * scale];
}"""
_ROOM = (120, 140, 1400, 740)  # left, top, width, height of the part of the page that is always free
_MARGIN = 24  # for the badges above the nodes


def load(page, name, model):
    """Open a workflow with a model in place of the one it names; the page's own first graph may come late."""
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "JanusLoad" and node["widgets_values"][0] == "janus-shapes":
            node["widgets_values"][0] = model
    for _ in range(20):
        page.evaluate("async workflow => { await app.loadGraphData(workflow) }", workflow)
        page.wait_for_timeout(1500)
        if page.evaluate(_TYPES) == sorted(node["type"] for node in workflow["nodes"]):
            return
    raise AssertionError("the page shows another graph")


def ask_server(server, path):
    with urllib.request.urlopen(f"{server.url}{path}") as reply:
        return json.load(reply)


def picture(page):
    """Return a picture of all nodes, without the bars of the page."""
    width, height = page.evaluate(_FIT, list(_ROOM))
    page.wait_for_timeout(1000)
    clip = {
        "x": _ROOM[0] - _MARGIN,
        "y": _ROOM[1] - _MARGIN,
        "width": width + 2 * _MARGIN,
        "height": height + 2 * _MARGIN,
    }
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def run(page, server, timeout_s=120):
    """Press Run and wait for the end; returns the finished entry of the history."""
    before = set(ask_server(server, "/history"))
    page.get_by_test_id("queue-button").first.click()
    for _ in range(4 * timeout_s):
        page.wait_for_timeout(250)
        fresh = set(ask_server(server, "/history")) - before
        if fresh:
            page.wait_for_timeout(1500)  # the page draws what it received
            return ask_server(server, f"/history/{fresh.copy().pop()}")[fresh.pop()]
    raise AssertionError("the run did not end")


@pytest.mark.parametrize("name", NAMES)
def test_workflow_opens_without_missing_nodes(page, name):
    load(page, name, EXAMPLE_MODEL)
    assert page.evaluate("app.rootGraph.nodes.length") >= 3
    assert page.evaluate(_BROKEN) == []


@pytest.mark.parametrize("name", NAMES)
def test_workflow_sends_what_the_golden_says(page, name):
    load(page, name, EXAMPLE_MODEL)
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    expected = (
        (HERE / "golden" / f"{name}.json").read_text(encoding="utf-8").replace("janus-shapes", EXAMPLE_MODEL)
    )
    assert sent == json.loads(expected)


@pytest.mark.parametrize("name", RIGHT_AFTER_INSTALL)
def test_run_shows_the_result_on_the_page(page, server, name, tmp_path):
    load(page, name, EXAMPLE_MODEL)
    done = run(page, server)
    assert done["status"]["status_str"] == "success"
    page.wait_for_function(_HAS_PICTURES, arg="PreviewImage", timeout=60_000)
    texts = [text for ui in done["outputs"].values() for text in ui.get("text", [])]
    for kind in ("PreviewAny", "JanusAsk", "JanusCaption"):  # also on the node that wrote it
        if texts and page.evaluate(_TEXTS, kind):
            assert any(texts[0][:20] in text for text in page.evaluate(_TEXTS, kind)), kind
    shown = picture(page)
    shown.save(Path(os.environ.get("JANUS_SCREENSHOTS", tmp_path)) / f"{name}.png")


def test_cancel_on_the_page_stops_the_run_and_the_next_one_works(page, server):
    load(page, "Draw four pictures", "janus-random")
    before = set(ask_server(server, "/history"))
    page.get_by_test_id("queue-button").first.click()
    page.wait_for_function(
        "app.rootGraph.nodes.some(n => n.type === 'JanusDraw' && n.progress > 0)", timeout=60_000
    )
    page.get_by_role("button", name="Cancel current run").click()
    page.wait_for_timeout(2000)
    fresh = set(ask_server(server, "/history")) - before
    [stopped] = [ask_server(server, f"/history/{key}")[key] for key in fresh]
    assert any(message[0] == "execution_interrupted" for message in stopped["status"]["messages"])
    load(page, "Draw four pictures", EXAMPLE_MODEL)
    assert run(page, server)["status"]["status_str"] == "success"
