"""Whatever a graph says to a node: core refuses it, or the node answers, or it gives an error of ours.

Hypothesis makes values from the nodes' own schemas, in their ranges and beyond, and texts along links, which
core does not check. Examples follow from the test's code, so that a run is the same everywhere.
"""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from comfy_client import Client, RefusedError
from comfy_server import Server
from conftest import GOLDEN
from graphs import Graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_snapshot import SNAPSHOT
from test_lora import write

NODES = tuple(json.loads(SNAPSHOT.read_text(encoding="utf-8")))
# What costs time and changes nothing about how an input is read.
LIMITS = {"batch_size": 2, "max_new_tokens": 3, "candidates": 2, "steps": 3}
PREFIXES = ("any/%width%", "../x", "/tmp/x", "any/x\0", f"any/{'x' * 300}", "C:\\x", "")
FLOW, FOLDER, ADAPTER = "janusflow-any", "any-photos", "any.safetensors"
KINDS = ("pattern", "pattern", "pattern", "nan", "five channels", "empty batch", "three axes", "0 to 255")
MANY_INPUTS = 6  # a node with more is tried more often
FEW = settings(
    derandomize=True, max_examples=4, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
MORE = settings(FEW, max_examples=6)
Value = Callable[[Graph], Any]


@pytest.fixture(scope="module", autouse=True)
def files(server: Server) -> None:
    """Put a JanusFlow, a folder of pictures and an adapter where the nodes look for them."""
    shutil.copytree(GOLDEN / "janusflow-tiny", server.base / "models" / "janus" / FLOW)
    shutil.copytree(GOLDEN / "images", server.base / "input" / FOLDER)
    (server.base / "models" / "loras").mkdir(parents=True, exist_ok=True)
    write(server.base / "models" / "loras" / ADAPTER, seed=0)


texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(("", "..", "../x", "<image_placeholder>", "nan", "-1", "C:\\x", "a " * 300, "{prompt}")),
)


def picture(graph: Graph, kind: str, count: int) -> Any:
    return graph.made(kind, count=count)


def of_type(kind: Any, options: dict[str, Any], name: str) -> st.SearchStrategy[Value]:
    """Return what an input of a type may be given."""
    if isinstance(kind, list) or kind == "COMBO":
        choices = kind if isinstance(kind, list) else options.get("options", [])
        values: st.SearchStrategy[Any] = st.one_of(st.sampled_from([*choices, "?"]), texts)
    elif kind == "INT":
        most = LIMITS.get(name, options.get("max", 4))
        values = st.one_of(
            st.integers(options.get("min", 0) - 1, most), st.sampled_from((0, 1, most + 1, 1.5, "x"))
        )
    elif kind == "FLOAT":
        values = st.one_of(
            st.floats(options.get("min", 0), options.get("max", 1)),
            st.sampled_from((-2, 1e30, "x", None, True)),
        )
    elif kind == "BOOLEAN":
        values = st.sampled_from((True, False, "x", 3))
    elif name == "folder":  # no other name, since texts are written into the folder
        values = st.sampled_from((FOLDER, FOLDER, f"{FOLDER}/..//../..", "", "..", "no such", "C:\\x", "\0"))
        return values.map(lambda value: lambda graph: value)
    else:
        values = st.sampled_from(PREFIXES) if name == "filename_prefix" else texts
    typed = values.map(lambda value: lambda graph: value)
    linked = texts.map(lambda value: lambda graph: graph.text(value))  # core does not look into links
    return st.one_of(typed, typed, typed, linked)


def inputs_of(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Value]]:
    """Return values for the inputs of a node; optional ones may be left out."""
    models = (FLOW, FLOW, "janus-tiny") if schema["name"].startswith("JanusFlow") else ("janus-tiny",)
    sockets: dict[str, st.SearchStrategy[Value]] = {
        "IMAGE": st.tuples(st.sampled_from(KINDS), st.integers(1, 2)).map(
            lambda made: lambda graph: picture(graph, *made)
        ),
        "MASK": st.tuples(st.sampled_from((0.0, 1.0)), st.integers(1, 90)).map(
            lambda made: lambda graph: [
                graph.add("SolidMask", value=made[0], width=made[1], height=64), 0
            ]
        ),
        "JANUS": st.sampled_from(models).map(lambda model: lambda graph: graph.load(model=model)),
        "JANUS_IMAGE_TOKENS": st.integers(1, 2).map(
            lambda count: lambda graph: [
                graph.add("JanusEncodeImage", model=graph.load(), image=graph.made("pattern", count=count)), 0
            ]
        ),
    }  # fmt: skip
    chosen: dict[str, dict[str, st.SearchStrategy[Value]]] = {"required": {}, "optional": {}}
    for group, found in chosen.items():
        for name, (kind, *rest) in schema["input"].get(group, {}).items():
            if kind in ("JANUS_CHAT", "JANUS_LORA"):
                continue
            known = isinstance(kind, str) and kind in sockets
            found[name] = sockets[kind] if known else of_type(kind, rest[0] if rest else {}, name)
    optional = st.fixed_dictionaries({}, optional=chosen["optional"])
    return st.tuples(st.fixed_dictionaries(chosen["required"]), optional).map(lambda both: both[0] | both[1])


def run(client: Client, node: str, schema: dict[str, Any], values: dict[str, Value]) -> str:
    """Run a node with values; return how it ended."""
    graph = Graph()
    made = {name: value(graph) for name, value in values.items()}
    limited = {name: 2 for name in LIMITS if name in schema["input"].get("optional", {})}
    added = graph.add(node, **limited)
    graph[added]["inputs"] = limited | made
    if not schema["output_node"]:
        graph.add("PreviewAny", source=[added, 0])
    try:
        ran = client.run(graph)
    except RefusedError:
        return "refused"
    if ran.error is None:
        return ran.status
    assert ran.error["node_type"] == node or ran.error["node_type"].startswith("Janus"), ran.error
    return str(ran.error["exception_type"])


@pytest.mark.parametrize("node", NODES)
def test_any_input_is_refused_answered_or_an_error_of_ours(client: Client, node: str) -> None:
    schema = client.get(f"/object_info/{node}")[node]
    inputs = sum(len(group) for group in schema["input"].values())
    ends = set()

    @(MORE if inputs > MANY_INPUTS else FEW)
    @given(inputs_of(schema))
    def examine(values: dict[str, Value]) -> None:
        end = run(client, node, schema, values)
        ends.add(end)
        assert end in ("refused", "success") or end.startswith("janus_core.errors."), end

    examine()
    assert ends
