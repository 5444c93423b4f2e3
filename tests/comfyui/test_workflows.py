"""Every example workflow, as the page sends it, runs to its end and shows pictures and texts.

They run on the bundled model that they name; where it is absent, on the test checkpoint in its place.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_client import Client
from comfy_server import BUNDLED, EXAMPLE_MODEL, PACK, find_comfyui
from node_snapshot import SNAPSHOT

from janus_training.world.detector import detect, matches
from janus_training.world.parsing import caption_facts
from tools.templates.graph import page_file
from tools.templates.graph import prompt as sent_by_page
from tools.templates.known import ALL

GOLDEN = Path(__file__).parents[1] / "browser" / "golden"
NAMES = sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
# Files that a person has to fetch are named in the widget's value, which the page offers to download.
NEWER_NODES = {"ComfySwitchNode": (0, 8)}  # nodes of core that are not in every release, with their first one
FETCHED = {"VAELoader": ("vae_name", "vae"), "CheckpointLoaderSimple": ("ckpt_name", "checkpoints")}


def named_model(name: str) -> str:
    """Return the model that a workflow's loader names."""
    graph = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    [loader] = [node["inputs"]["model"] for node in graph.values() if node["class_type"] == "JanusLoad"]
    return str(loader)


def is_complete(name: str) -> bool:
    """Tell whether a workflow needs nothing but what comes with the pack."""
    workflow = json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    has_files = any("models" in node["properties"] for node in workflow["nodes"])
    return named_model(name) == BUNDLED and not has_files


def first_release(name: str) -> tuple[int, ...]:
    """Return the first release of ComfyUI that has all nodes of a workflow."""
    graph = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return max(NEWER_NODES.get(node["class_type"], (0,)) for node in graph.values())


RIGHT_AFTER_INSTALL = [name for name in NAMES if is_complete(name)]
OF_OTHER_MODELS = [name for name in NAMES if name not in RIGHT_AFTER_INSTALL]


def test_a_workflow_runs_right_after_install_or_says_in_its_title_what_it_needs() -> None:
    assert len(RIGHT_AFTER_INSTALL) >= 8
    assert all("(needs " in name or "JanusFlow" in name for name in OF_OTHER_MODELS)
    assert not any("needs" in name for name in RIGHT_AFTER_INSTALL)


def test_workflows_are_as_their_descriptions_say(client: Client) -> None:
    """Whoever changes a node or a description writes them anew: python -m tools.templates URL."""
    if find_comfyui().numbers < (0, 33):  # type: ignore[union-attr]  # a server runs, so there is one
        pytest.skip("they are written with the nodes of a newer ComfyUI")
    schemas = client.get("/object_info")
    for name, template in ALL.items():
        kept = json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
        assert kept == json.loads(json.dumps(page_file(template, schemas))), name
        sent = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        assert sent == json.loads(json.dumps(sent_by_page(template, schemas))), name
    assert sorted(ALL) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if first_release(name) > (0,)])
def test_a_workflow_with_a_node_of_newer_releases_says_so(name: str) -> None:
    release = ".".join(str(number) for number in first_release(name))
    assert f"needs ComfyUI {release}." in ALL[name].note


means_something = pytest.mark.skipif(
    EXAMPLE_MODEL != BUNDLED, reason=f"{BUNDLED} is not in janus_core/bundled yet"
)


def prompt(name: str) -> dict[str, Any]:
    """Return what the page sends for a workflow, on the model that is there."""
    if find_comfyui().numbers < first_release(name):  # type: ignore[union-attr]  # a server runs
        pytest.skip("it says in its note that it needs a node of a newer ComfyUI")
    graph = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    [loader] = [node["inputs"] for node in graph.values() if node["class_type"] == "JanusLoad"]
    assert loader["model"] == BUNDLED
    loader["model"] = EXAMPLE_MODEL
    return graph


PICTURES = ("images", "image", "image1", "image_tokens", "on_true")


def nodes(graph: dict[str, Any], kind: str) -> list[str]:
    return [node for node, content in graph.items() if content["class_type"] == kind]


