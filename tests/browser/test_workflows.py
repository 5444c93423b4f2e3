"""Every example workflow on the real page: it opens whole, sends what it should, and shows its result."""

import json
import os
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WORKFLOWS = HERE.parents[1] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
pytestmark = pytest.mark.browser

_BROKEN = """app.rootGraph.nodes
    .filter(node => node.has_errors || !(node.type in LiteGraph.registered_node_types))
    .map(node => node.type)"""
_PICTURES = "type => app.rootGraph.nodes.filter(n => n.type === type).map(n => (n.imgs ?? []).length)"
_TEXTS = """type => app.rootGraph.nodes
    .filter(node => node.type === type)
    .flatMap(node => node.widgets.map(widget => String(widget.value)))"""


def load(page, name, model):
    """Open a workflow with another model in place of the one it names."""
    text = (WORKFLOWS / f"{name}.json").read_text(encoding="utf-8").replace("janus-shapes", model)
    page.evaluate("async text => { await app.loadGraphData(JSON.parse(text)) }", text)
    page.wait_for_timeout(1000)


def ask_server(server, path):
    with urllib.request.urlopen(f"{server.url}{path}") as reply:
        return json.load(reply)


def run(page, server, timeout_s=60):
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
    load(page, name, "janus-tiny")
    assert page.evaluate("app.rootGraph.nodes.length") >= 3
    assert page.evaluate(_BROKEN) == []


@pytest.mark.parametrize("name", NAMES)
def test_workflow_sends_what_the_golden_says(page, name):
    load(page, name, "janus-tiny")
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    expected = (
        (HERE / "golden" / f"{name}.json").read_text(encoding="utf-8").replace("janus-shapes", "janus-tiny")
    )
    assert sent == json.loads(expected)


@pytest.mark.parametrize("name", NAMES)
def test_run_shows_the_result_on_the_page(page, server, name, tmp_path):
    load(page, name, "janus-tiny")
    done = run(page, server)
    assert done["status"]["status_str"] == "success"
    shown = page.evaluate(_PICTURES, "PreviewImage")
    assert shown
    assert all(shown)
    texts = [text for ui in done["outputs"].values() for text in ui.get("text", [])]
    if texts:
        assert any(texts[0][:20] in text for text in page.evaluate(_TEXTS, "PreviewAny"))
    kept = Path(os.environ.get("JANUS_SCREENSHOTS", tmp_path))
    page.screenshot(path=kept / f"{name}.png")


def test_cancel_on_the_page_stops_the_run_and_the_next_one_works(page, server):
    load(page, "Draw four pictures", "janus-random")
    before = set(ask_server(server, "/history"))
    page.evaluate("async () => { await app.queuePrompt(0, 1) }")
    page.wait_for_function(
        "app.rootGraph.nodes.some(n => n.type === 'JanusDraw' && n.progress > 0)", timeout=60_000
    )
    page.evaluate("async () => { await app.api.interrupt() }")
    page.wait_for_timeout(2000)
    fresh = set(ask_server(server, "/history")) - before
    [stopped] = [ask_server(server, f"/history/{key}")[key] for key in fresh]
    assert any(message[0] == "execution_interrupted" for message in stopped["status"]["messages"])
    load(page, "Draw four pictures", "janus-tiny")
    assert run(page, server)["status"]["status_str"] == "success"
