"""The pack inside ComfyUI: it loads quietly and fast, and its nodes are those that saved workflows expect."""

import json
import re

import pytest
from comfy_client import Client
from comfy_server import Server
from node_snapshot import SNAPSHOT, frozen
from node_table import DOCS, LOCALE, locale, render

NODES = [
    "JanusLoad",
    "JanusLoRA",
    "JanusCaption",
    "JanusAsk",
    "JanusCaptionFolder",
    "JanusSaveCaptions",
    "JanusDraw",
    "JanusRedraw",
    "JanusScore",
    "JanusChoose",
    "JanusFlowDraw",
    "JanusFlowModel",
    "JanusEncodeImage",
    "JanusDecodeTokens",
    "JanusSavePictures",
    "JanusSaveTokens",
    "JanusLoadTokens",
]
# Ids of every published pack for the Janus family; one of ours among them would replace theirs.
TAKEN = {
    "JanusModelLoader", "JanusImageUnderstanding", "JanusImageGeneration", "JanusTextToImage",
    "JanusImage2Text",
    "LoadJanusModel", "JanusProModelLoader", "JanusProImageUnderstanding", "JanusProImageGenerator",
    "JanusProModelLoader|Mie", "JanusProDescribeImage|Mie", "JanusProCaptionImageUnderDirectory|Mie",
    "VisionModelLoader", "UnifiedVisionAnalyzer", "Janus_ModelLoader", "Janus_MultimodalUnderstanding",
    "Janus_ImageGeneration", "JanusProModelLoaderNode", "JanusProMultimodalUnderstandingNode",
    "JanusProImageGenerationNode", "JanusProLoader", "ImageAnalyzer", "JanusImageGenerator",
    "JanusChatAnalyzer",
    "JanusImageUnderstanding2", "JanusImageGeneration2", "BizyAir_JanusModelLoader",
    "BizyAir_JanusImageUnderstanding", "BizyAir_JanusImageGeneration", "vlmLoader", "easy_vlmLoader",
    "LLM_local",
    "DeepSeekModelLoader", "DeepSeekImageAnalyst", "DeepSeekImageGeneration",
}  # fmt: skip


@pytest.fixture(scope="module")
def schemas(server: Server) -> dict[str, dict]:
    """Return what the server says of our nodes, in the order of the extension."""
    with Client(server.url) as client:
        everything = client.get("/object_info")
    return {
        name: node for name, node in everything.items() if node["python_module"] == "custom_nodes.janus-nodes"
    }


def test_all_nodes_are_there_in_order(schemas: dict[str, dict]) -> None:
    assert list(schemas) == NODES


def test_nodes_are_those_of_the_snapshot(schemas: dict[str, dict]) -> None:
    now = {name: frozen(name, node) for name, node in schemas.items()}
    assert now == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_no_id_is_one_of_another_pack() -> None:
    assert TAKEN.isdisjoint(NODES)


@pytest.mark.parametrize("name", NODES)
def test_everything_has_a_tooltip_and_a_name(schemas: dict[str, dict], name: str) -> None:
    node = schemas[name]
    specs = [*node["input"].get("required", {}).values(), *node["input"].get("optional", {}).values()]
    assert all(spec[1].get("tooltip") for spec in specs)
    assert all(node["output_tooltips"])
    assert all(node["output_name"])
    assert node["description"]


@pytest.mark.parametrize("name", NODES)
def test_floats_have_a_step_and_a_rounding(schemas: dict[str, dict], name: str) -> None:
    inputs = {**schemas[name]["input"].get("required", {}), **schemas[name]["input"].get("optional", {})}
    floats = [spec[1] for spec in inputs.values() if spec[0] == "FLOAT"]
    assert all({"step", "round", "min", "max"} <= spec.keys() for spec in floats)


def test_the_documented_table_is_what_the_nodes_say(schemas: dict[str, dict]) -> None:
    assert render(schemas) == DOCS.read_text(encoding="utf-8")


def test_the_english_texts_are_what_the_nodes_say(schemas: dict[str, dict]) -> None:
    assert json.loads(LOCALE.read_text(encoding="utf-8")) == locale(schemas)


def test_the_pack_loads_without_a_word(server: Server) -> None:
    start = server.log().split("To see the GUI")[0]
    ours = [
        line for line in start.splitlines() if "janus" in line.lower() and "directory" not in line.lower()
    ]
    [only] = [line for line in ours if "test-tools" not in line]
    assert re.search(r"seconds: \S+/custom_nodes/janus-nodes$", only)


def test_the_model_list_offers_installed_and_published_models(schemas: dict[str, dict]) -> None:
    spec = schemas["JanusLoad"]["input"]["required"]["model"]
    choices = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
    assert {"janus-tiny", "Janus-Pro-1B", "Janus-Pro-7B", "Janus-1.3B"} <= set(choices)


def test_the_models_folder_is_known_to_comfyui(client: Client) -> None:
    assert "janus" in client.get("/models")