@pytest.mark.parametrize("name", RIGHT_AFTER_INSTALL)
def test_workflow_runs_and_shows_its_results(client: Client, name: str) -> None:
    graph = prompt(name)
    run = client.run(graph)
    assert run.error is None, run.error
    previews = nodes(graph, "PreviewImage")
    texts = nodes(graph, "PreviewAny")
    assert previews or texts or nodes(graph, "JanusSaveCaptions")
    for node in previews:
        pictures = client.pictures(run, node)
        assert len(pictures) == number_of_pictures(graph, node)
        assert min(np.ptp(picture) for picture in pictures) > 50, "a picture of one colour"
    for node in texts:
        asked = graph[node]["inputs"]["source"][0]
        assert run.answers(asked)[0].strip()
        assert run.answers(asked)[0] in run.answers(node)[0]


def number_of_pictures(graph: dict[str, Any], node: str) -> int:
    """Return how many pictures come to a node: as many as were kept, or as the drawing makes."""
    inputs = graph[node]["inputs"]
    if inputs.get("keep_best"):
        return int(inputs["keep_best"])
    if "batch_size" in inputs:
        return int(inputs["batch_size"])
    source = next(value for key, value in inputs.items() if key in PICTURES and isinstance(value, list))
    return number_of_pictures(graph, source[0])


