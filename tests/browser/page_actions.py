"""What a test does with the real page: open a workflow or build one, run it, look at what is shown."""

import io
import json
import urllib.request
from pathlib import Path

from PIL import Image

WORKFLOWS = Path(__file__).parents[2] / "workflows"

IS_READY = "window.app?.rootGraph && Object.keys(LiteGraph.registered_node_types).length > 100"
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
# Make nodes by type, set widgets by name, link by name; returns the ids. The order of inputs does not matter.
_BUILD = """([nodes, links]) => {
    const made = {};
    let left = 0;
    for (const [key, [type, values]] of Object.entries(nodes)) {
        const node = (made[key] = LiteGraph.createNode(type));
        node.pos = [left, 0];
        app.rootGraph.add(node);
        left += node.size[0] + 60;
        for (const [name, value] of Object.entries({ control_after_generate: "fixed", ...values })) {
            const widget = node.widgets?.find(one => one.name === name);
            if (widget) widget.value = value;
        }
    }
    for (const [from, output, to, input] of links) {
        const link = made[from].connect(
            made[from].findOutputSlot(output), made[to], made[to].findInputSlot(input)
        );
        if (!link) throw new Error(`no link from ${from}'s ${output} to ${to}'s ${input}`);
    }
    return Object.fromEntries(Object.entries(made).map(([key, node]) => [key, String(node.id)]));
}"""
# Note which runs the page has heard the end of.
_NOTE_ENDS = """() => {
    if (window.endedRuns) return;
    window.endedRuns = [];
    for (const end of ["success", "error", "interrupted"]) {
        app.api.addEventListener(`execution_${end}`, ({ detail }) => endedRuns.push(detail.prompt_id));
    }
}"""
_DRAWN_MS = 500  # from the last message of a run to what the page makes of it
EMPTY = {"nodes": [], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4}


def open_graph(page, workflow):
    """Open a workflow; the page's own first graph may come late."""
    page.evaluate(_NOTE_ENDS)
    for _ in range(20):
        page.evaluate("async workflow => { await app.loadGraphData(workflow) }", workflow)
        page.wait_for_timeout(1500)
        if page.evaluate(_TYPES) == sorted(node["type"] for node in workflow["nodes"]):
            if workflow["nodes"]:
                page.evaluate(_FIT, list(_ROOM))  # what lies outside is not laid out, and shows no pictures
            return
    raise AssertionError("the page shows another graph")


def load(page, name, model):
    """Open an example workflow with a model in place of the one it names."""
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "JanusLoad" and node["widgets_values"][0] == "janus-shapes":
            node["widgets_values"][0] = model
    open_graph(page, workflow)


def build(page, nodes, links):
    """Make a graph in a workflow of its own.

    Args:
        nodes: type and widget values by a name of the test's own.
        links: (name, output as it is displayed, name, input).

    Returns: the ids by name.
    """
    open_graph(page, EMPTY)
    ids = page.evaluate(_BUILD, [nodes, links])
    page.evaluate(_FIT, list(_ROOM))
    return ids


def use_vue_nodes(page, is_vue):
    page.evaluate("is => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', is)", is_vue)
    page.wait_for_timeout(1000)


def ask_server(server, path):
    with urllib.request.urlopen(f"{server.url}{path}") as reply:
        return json.load(reply)


def picture(page):
    """Return a picture of all nodes, without the bars of the page."""
    size = page.evaluate(_FIT, list(_ROOM))
    page.wait_for_timeout(1000)
    return crop(page, _ROOM[:2], size)


def crop(page, top_left, size):
    """Return a picture of a part of the page with a margin around it."""
    clip = {
        "x": top_left[0] - _MARGIN,
        "y": top_left[1] - _MARGIN,
        "width": size[0] + 2 * _MARGIN,
        "height": size[1] + 2 * _MARGIN,
    }
    return Image.open(io.BytesIO(page.screenshot(clip=clip, timeout=180_000))).convert("RGB")


def press_run(page):
    page.get_by_test_id("queue-button").first.click()


def press_cancel(page):
    page.get_by_role("button", name="Cancel current run").click()


def run(page, server, timeout_s=120):
    """Press Run and wait for the end; returns the finished entry of the history."""
    before = set(ask_server(server, "/history"))
    press_run(page)
    return ended(page, server, before, timeout_s)


def ended(page, server, before, timeout_s=120):
    """Wait for the run that is not among those before; returns its entry of the history."""
    for _ in range(4 * timeout_s):
        page.wait_for_timeout(250)
        fresh = set(ask_server(server, "/history")) - before
        if fresh:
            [key] = fresh
            page.wait_for_function("key => endedRuns.includes(key)", arg=key)
            page.wait_for_timeout(_DRAWN_MS)
            return ask_server(server, f"/history/{key}")[key]
    raise AssertionError("the run did not end")
