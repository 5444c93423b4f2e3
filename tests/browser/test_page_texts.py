"""What our nodes show beside their results: texts that stay, remarks, and models that are not installed.

In classic nodes and in Vue nodes ("Nodes 2.0"), which lay out and draw widgets each in their own way.
"""

import json
import os
from pathlib import Path

import pytest
from comfy_server import BUNDLED
from page_actions import IS_READY, ask_server, build, ended, open_graph, picture, press_cancel, press_run, run
from page_actions import use_vue_nodes as use_vue

pytestmark = pytest.mark.browser
REFERS, PLAIN = "What is in this picture?", "What is two and two?"
LONG = "a long answer with many words in it " * 30

_SHOWN = """([id, name]) => {
    const widget = app.rootGraph.getNodeById(id).widgets.find(one => one.name === name);
    if (!widget) return null;
    const area = widget.element;
    return {
        text: widget.value,
        isReadOnly: area.readOnly,
        isWhole: area.isConnected && area.offsetHeight > 0 && area.scrollHeight <= area.clientHeight + 2,
        isWarning: area.classList.contains("janus-missing"),
    };
}"""
_WIDGETS = "id => app.rootGraph.getNodeById(id).widgets.map(widget => widget.name)"
_VALUES = "id => app.rootGraph.getNodeById(id).serialize().widgets_values"
_SENT = "async id => Object.keys((await app.graphToPrompt()).output[id].inputs)"
_COPIED = """async ([id, name]) => {
    const { element } = app.rootGraph.getNodeById(id).widgets.find(one => one.name === name);
    element.focus();
    element.select();
}"""
_CHOOSE = """([id, name]) => {
    const widget = app.rootGraph.getNodeById(id).widgets.find(one => one.name === "model");
    widget.value = name;
    widget.callback?.(name);
}"""
_EXECUTED = "([id, output]) => app.rootGraph.getNodeById(id).onExecuted(output)"
_HEIGHT = "id => app.rootGraph.getNodeById(id).size[1]"
_PICTURES = """id => [
    app.rootGraph.getNodeById(id).imgs?.length ?? 0,
    document.querySelectorAll(`[data-node-id="${id}"] img`).length,
].reduce((all, some) => all + some)"""
_COLOURS = """type => [
    LGraphCanvas.link_type_colors[type],
    app.canvas.default_connection_color_byType[type],
    getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`).trim(),
]"""

# Title, default width, and what the title needs beside the dot that collapses the node, of all our nodes.
_TITLES = """() => {
    const ruler = document.createElement("canvas").getContext("2d");
    ruler.font = "14px Inter, Arial, sans-serif";
    return Object.keys(LiteGraph.registered_node_types)
        .filter(type => LiteGraph.registered_node_types[type].prototype.isJanus)
        .map(type => LiteGraph.createNode(type))
        .map(node => [node.title, node.size[0], ruler.measureText(node.title).width + 60]);
}"""


@pytest.fixture(params=["classic", "vue"])
def nodes(request, page):
    """The page with one kind of nodes."""
    use_vue(page, request.param == "vue")
    yield page
    keep_screenshot(page, request.node.name)
    use_vue(page, False)  # what the other files' tests look at


def keep_screenshot(page, name):
    folder = os.environ.get("JANUS_SCREENSHOTS")
    if folder:
        picture(page).save(Path(folder) / f"{name}.png".replace("/", "-"))


def shown(page, node, name="janus_text"):
    return page.evaluate(_SHOWN, [node, name])


def wait_for_text(page, node, name="janus_text"):
    page.wait_for_function(f"([id, name]) => ({_SHOWN})([id, name])?.isWhole", arg=[node, name])


def remark(page, node):
    wait_for_text(page, node, "janus_remark")
    return shown(page, node, "janus_remark")


def colours(page):
    return [page.evaluate(_COLOURS, kind) for kind in ("JANUS", "JANUS_IMAGE_TOKENS", "JANUS_CHAT")]


def without_pace(text):
    """Return remarks without the one on tokens per second, which is another each time."""
    return "\n".join(line for line in text.splitlines() if " tokens in " not in line)