def widgets(kind: str) -> list[str]:
    """Return a node's widgets as the page lays them out: required ones first, control behind a seed."""
    entries = json.loads(SNAPSHOT.read_text(encoding="utf-8"))[kind]["inputs"]
    kinds = ("STRING", "INT", "FLOAT", "BOOLEAN", "COMBO")
    entries = [entry for entry in entries if entry["type"] in kinds and not entry.get("forceInput")]
    order = sorted(entries, key=lambda entry: bool(entry["optional"]))
    return [
        each
        for entry in order
        for each in (entry["id"], *(["control"] if entry.get("control_after_generate") else []))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_widget_values_of_a_workflow_are_what_the_page_sends(name: str) -> None:
    """The values are positional: an input added or moved shifts them all."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    workflow = json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"].startswith("Janus"):
            values = dict(zip(widgets(node["type"]), node["widgets_values"], strict=True))
            values.pop("control", None)
            sent = golden[str(node["id"])]["inputs"]
            linked = {key for key, value in sent.items() if isinstance(value, list)}  # keep their slots
            assert {key: value for key, value in values.items() if key not in linked} == {
                key: value for key, value in sent.items() if key not in linked
            }


@pytest.mark.parametrize("name", OF_OTHER_MODELS)
def test_nodes_and_inputs_of_a_workflow_are_those_of_this_comfyui(client: Client, name: str) -> None:
    """Workflows whose models are not here cannot run: what they send is held against the nodes' schemas."""
    graph = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    for node in graph.values():
        schema = client.get(f"/object_info/{node['class_type']}")[node["class_type"]]["input"]
        known = {**schema["required"], **schema.get("optional", {})}
        assert set(schema["required"]) <= set(node["inputs"]) <= set(known), node
        for key, value in node["inputs"].items():
            kind, *options = known[key]
            choices = kind if isinstance(kind, list) else {**(options or [{}])[0]}.get("options")
            is_file = key in ("model", "vae_name", "ckpt_name", "image")
            assert not choices or is_file or value in choices, (key, value)


@pytest.mark.parametrize("name", OF_OTHER_MODELS)
def test_files_that_a_workflow_needs_are_offered_for_download(name: str) -> None:
    workflow = json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    needed = [node for node in workflow["nodes"] if node["type"] in FETCHED]
    for node in needed:
        [offer] = node["properties"]["models"]
        assert offer["name"] == node["widgets_values"][0]
        assert offer["directory"] == FETCHED[node["type"]][1]
        assert offer["url"].endswith(f"/resolve/main/{offer['name']}")


def inputs(graph: dict[str, Any], kind: str) -> dict[str, Any]:
    return dict(graph[nodes(graph, kind)[0]]["inputs"])


@means_something
def test_the_caption_says_what_was_to_be_drawn(client: Client) -> None:
    graph = prompt("Caption a picture with Janus")
    [text] = client.run(graph).answers(nodes(graph, "JanusCaption")[0])
    assert text.lower() == inputs(graph, "JanusDraw")["prompt"] + "."


@means_something
def test_the_answer_about_two_pictures_is_right(client: Client) -> None:
    graph = prompt("Ask Janus about two pictures")
    asking = inputs(graph, "JanusAsk")
    assert asking["question"] == "What is in the second picture?"
    first, second = (graph[asking[name][0]]["inputs"]["prompt"] for name in ("image", "image_2"))
    [text] = client.run(graph).answers(nodes(graph, "JanusAsk")[0])
    assert text.lower() == f"{second}."
    asking = graph[nodes(graph, "JanusAsk")[0]]["inputs"]
    asking["image"], asking["image_2"] = asking["image_2"], asking["image"]
    [text] = client.run(graph).answers(nodes(graph, "JanusAsk")[0])
    assert text.lower() == f"{first}."


# Nodes that hand on what they are given, and where; the switch of a template stands where it says yes.
# What is stitched of two pictures (outpainting) is left out: the detector looks at squares.
DRAWING = ("JanusDraw", "JanusRedraw")
HAND_ON = {
    "ImageScaleBy": "image",
    "JanusScore": "image",
    "JanusDecodeTokens": "image_tokens",
    "ComfySwitchNode": "on_true",
}


def previews(name: str) -> list[str]:
    """Return the nodes of a workflow that show pictures."""
    return nodes(json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8")), "PreviewImage")


def origin(graph: dict[str, Any], link: list[Any]) -> str:
    """Return the node that made what comes along a link."""
    node = str(link[0])
    while graph[node]["class_type"] in HAND_ON:
        node = graph[node]["inputs"][HAND_ON[graph[node]["class_type"]]][0]
    return node


@means_something
@pytest.mark.parametrize("name", [name for name in RIGHT_AFTER_INSTALL if previews(name)])
def test_pictures_show_what_was_to_be_drawn(client: Client, name: str) -> None:
    graph = prompt(name)
    run = client.run(graph)
    makers = {node: origin(graph, graph[node]["inputs"]["images"]) for node in nodes(graph, "PreviewImage")}
    drawn = {node: maker for node, maker in makers.items() if graph[maker]["class_type"] in DRAWING}
    assert drawn
    for node, maker in drawn.items():
        wish = graph[maker]["inputs"]["prompt"]
        if isinstance(wish, list):
            teller = origin(graph, wish)
            wish = graph[teller]["inputs"].get("value") or run.answers(teller)[0]
        asked = caption_facts(wish)
        assert asked is not None
        shown = [matches(asked, detect(as_drawn(picture))) for picture in client.pictures(run, node)]
        assert all(shown), (wish, shown)


def as_drawn(picture: np.ndarray) -> np.ndarray:
    """Return a picture in 0..1 as it was before it was enlarged, of 64 pixels a side."""
    step = picture.shape[0] // 64
    return picture[step // 2 :: step, step // 2 :: step] / np.float32(255)


@pytest.mark.parametrize("name", RIGHT_AFTER_INSTALL)
def test_workflow_draws_again_what_it_drew(client: Client, name: str) -> None:
    graph = prompt(name)
    drawn = []
    for _ in range(2):
        client.free()
        run = client.run(graph)
        drawn.append([client.pictures(run, node) for node in nodes(graph, "PreviewImage")])
    assert all(np.array_equal(first, again) for first, again in zip(*drawn, strict=True))


@means_something
def test_the_bundled_model_is_the_first_choice(client: Client) -> None:
    spec = client.get("/object_info/JanusLoad")["JanusLoad"]["input"]["required"]["model"]
    assert (spec[0] if isinstance(spec[0], list) else spec[1]["options"])[0] == BUNDLED
