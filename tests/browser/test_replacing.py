"""Workflows made for other Janus packs, on the real page: Replace All makes them ours, and they run.

JANUS_SCREENSHOTS names a folder in which the pictures of the pages are kept, before and after.
"""

import os
import shutil
from pathlib import Path

import pytest
from conftest import GOLDEN
from other_workflows import CONTROL, PACKS, saved
from page_actions import open_graph, picture, run

pytestmark = pytest.mark.browser
MODEL, PICTURE = "janus-tiny", "landscape.png"
LINKED = {"model", "image", "image_2"}

_NODES = """app.rootGraph.nodes.flatMap(node => [node, ...(node.subgraph?.nodes ?? [])]).map(node => ({
    id: node.id, type: node.type, title: node.title, mode: node.mode,
    control: node.widgets?.find(one => ["control_after_generate", "fixed"].includes(one.name))?.value,
    hidden: (node.widgets ?? []).filter(one => one.element && !one.element.isConnected).map(one => one.name),
    is_tall: node.size[1] >= node.computeSize()[1],
}))"""
_ALL_KNOWN = """app.rootGraph.nodes.every(
    node => node.mode === 4 || node.type in LiteGraph.registered_node_types
)"""
_SENT = "async () => (await app.graphToPrompt()).output"
_SHOWN_NOTES = """[...document.querySelectorAll("textarea.janus_remark")]
    .filter(area => area.offsetHeight > 0 && !area.ariaHidden) // one measures texts, out of sight
    .map(area => area.value)"""
_SAVED = "app.rootGraph.serialize()"


@pytest.fixture(autouse=True)
def pictures(server):
    for file in (GOLDEN / "images").glob("*.png"):
        shutil.copy(file, server.base / "input" / file.name)


@pytest.fixture(autouse=True)
def closed_panel(page):
    """Close the panel in which the page lists what is missing: it covers what others look at."""
    yield
    page.evaluate("app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)")


def keep(page, name):
    folder = os.environ.get("JANUS_SCREENSHOTS")
    if folder:
        picture(page).save(Path(folder) / f"{name}.png")


def replace_all(page, workflow, name="replaced"):
    """Open a workflow and replace what is missing; returns our nodes by id, and what would be sent."""
    open_graph(page, workflow)
    keep(page, f"{name}, before")
    see = page.get_by_test_id("error-overlay-see-errors")
    button = page.get_by_role("button", name="Replace All")
    if not button.count() and see.count():
        see.first.click()
    button.first.click()
    page.wait_for_function(_ALL_KNOWN)
    page.wait_for_timeout(1500)
    keep(page, f"{name}, after")
    nodes = {str(node["id"]): node for node in page.evaluate(_NODES)}
    return nodes, page.evaluate(_SENT)


def loader(pack, model=MODEL):
    outputs = [{"name": kind.lower(), "type": kind} for kind in pack.outputs]
    return {"id": 1, "type": pack.loader, "outputs": outputs, "widgets_values": [model, *pack.further]}


def image_loader():
    outputs = [{"name": "IMAGE", "type": "IMAGE"}, {"name": "MASK", "type": "MASK"}]
    return {"id": 2, "type": "LoadImage", "outputs": outputs, "widgets_values": [PICTURE, "image"]}


def node(at, pack, one, **further):
    """Return a node of the pack with the links that it needs, as (node, links)."""
    names = [*one.links] + ([] if one is pack.draw else [one.source])
    inputs = [{"name": name, "type": "*"} for name in names]
    kind = "IMAGE" if one is pack.draw else "STRING"
    outputs = [
        {"name": kind.lower(), "type": kind},
        *([{"name": "chat_history", "type": "STRING"}] * (one is pack.chat)),
    ]
    links = [(1, output, at, slot, pack.outputs[output]) for slot, output in enumerate(one.links.values())]
    if one is not pack.draw:
        links.append((2, 0, at, len(one.links), "IMAGE"))
    whole = {"id": at, "type": one.kind, "inputs": inputs, "outputs": outputs,
             "widgets_values": list(one.values.values()), **further}  # fmt: skip
    return whole, links