def three_captions(page):
    """Make a graph that captions a batch of three."""
    graph = {
        "load": ["JanusLoad", {"model": BUNDLED}],
        "draw": ["JanusDraw", {"prompt": "a red circle", "batch_size": 3}],
        "caption": ["JanusCaption", {"style": "short"}],
    }
    links = [("load", "janus", "draw", "model"), ("load", "janus", "caption", "model")]
    return build(page, graph, [*links, ("draw", "images", "caption", "image")])


def test_all_captions_of_a_batch_stay_and_can_be_copied(nodes, server):
    ids = three_captions(nodes)
    before = nodes.evaluate(_VALUES, ids["caption"]), nodes.evaluate(_SENT, ids["caption"])
    done = run(nodes, server)
    captions = done["outputs"][ids["caption"]]["text"]
    assert len(captions) == 3
    expected = "\n\n".join(captions)
    wait_for_text(nodes, ids["caption"])
    assert shown(nodes, ids["caption"]) == {
        "text": expected, "isReadOnly": True, "isWhole": True, "isWarning": False,
    }  # fmt: skip
    assert "$$node-text-preview" not in nodes.evaluate(_WIDGETS, ids["caption"])
    assert (nodes.evaluate(_VALUES, ids["caption"]), nodes.evaluate(_SENT, ids["caption"])) == before
    nodes.evaluate(_COPIED, [ids["caption"], "janus_text"])
    nodes.keyboard.press("Control+c")
    assert nodes.evaluate("navigator.clipboard.readText()") == expected


def test_texts_are_saved_with_the_workflow(nodes, server):
    ids = three_captions(nodes)
    run(nodes, server)
    wait_for_text(nodes, ids["caption"])
    before = shown(nodes, ids["caption"]), nodes.evaluate(_VALUES, ids["caption"])
    saved = nodes.evaluate("JSON.stringify(app.rootGraph.serialize())")
    three_captions(nodes)
    open_graph(nodes, json.loads(saved))
    wait_for_text(nodes, ids["caption"])
    assert (shown(nodes, ids["caption"]), nodes.evaluate(_VALUES, ids["caption"])) == before


