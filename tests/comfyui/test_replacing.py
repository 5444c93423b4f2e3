"""Prompts made for other Janus packs run with our nodes, unless the pack is installed."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
from comfy_client import Client, RefusedError
from comfy_server import PACK, ComfyUI, environment
from conftest import HERE
from graphs import Graph
from other_workflows import PACKS, Made, Pack, chain

MODEL, PICTURE = "janus-tiny", "landscape.png"
PROCESSES = 20
needs_replacing = pytest.mark.usefixtures("replacing")
each_pack = pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS.keys())


def replaces(comfy: ComfyUI) -> bool:
    return (comfy.path / "app" / "node_replace_manager.py").is_file()


@pytest.fixture
def replacing(comfy: ComfyUI) -> None:
    if not replaces(comfy):
        pytest.skip("this release of ComfyUI replaces no nodes")


def run_as_sent(client: Client, made: Made) -> dict[str, Any]:
    """Run a prompt and return the nodes that the server made of it."""
    run = client.run(made.prompt)
    assert run.error is None, run.error
    assert run.status == "success"
    return dict(client.get(f"/history/{run.prompt_id}")[run.prompt_id]["prompt"][2])


def check(made: Made, sent: dict[str, Any], lost: Sequence[str] = ()) -> None:
    """Hold what arrived against what the other pack's nodes must become, but for inputs that get lost."""
    for key, node in made.nodes:
        given, inputs = made.prompt[key]["inputs"], sent[key]["inputs"]
        assert inputs["model"] == ["1", 0]
        owed = {name: value for name, value in node.become.items() if not isinstance(given.get(name), list)}
        owed = {name: value for name, value in owed.items() if name not in lost}
        assert {name: inputs[name] for name in owed} == owed
        ours = "prompt" if sent[key]["class_type"] == "JanusDraw" else "image"
        assert inputs[ours] == given[node.source]


@needs_replacing
@each_pack
def test_a_prompt_without_titles_runs_with_our_nodes(client: Client, pack: Pack) -> None:
    made = chain(pack, MODEL, PICTURE)
    sent = run_as_sent(client, made)
    check(made, sent)
    assert sent["1"]["class_type"] == "JanusLoad"
    assert sent["1"]["inputs"] == {"model": MODEL}
    chats = [(key, node) for key, node in made.nodes if node is pack.chat]
    assert all(sent[key]["inputs"]["image_2"] == ["2", 0] for key, _ in chats)


@needs_replacing
@each_pack
def test_core_rewrites_the_same_whatever_the_order_of_its_set(
    rewritten: list[list[dict]], pack: Pack
) -> None:
    at = list(PACKS.values()).index(pack)
    made = chain(pack, MODEL, PICTURE)
    versions = {json.dumps(prompts[at], sort_keys=True) for prompts in rewritten}
    assert len(versions) == 1
    sent = json.loads(versions.pop())
    # an optional input of theirs, which core fails without where it is mapped
    check(made, sent, lost=["max_new_tokens"] if pack is PACKS["ZHO-ZHO-ZHO"] else [])
    assert {sent[key]["class_type"] for key, _ in made.nodes} <= {"JanusAsk", "JanusDraw"}


