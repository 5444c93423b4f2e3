"""Janus LoRA on a real ComfyUI: what an adapter changes, that it stacks and goes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_client import Client, Run
from comfy_server import Server
from graphs import Graph, Link
from safetensors.numpy import save_file
from test_bad_input import failure

LAYER = "base_model.model.language_model.model.layers.0.mlp.down_proj"
WIDTHS = (172, 64)  # of that layer in the tiny model: in, out


@pytest.fixture(scope="module")
def loras(server: Server) -> Path:
    folder = server.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "style.safetensors", seed=0)
    peft = folder / "mine"
    peft.mkdir()
    write(peft / "adapter_model.safetensors", seed=1)
    (peft / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 4}), "utf-8")
    write(folder / "wide.safetensors", seed=0, widths=(4096, 4096))
    return folder


def write(file: Path, seed: int, widths: tuple[int, int] = WIDTHS) -> None:
    random = np.random.default_rng(seed)
    down = random.normal(size=(2, widths[0])).astype(np.float32)
    up = random.normal(size=(widths[1], 2)).astype(np.float32)
    config = json.dumps({"peft_type": "LORA", "lora_alpha": 2})
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    save_file(tensors, file, None if file.name.startswith("adapter") else {"adapter_config": config})


def drawn(graph: Graph, model: Link) -> str:
    return graph.saved([graph.add("JanusDraw", model=model, temperature=0.0), 0])


def with_lora(graph: Graph, model: Link, adapter: str, strength: float = 1.0) -> Link:
    return [graph.add("JanusLoRA", model=model, adapter=adapter, strength=strength), 0]


def pictures(client: Client, run: Run, nodes: list[str]) -> list[Any]:
    assert run.error is None, run.error
    return [client.pictures(run, node) for node in nodes]


@pytest.mark.parametrize("residency", ["auto", "offload"])
def test_adapters_change_stack_and_leave_the_model_below_as_it_was(
    client: Client, loras: Path, residency: str
) -> None:
    graph = Graph()
    model = graph.load(residency=residency)
    one = with_lora(graph, model, "style.safetensors")
    both = with_lora(graph, one, "mine/adapter_model.safetensors", 0.5)
    swapped = with_lora(
        graph, with_lora(graph, model, "mine/adapter_model.safetensors", 0.5), "style.safetensors"
    )
    off = with_lora(graph, model, "style.safetensors", 0.0)
    undone = with_lora(graph, one, "style.safetensors", -1.0)
    nodes = [drawn(graph, which) for which in (model, one, both, swapped, off, undone)]
    again = graph.saved([graph.add("JanusDraw", model=model, temperature=0.0, seed=1), 0])  # greedy: no noise
    base, first, second, other, none, back, last = pictures(client, client.run(graph), [*nodes, again])
    assert not np.array_equal(base, first)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, other)
    assert np.array_equal(base, none)
    assert np.array_equal(base, last)
    if residency == "auto":  # in the file's bfloat16 a sum and its opposite leave a rounding
        assert np.array_equal(base, back)


def test_a_changed_file_is_read_again(client: Client, loras: Path) -> None:
    write(loras / "changing.safetensors", seed=2)
    graph = Graph()
    node = drawn(graph, with_lora(graph, graph.load(), "changing.safetensors"))
    [before] = pictures(client, client.run(graph), [node])
    write(loras / "changing.safetensors", seed=3)
    [after] = pictures(client, client.run(graph), [node])
    assert not np.array_equal(before, after)


def test_an_adapter_of_another_model_is_refused_with_both_widths(client: Client, loras: Path) -> None:
    graph = Graph()
    lora = with_lora(graph, graph.load(), "wide.safetensors")
    drawn(graph, lora)
    said = failure(client, graph, lora[0])
    assert "4096 × 4096 wide" in said
    assert "172 × 64" in said


def test_adapters_are_listed_and_paths_are_no_way_out(client: Client, loras: Path) -> None:
    node = client.get("/object_info/JanusLoRA")["JanusLoRA"]
    listed = str(node["input"]["required"]["adapter"])
    assert "style.safetensors" in listed
    assert "adapter_model.safetensors" in listed
    graph = Graph()
    name = graph.text("../../janus/janus-tiny/config.json")
    lora = graph.add("JanusLoRA", model=graph.load(), adapter=name)
    drawn(graph, [lora, 0])
    assert "There is no adapter" in failure(client, graph, lora)