def test_texts_survive_a_change_of_tab(nodes, server):
    ids = three_captions(nodes)
    run(nodes, server)
    wait_for_text(nodes, ids["caption"])
    before = shown(nodes, ids["caption"])
    nodes.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    nodes.wait_for_function("app.rootGraph.nodes.length !== 3")
    nodes.evaluate("app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    nodes.wait_for_function("app.rootGraph.nodes.length === 3")
    wait_for_text(nodes, ids["caption"])
    assert shown(nodes, ids["caption"]) == before


def test_a_node_grows_with_its_text_and_shrinks_again(nodes):
    ids = build(nodes, {"ask": ["JanusAsk", {}]}, [])
    heights = []
    for text in ("short", LONG, "short"):
        nodes.evaluate(_EXECUTED, [ids["ask"], {"text": [text]}])
        nodes.wait_for_function(
            f"([id, name, text]) => ({_SHOWN})([id, name])?.text === text",
            arg=[ids["ask"], "janus_text", text],
        )
        wait_for_text(nodes, ids["ask"])
        heights.append(nodes.evaluate(_HEIGHT, ids["ask"]))
    assert heights[0] == heights[2] < heights[1]


def test_remarks_say_what_the_model_knows_and_what_is_missing(nodes, server):
    seed = nodes.evaluate("Math.floor(Math.random() * 1e9)")  # a cached drawing sends nothing to the page
    graph = {
        "load": ["JanusLoad", {"model": BUNDLED}],
        "draw": ["JanusDraw", {"prompt": "a cat on a red square", "seed": seed}],
        "show": ["PreviewImage", {}],
        "ask": ["JanusAsk", {"question": PLAIN}],
        "other": ["JanusLoad", {"model": "janus-tiny"}],
        "refer": ["JanusAsk", {"question": REFERS, "max_new_tokens": 8}],
        "plain": ["JanusAsk", {"question": PLAIN, "max_new_tokens": 8}],
    }
    ids = build(nodes, graph, [
        ("load", "janus", "draw", "model"), ("draw", "images", "show", "images"),
        ("load", "janus", "ask", "model"), ("other", "janus", "refer", "model"),
        ("other", "janus", "plain", "model"),
    ])  # fmt: skip
    assert run(nodes, server)["status"]["status_str"] == "success"
    knows = f"{BUNDLED} knows only coloured shapes. For anything else choose Janus-Pro-1B in Load Janus."
    new = f'New to {BUNDLED}, which draws something else or nothing: "cat".'
    assert remark(nodes, ids["draw"])["text"] == f"{new}\n{knows}"
    missing = "No picture is connected, so the answer is about none. Connect one to image to ask about it."
    assert without_pace(remark(nodes, ids["ask"])["text"]) == f"{missing}\n{knows}"
    assert without_pace(remark(nodes, ids["refer"])["text"]) == missing
    assert without_pace(remark(nodes, ids["plain"])["text"]) == ""


def test_load_janus_says_what_is_not_installed(nodes):
    ids = build(nodes, {"load": ["JanusLoad", {"model": BUNDLED}]}, [])
    assert remark(nodes, ids["load"])["text"].startswith(f"{BUNDLED} is a miniature that knows only")
    assert not remark(nodes, ids["load"])["isWarning"]
    nodes.evaluate(_CHOOSE, [ids["load"], "Janus-Pro-1B"])
    said = remark(nodes, ids["load"])
    assert (
        said["text"] == "Janus-Pro-1B is not installed. Run downloads 4.2 GB into models/janus/Janus-Pro-1B."
    )
    assert said["isWarning"]
    assert nodes.evaluate(_VALUES, ids["load"])[0] == "Janus-Pro-1B"
    nodes.evaluate(_CHOOSE, [ids["load"], "janus-tiny"])
    assert shown(nodes, ids["load"], "janus_remark") is None
    nodes.evaluate(_CHOOSE, [ids["load"], "a-model-of-somebody"])
    assert "This model is not installed." in remark(nodes, ids["load"])["text"]


def test_cancel_leaves_no_half_drawn_picture(nodes, server):
    graph = {
        "load": ["JanusLoad", {"model": "janus-random"}],
        "draw": ["JanusDraw", {"prompt": nodes.evaluate("String(Math.random())"), "batch_size": 4}],
        "show": ["PreviewImage", {}],
    }
    ids = build(nodes, graph, [("load", "janus", "draw", "model"), ("draw", "images", "show", "images")])
    before = set(ask_server(server, "/history"))
    press_run(nodes)
    nodes.wait_for_function(f"id => ({_PICTURES})(id) > 0", arg=ids["draw"], timeout=120_000)
    press_cancel(nodes)
    stopped = ended(nodes, server, before)
    assert any(message[0] == "execution_interrupted" for message in stopped["status"]["messages"])
    nodes.wait_for_timeout(3000)
    assert nodes.evaluate(_PICTURES, ids["draw"]) == 0


def test_sockets_keep_their_colours_in_every_palette(page):
    before = colours(page)
    assert all(len(set(places)) == 1 and places[0].startswith("#") for places in before)
    assert len({places[0] for places in before}) == 3
    page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'light')")
    page.wait_for_timeout(2000)
    assert colours(page) == before
    page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")


def test_new_nodes_are_as_wide_as_their_title(page):
    widths = page.evaluate(_TITLES)
    assert len(widths) >= 11
    assert not [title for title, width, needed in widths if width < needed]


def test_texts_survive_a_reload_of_the_page(page, server):
    ids = three_captions(page)
    run(page, server)
    wait_for_text(page, ids["caption"])
    before = shown(page, ids["caption"])
    page.wait_for_timeout(3000)  # the page keeps a draft of what is open
    page.reload(timeout=400_000)
    page.wait_for_function(IS_READY, timeout=400_000)
    page.wait_for_function("app.rootGraph.nodes.length === 3", timeout=60_000)
    wait_for_text(page, ids["caption"])
    assert shown(page, ids["caption"]) == before