@pytest.fixture(scope="module")
def rewritten(comfy: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> list[list[dict]]:
    """Return what core makes of every pack's prompt, in processes with as many hash seeds."""
    mappings = tmp_path_factory.mktemp("replacing") / "mappings.json"
    script = HERE / "core_replaces.py"
    subprocess.run(
        [comfy.python, script, comfy.path, PACK, mappings], env=environment(), check=True, timeout=300
    )
    prompts = [chain(pack, MODEL, PICTURE).prompt for pack in PACKS.values()]
    for prompt in prompts:  # which core asks for
        for node in prompt.values():
            node["_meta"] = {"title": node["class_type"]}
    done = [
        subprocess.run(
            [comfy.python, script, comfy.path, mappings],
            env=environment() | {"PYTHONHASHSEED": str(seed)},
            input=json.dumps(prompts), capture_output=True, text=True, check=False, timeout=120,
        )
        for seed in range(PROCESSES)
    ]  # fmt: skip
    assert all(one.returncode == 0 for one in done), [one.stderr for one in done if one.returncode]
    return [json.loads(one.stdout) for one in done]


@needs_replacing
def test_whatever_the_page_is_told_exists(client: Client) -> None:
    schemas = client.get("/object_info")
    table = client.get("/node_replacements")
    ours = {old: entry for old, [entry, *_] in table.items() if entry["new_node_id"].startswith("Janus")}
    kinds = {node.kind for pack in PACKS.values() for node in (pack.answer, pack.draw, pack.chat) if node}
    assert ours.keys() >= kinds | {pack.loader for pack in PACKS.values()}
    further = {"JanusImageUnderstanding2", "JanusImageGeneration2", "JanusProCaptionImageUnderDirectory|Mie"}
    assert ours.keys() >= further
    for old, entry in ours.items():
        assert old not in schemas
        node = schemas[entry["new_node_id"]]
        inputs = {name for kind in node["input"].values() for name in kind}
        told = {one["new_id"] for one in entry["input_mapping"]}
        assert told - {"control_after_generate", "fixed"} <= inputs - {"unique_id"}, old
        assert {one["new_idx"] for one in entry["output_mapping"]} <= set(range(len(node["output"])))
        named = {one["old_id"] for one in entry["input_mapping"] if "old_id" in one}
        assert entry["old_widget_ids"].count("control_after_generate") == ("seed" in named)


@needs_replacing
def test_a_folder_is_captioned_with_the_question_alone(client: Client) -> None:
    made = {
        "1": {"class_type": "JanusProModelLoader|Mie", "inputs": {"model_name": MODEL}},
        "2": {
            "class_type": "JanusProCaptionImageUnderDirectory|Mie",
            "inputs": {
                "model": ["1", 0], "directory": "nowhere", "question": "What?", "seed": 9,
                "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 8, "save_to_new_directory": False,
            },
        },
    }  # fmt: skip
    run = client.run(made)
    assert run.error is not None
    assert run.error["node_type"] == "JanusCaptionFolder"
    assert "There is no folder" in run.error["exception_message"]
    sent = client.get(f"/history/{run.prompt_id}")[run.prompt_id]["prompt"][2]["2"]["inputs"]
    assert sent["folder"] == "nowhere"
    assert (sent["style"], sent["question"]) == ("custom", "What?")


@needs_replacing
def test_a_picture_under_its_earlier_name_arrives(client: Client) -> None:
    made = chain(PACKS["yanhuifair"], MODEL, PICTURE)
    [key] = [key for key, node in made.nodes if node is PACKS["yanhuifair"].answer]
    inputs = made.prompt[key]["inputs"]
    inputs["image"] = inputs.pop("images")
    assert run_as_sent(client, made)[key]["inputs"]["image"] == inputs["image"]


@needs_replacing
def test_a_prompt_of_the_first_version_runs(client: Client) -> None:
    first = {"prompt": "a red circle", "batch_size": 2, "temperature": 0.7, "cfg_weight": 3.0}
    made = {
        "1": {"class_type": "JanusModelLoader", "inputs": {"model_name": MODEL, "local_model": True}},
        "2": {
            "class_type": "JanusImageGeneration",
            "inputs": {"model": ["1", 0], "processor": ["1", 1], **first},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    run = client.run(made)
    assert run.error is None, run.error
    assert client.pictures(run, "3").shape[0] == 2


@needs_replacing
def test_what_the_node_lacks_is_said_as_of_ours(client: Client) -> None:
    made = {
        "1": {"class_type": "JanusModelLoader", "inputs": {"model_name": MODEL}},
        "2": {"class_type": "JanusImageUnderstanding", "inputs": {"model": ["1", 0], "prompt": "What?"}},
    }
    with pytest.raises(RefusedError) as refused:
        client.run(made)
    [error] = refused.value.node_errors["2"]["errors"]
    assert (error["type"], error["details"]) == ("required_input_missing", "question")


@needs_replacing
def test_a_node_that_nobody_knows_is_left_to_core(client: Client, graph: Graph) -> None:
    graph.add("DeepSeekImageAnalyst", image=graph.picture(PICTURE))
    with pytest.raises(RefusedError) as refused:
        client.run(graph)
    assert "DeepSeekImageAnalyst" in str(refused.value)


def test_with_the_pack_installed_nothing_is_replaced(crowded_client: Client) -> None:
    made = {
        "1": {"class_type": "JanusModelLoader", "inputs": {"model_path": "base"}},
        "2": {"class_type": "JanusImageGenerator", "inputs": {"janus_model": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    run = crowded_client.run(made)
    assert run.error is not None
    assert (run.error["node_type"], run.error["exception_type"]) == (
        "JanusImageGenerator",
        "NotImplementedError",
    )


def test_a_release_that_replaces_nothing_says_that_the_node_is_missing(
    client: Client, comfy: ComfyUI
) -> None:
    if replaces(comfy):
        pytest.skip("this release replaces nodes; a check inside ComfyUI does without")
    with pytest.raises(RefusedError) as refused:
        client.run(chain(PACKS["CY-CHENYUE"], MODEL, PICTURE).prompt)
    assert "JanusModelLoader" in str(refused.value)
