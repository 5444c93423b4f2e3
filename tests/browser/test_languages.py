"""Nodes and their help in the languages of the page, in some of those that we translate to.

Chinese has help pages of its own; the other languages get the English ones.
"""

import json
import os
import re
from pathlib import Path

import pytest
from comfy_server import PACK
from page_actions import build

pytestmark = pytest.mark.browser
HAVE_PAGES = ("en", "zh")
_LANGUAGE = "([language]) => app.extensionManager.setting.set('Comfy.Locale', language)"
_TITLE = "([node, title]) => LiteGraph.registered_node_types[node]?.title === title"
# What new nodes show, in the shape of the locale files; the page itself names outputs called like their type.
_SHOWN = """nodes => Object.fromEntries(nodes.map(name => {
    const node = LiteGraph.createNode(name);
    const named = (slot) => slot.label ?? slot.localized_name ?? slot.name;
    const sockets = node.inputs.filter(input => !input.widget).map(input => [input.name, named(input)]);
    const widgets = node.widgets?.map(widget => [widget.name, widget.label ?? widget.name]) ?? [];
    const outputs = node.outputs.map((output, i) => [i, output.name === output.type ? null : named(output)]);
    return [name, {
        title: node.title,
        inputs: Object.fromEntries([...sockets, ...widgets]),
        outputs: Object.fromEntries(outputs),
    }];
}))"""
_SELECT = """id => {
    app.canvas.selectItems([app.rootGraph.getNodeById(id)]);
    app.canvas.setDirty(true, true);
}"""
_FIRST_INPUT = """id => {
    const node = app.rootGraph.getNodeById(id);
    const [x, y] = node.getConnectionPos ? node.getConnectionPos(true, 0) : node.getInputPos(0);
    const { scale, offset } = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();
    return [box.left + (x + offset[0]) * scale, box.top + (y + offset[1]) * scale];
}"""
_PICTURE = """() => {
    const picture = document.querySelector(".node-help-content img");
    return picture?.complete && picture.naturalWidth > 0 && picture.src;
}"""


def texts(language):
    """Return our texts in a language."""
    return json.loads((PACK / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def speak(page, language):
    """Set the page's language, as its settings do, and wait until nodes follow."""
    page.evaluate(_LANGUAGE, [language])
    title = texts(language)["JanusDraw"]["display_name"]
    for _ in range(20):
        page.wait_for_timeout(3000)
        if page.evaluate(_TITLE, ["JanusDraw", title]):
            return
        # nodes were made anew before the page had loaded its own texts, which are large
        page.evaluate("app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    raise AssertionError(f"the page does not speak {language}")


def keep_screenshot(page, name):
    folder = os.environ.get("JANUS_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", timeout=180_000)


def open_help(page, node):
    """Select a node, press the button that tells about it, and return the heading of its help."""
    page.evaluate(_SELECT, node)
    page.get_by_test_id("info-button").first.click()
    page.wait_for_selector(".node-help-content h1")
    return page.locator(".node-help-content h1").first.inner_text()


@pytest.fixture(scope="module")
def speaking(page):
    """The page, which speaks English again in the end."""
    yield page
    speak(page, "en")


@pytest.fixture(scope="module", params=["zh", "ja", "ru"])
def language(request, speaking):
    """A language that the page speaks."""
    speak(speaking, request.param)
    return request.param


def test_all_nodes_speak_the_language_of_the_page(page, language):
    ours = texts(language)
    wrong = {}
    for name, shown in page.evaluate(_SHOWN, list(ours)).items():
        wrong |= {(name, "title"): shown["title"]} if shown["title"] != ours[name]["display_name"] else {}
        for kind in ("inputs", "outputs"):
            assert set(ours[name][kind]) <= set(shown[kind])
            for key, text in ours[name][kind].items():
                told = shown[kind][key]
                if told is None:  # called like its type, which the page itself names
                    assert text["name"] in ("LATENT", "MODEL")
                elif told != text["name"]:
                    wrong[name, kind, key] = told
    assert wrong == {}


def test_a_socket_tells_what_it_is_for(page, language):
    ids = build(page, {"draw": ["JanusDraw", {}]}, [])
    left, top = page.evaluate(_FIRST_INPUT, ids["draw"])
    page.mouse.move(left + 40, top + 300)
    page.mouse.move(left, top, steps=5)
    tooltip = texts(language)["JanusDraw"]["inputs"]["model"]["tooltip"]
    page.get_by_text(tooltip).first.wait_for(timeout=60_000)


def test_help_opens_with_its_picture(page, language):
    ids = build(page, {"redraw": ["JanusRedraw", {}]}, [])
    told_in = language if language in HAVE_PAGES else "en"
    assert open_help(page, ids["redraw"]) == texts(told_in)["JanusRedraw"]["display_name"]
    page.wait_for_function(_PICTURE, timeout=60_000)
    keep_screenshot(page, f"help-{language}")
    source = page.evaluate(_PICTURE)
    assert source.endswith("/extensions/janus-nodes/docs/JanusRedraw/node.jpg")
    told = page.locator(".node-help-content").first.inner_text()
    inputs = texts("en")["JanusRedraw"]["inputs"]
    assert [name for name in inputs if not re.search(rf"\b{name}\b", told)] == []