def whole(pack, **of_first):
    """Return a workflow with every node of a pack, and a preview behind each."""
    nodes, links, ones = [loader(pack), image_loader()], [], {}
    for at, one in enumerate([one for one in (pack.draw, pack.answer, pack.chat) if one]):
        key = 3 + 2 * at
        made, its_links = node(key, pack, one, **(of_first if not ones else {}))
        end, socket = ("PreviewImage", "images") if one is pack.draw else ("PreviewAny", "source")
        nodes += [made, {"id": key + 1, "type": end, "inputs": [{"name": socket, "type": "*"}]}]
        links += [*its_links, (key, 0, key + 1, 0, "*")]
        ones[str(key)] = one
    return saved(nodes, links), ones


def check(sent, key, one):
    inputs = sent[key]["inputs"]
    assert inputs["model"] == ["1", 0]
    assert {name: inputs[name] for name in one.become} == one.become


@pytest.mark.parametrize("name", PACKS)
def test_every_node_of_a_pack_becomes_ours(page, name):
    workflow, ones = whole(PACKS[name])
    nodes, sent = replace_all(page, workflow, name)
    assert nodes["1"]["type"] == "JanusLoad"
    assert sent["1"]["inputs"]["model"] == MODEL
    for key, one in ones.items():
        check(sent, key, one)
        assert nodes[key]["hidden"] == []
        assert nodes[key]["is_tall"]
        if CONTROL in one.values:
            assert nodes[key]["control"] == one.values[CONTROL]
        if one is not PACKS[name].draw:
            assert sent[key]["inputs"]["image"] == ["2", 0]
        assert sent[str(int(key) + 1)]["inputs"][next(iter(sent[str(int(key) + 1)]["inputs"]))] == [key, 0]


def test_the_replaced_workflow_runs_and_opens_again_as_saved(page, server):
    workflow, _ = whole(PACKS["CY-CHENYUE"])
    _, sent = replace_all(page, workflow)
    assert run(page, server)["status"]["status_str"] == "success"
    open_graph(page, page.evaluate(_SAVED))
    again = page.evaluate(_SENT)
    assert {key: one["class_type"] for key, one in again.items()} == {
        key: one["class_type"] for key, one in sent.items()
    }
    assert again["3"]["inputs"]["model"] == ["1", 0]


def test_values_of_the_first_version_are_put_in_order(page):
    workflow, _ = whole(PACKS["CY-CHENYUE"], widgets_values=["a red circle", 2, 0.7, 3.0])
    nodes, sent = replace_all(page, workflow)
    expected = {
        "prompt": "a red circle",
        "batch_size": 2,
        "temperature": 0.7,
        "cfg_weight": 3.0,
        "top_p": 1.0,
    }
    assert {name: sent["3"]["inputs"][name] for name in expected} == expected
    assert nodes["3"]["control"] == "randomize"


def test_further_values_are_left_and_the_title_is_kept(page):
    values = [*PACKS["CY-CHENYUE"].draw.values.values(), True, [False, True]]  # a copy of the pack adds some
    workflow, ones = whole(PACKS["CY-CHENYUE"], widgets_values=values, title="My picture")
    nodes, sent = replace_all(page, workflow)
    check(sent, "3", ones["3"])
    assert nodes["3"]["title"] == "My picture"


def test_what_is_bypassed_stays_and_the_rest_is_replaced(page):
    # the page does not offer to replace what does not run
    workflow, ones = whole(PACKS["CY-CHENYUE"], mode=4)
    nodes, sent = replace_all(page, workflow)
    assert (nodes["3"]["type"], nodes["3"]["mode"]) == (PACKS["CY-CHENYUE"].draw.kind, 4)
    check(sent, "5", ones["5"])


def test_the_name_of_a_repository_becomes_the_name_in_the_list(page):
    workflow, _ = whole(PACKS["CY-CHENYUE"])
    workflow["nodes"][0]["widgets_values"] = ["deepseek-ai/Janus-Pro-1B"]
    _, sent = replace_all(page, workflow)
    assert sent["1"]["inputs"]["model"] == "Janus-Pro-1B"


