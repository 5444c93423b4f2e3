"""Beside two packs that both register JanusModelLoader and JANUS_MODEL, everything of ours works as alone."""

import json
import shutil

import pytest
from comfy_client import Client, RefusedError
from comfy_server import Server
from conftest import GOLDEN, CoreResults
from graphs import Graph
from node_snapshot import SNAPSHOT

OTHERS = {"JanusModelLoader", "JanusImageGeneration", "JanusImageGenerator"}


def test_nodes_of_all_packs_are_there(crowded_client: Client) -> None:
    nodes = crowded_client.get("/object_info")
    assert nodes.keys() >= OTHERS
    assert all("other-janus" in nodes[name]["python_module"] for name in OTHERS)
    ours = [name for name, node in nodes.items() if node["python_module"] == "custom_nodes.janus-nodes"]
    assert OTHERS.isdisjoint(ours)
    assert sorted(ours) == sorted(json.loads(SNAPSHOT.read_text(encoding="utf-8")))


def test_no_socket_of_ours_is_one_of_theirs(crowded_client: Client) -> None:
    nodes = crowded_client.get("/object_info").values()
    outputs = {pack: set() for pack in ("ours", "theirs")}
    for node in nodes:
        if node["python_module"] == "custom_nodes.janus-nodes":
            outputs["ours"] |= {kind for kind in node["output"] if kind.startswith("JANUS")}
        elif "other-janus" in node["python_module"]:
            outputs["theirs"] |= {kind for kind in node["output"] if kind.startswith("JANUS")}
    assert outputs["ours"] == {"JANUS", "JANUS_IMAGE_TOKENS", "JANUS_CHAT"}
    assert outputs["ours"].isdisjoint(outputs["theirs"])


def test_our_nodes_answer_as_alone(crowded_client: Client, graph: Graph, core: CoreResults) -> None:
    node = graph.add("JanusCaption", model=graph.load(), image=graph.picture("landscape.png"))
    run = crowded_client.run(graph)
    assert run.error is None
    assert run.answers(node) == core.texts["caption"]


def test_a_model_of_another_pack_cannot_be_connected(crowded_client: Client, graph: Graph) -> None:
    info = crowded_client.get("/object_info/JanusModelLoader")["JanusModelLoader"]
    [(widget, spec)] = info["input"]["required"].items()
    theirs = graph.add("JanusModelLoader", **{widget: spec[0][0]})
    node = graph.add("JanusAsk", model=[theirs, 0])
    with pytest.raises(RefusedError) as refused:
        crowded_client.run(graph)
    assert refused.value.node_errors[node]["errors"][0]["type"] == "return_type_mismatch"


@pytest.mark.parametrize(
    "folder", ["models/Janus-Pro", "models/LLM", "models/deepseek-ai", "../elsewhere/models"]
)
def test_models_in_folders_of_other_packs_and_of_a_person_are_found(
    crowded_server: Server, crowded_client: Client, graph: Graph, core: CoreResults, folder: str
) -> None:
    name = f"janus-in-{folder.replace('/', '-')}"
    shutil.copytree(GOLDEN / "janus-tiny-bin", crowded_server.base / folder / name)
    node = graph.add("JanusAsk", model=graph.load(model=name))
    run = crowded_client.run(graph)
    assert run.error is None
    assert run.answers(node) == core.texts["ask without picture"]
