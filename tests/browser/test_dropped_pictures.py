"""A saved picture, dropped on the page, brings its graph back, and the graph draws the same pixels again."""

import io
import urllib.parse
import urllib.request

import numpy as np
import pytest
from comfy_client import Client
from comfy_server import EXAMPLE_MODEL
from page_actions import EMPTY, build, open_graph, run
from PIL import Image

pytestmark = pytest.mark.browser

_SENT = "async () => (await app.graphToPrompt()).output"
_DROP = """async address => {
    const content = await (await fetch(address)).blob();
    const carried = new DataTransfer();
    carried.items.add(new File([content], "from a friend.png", { type: "image/png" }));
    const options = { dataTransfer: carried, clientX: 400, clientY: 400, bubbles: true, cancelable: true };
    app.canvas.canvas.dispatchEvent(new DragEvent("drop", options));
}"""
_HAS_NODES = "count => app.rootGraph.nodes.length === count"


def saved(server, entry, node):
    """Return address and pixels of the only picture that a node saved."""
    [file] = entry["outputs"][node]["images"]
    address = f"{server.url}/view?{urllib.parse.urlencode(file)}"
    with urllib.request.urlopen(address) as reply, Image.open(io.BytesIO(reply.read())) as picture:
        return address, np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(
    ("saver", "further"),
    [("SaveImage", []), ("JanusSavePictures", [("draw", "tokens", "save", "image_tokens")])],
)
def test_a_dropped_picture_restores_its_graph_and_its_pixels(page, server, saver, further):
    ids = build(
        page,
        {
            "load": ["JanusLoad", {"model": EXAMPLE_MODEL}],
            "draw": ["JanusDraw", {"prompt": "a red circle", "seed": 4711}],
            "save": [saver, {}],
        },
        [("load", "janus", "draw", "model"), ("draw", "images", "save", "images"), *further],
    )
    sent = page.evaluate(_SENT)
    address, pixels = saved(server, run(page, server), ids["save"])
    open_graph(page, EMPTY)
    with Client(server.url) as client:
        client.free()  # else the second picture is the first one, remembered

    page.evaluate(_DROP, address)
    page.wait_for_function(_HAS_NODES, arg=len(ids))
    assert page.evaluate(_SENT) == sent
    again, same = saved(server, run(page, server), ids["save"])

    assert again != address
    np.testing.assert_array_equal(same, pixels)