def test_nothing_is_said_of_the_model_that_was_never_chosen(page):
    workflow, _ = whole(PACKS["CY-CHENYUE"])
    replace_all(page, workflow)
    assert page.evaluate(_SHOWN_NOTES) == []  # of janus-tiny there is nothing to say


def test_texts_and_seeds_from_links_and_a_reroute_arrive(page):
    pack = PACKS["CY-CHENYUE"]
    made, links = node(3, pack, pack.draw)
    made["inputs"] += [
        {"name": "prompt", "type": "STRING", "widget": {"name": "prompt"}},
        {"name": "seed", "type": "INT", "widget": {"name": "seed"}},
    ]
    way = {"id": 7, "type": "Reroute", "inputs": [{"name": "", "type": "*"}],
           "outputs": [{"name": "", "type": "JANUS_MODEL"}], "properties": {}}  # fmt: skip
    text = {"id": 5, "type": "PrimitiveStringMultiline", "outputs": [{"name": "STRING", "type": "STRING"}],
            "widgets_values": ["a blue square"]}  # fmt: skip
    seed = {"id": 6, "type": "PrimitiveInt", "outputs": [{"name": "INT", "type": "INT"}],
            "widgets_values": [7, "fixed"]}  # fmt: skip
    end = {"id": 4, "type": "PreviewImage", "inputs": [{"name": "images", "type": "IMAGE"}]}
    [_, processor] = links
    wires = [(1, 0, 7, 0, "*"), (7, 0, 3, 0, "JANUS_MODEL"), processor, (5, 0, 3, 2, "STRING"),
             (6, 0, 3, 3, "INT"), (3, 0, 4, 0, "IMAGE")]  # fmt: skip
    _, sent = replace_all(page, saved([loader(pack), made, end, text, seed, way], wires))
    inputs = sent["3"]["inputs"]
    assert (inputs["model"], inputs["prompt"], inputs["seed"]) == (["1", 0], ["5", 0], ["6", 0])


def test_nodes_inside_a_subgraph_are_replaced(page):
    pack = PACKS["CY-CHENYUE"]
    made, links = node(3, pack, pack.draw)
    inner = saved([loader(pack), made], links)
    outside, key = "11111111-2222-4333-8444-555555555555", "22222222-3333-4444-8555-666666666666"
    out = {
        "id": len(links) + 1,
        "origin_id": 3,
        "origin_slot": 0,
        "target_id": -20,
        "target_slot": 0,
        "type": "IMAGE",
    }
    inner["nodes"][1]["outputs"][0]["links"] = [out["id"]]
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    subgraph = {
        "id": outside, "version": 1, "revision": 0, "name": "inside", "config": {}, "groups": [],
        "state": {"lastNodeId": 3, "lastLinkId": out["id"], "lastGroupId": 0, "lastRerouteId": 0},
        "inputNode": {"id": -10, "bounding": [-300, 0, 120, 60]},
        "outputNode": {"id": -20, "bounding": [1500, 0, 120, 60]},
        "inputs": [], "widgets": [], "nodes": inner["nodes"],
        "outputs": [{"id": key, "name": "IMAGE", "type": "IMAGE", "linkIds": [out["id"]], "pos": [1520, 20]}],
        "links": [*(dict(zip(names, link, strict=True)) for link in inner["links"]), out],
    }  # fmt: skip
    box = {"id": 8, "type": outside, "outputs": [{"name": "IMAGE", "type": "IMAGE"}], "widgets_values": []}
    end = {"id": 9, "type": "PreviewImage", "inputs": [{"name": "images", "type": "IMAGE"}]}
    workflow = saved([box, end], [(8, 0, 9, 0, "IMAGE")], definitions={"subgraphs": [subgraph]})
    _, sent = replace_all(page, workflow)
    inputs = sent["8:3"]["inputs"]
    assert inputs["model"] == ["8:1", 0]
    assert {name: inputs[name] for name in pack.draw.become} == pack.draw.become
