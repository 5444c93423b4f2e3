"""Every example workflow on the real page: it opens whole, sends what it should, and shows its result.

They run on the bundled model that they name; where it is absent, on the test checkpoint in its place.
JANUS_SCREENSHOTS names a folder in which the pictures of the pages are kept.
"""

import json
import os
from pathlib import Path

import pytest
from comfy_server import EXAMPLE_MODEL
from page_actions import ask_server, load, picture, press_cancel, press_run, run

from tools.templates.known import ALL

HERE = Path(__file__).parent
WORKFLOWS = HERE.parents[1] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
RIGHT_AFTER_INSTALL = [name for name, template in ALL.items() if template.runs_as_installed()]
pytestmark = pytest.mark.browser

_UNKNOWN = """app.rootGraph.nodes
    .filter(node => !(node.type in LiteGraph.registered_node_types))
    .map(node => node.type)"""
_BROKEN = "app.rootGraph.nodes.filter(node => node.has_errors).map(node => node.type)"
_HAVE_PICTURES = "ids => ids.every(id => app.rootGraph.getNodeById(id).imgs?.length)"
_TEXTS = """type => app.rootGraph.nodes
    .filter(node => node.type === type)
    .flatMap(node => node.widgets.map(widget => String(widget.value)))"""


def without_titles(prompt):
    """Return a prompt without the titles of its nodes, which are for people and follow their language."""
    return {key: {name: node[name] for name in ("class_type", "inputs")} for key, node in prompt.items()}


@pytest.mark.parametrize("name", NAMES)
def test_workflow_opens_without_missing_nodes(page, name):
    load(page, name, EXAMPLE_MODEL)
    assert page.evaluate("app.rootGraph.nodes.length") >= 3
    assert page.evaluate(_UNKNOWN) == []
    if name in RIGHT_AFTER_INSTALL:  # the page marks nodes whose files are not there
        assert page.evaluate(_BROKEN) == []


@pytest.mark.parametrize("name", NAMES)
def test_workflow_sends_what_the_golden_says(page, name):
    load(page, name, EXAMPLE_MODEL)
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    expected = (
        (HERE / "golden" / f"{name}.json").read_text(encoding="utf-8").replace("janus-shapes", EXAMPLE_MODEL)
    )
    assert without_titles(sent) == without_titles(json.loads(expected))


@pytest.mark.parametrize("name", RIGHT_AFTER_INSTALL)
def test_run_shows_the_result_on_the_page(page, server, name, tmp_path):
    load(page, name, EXAMPLE_MODEL)
    done = run(page, server)
    assert done["status"]["status_str"] == "success"
    pictured = [node for node, ui in done["outputs"].items() if ui.get("images")]
    page.wait_for_function(_HAVE_PICTURES, arg=pictured, timeout=60_000)
    texts = [text for ui in done["outputs"].values() for text in ui.get("text", [])]
    assert pictured or texts
    for kind in ("PreviewAny", "JanusAsk", "JanusCaption"):  # also on the node that wrote it
        if texts and page.evaluate(_TEXTS, kind):
            assert any(texts[0][:20] in text for text in page.evaluate(_TEXTS, kind)), kind
    shown = picture(page)
    shown.save(Path(os.environ.get("JANUS_SCREENSHOTS", tmp_path)) / f"{name}.png")


def test_cancel_on_the_page_stops_the_run_and_the_next_one_works(page, server):
    load(page, "Draw four pictures with Janus", "janus-random")
    before = set(ask_server(server, "/history"))
    press_run(page)
    page.wait_for_function(
        "app.rootGraph.nodes.some(n => n.type === 'JanusDraw' && n.progress > 0)", timeout=60_000
    )
    press_cancel(page)
    page.wait_for_timeout(2000)
    fresh = set(ask_server(server, "/history")) - before
    [stopped] = [ask_server(server, f"/history/{key}")[key] for key in fresh]
    assert any(message[0] == "execution_interrupted" for message in stopped["status"]["messages"])
    load(page, "Draw four pictures with Janus", EXAMPLE_MODEL)
    assert run(page, server)["status"]["status_str"] == "success"
