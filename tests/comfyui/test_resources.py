"""Time and memory on a model with pictures of the published size: Cancel, previews, freeing, no growth."""

import itertools
import statistics
import sys
import time
from pathlib import Path

import pytest
from comfy_client import Client, Run
from comfy_server import ComfyUI, Server
from conftest import Drawing
from graphs import Graph
from memory_growth import growth, measure

_MEASURED_FROM, _MEASURED_TO = 24, 224
_PAIRS = 5
_FREED_WITHIN_S = 30
_needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Cancel:
    """Presses Cancel once a node has done so many tokens, and notes when."""

    def __init__(self, client: Client, node: str, tokens: int) -> None:
        self._client = client
        self._node = node
        self._tokens = tokens
        self.pressed_s: float | None = None

    def __call__(self, run: Run) -> None:
        progress = run.progress_of(self._node)
        if self.pressed_s is None and progress and progress[-1][0] >= self._tokens:
            self._client.interrupt()
            self.pressed_s = time.monotonic()


def cancelled_after(client: Client, graph: Graph, node: str, tokens: int) -> tuple[Run, float]:
    """Run a prompt and cancel it; returns the run and how long it went on."""
    cancel = Cancel(client, node, tokens)
    run = client.follow(client.submit(graph), cancel)
    assert cancel.pressed_s is not None
    seconds = time.monotonic() - cancel.pressed_s
    print(f"Cancel after token {tokens}: control came back within {seconds:.2f} s")
    return run, seconds


def test_cancel_ends_a_drawing_at_once_and_the_next_one_is_right(client: Client, drawing: Drawing) -> None:
    client.free()  # else the drawing would come from the cache
    run, seconds = cancelled_after(client, drawing.graph, drawing.draw, 10)
    assert run.interrupted
    assert drawing.draw not in run.outputs
    assert run.progress_of(drawing.draw)[-1][0] < 200
    assert seconds < 2
    again = client.run(drawing.graph)
    saved = next(node for node, content in drawing.graph.items() if content["class_type"] == "SaveImage")
    assert (client.pictures(again, saved)[0] == drawing.picture).all()


def test_cancel_ends_an_answer_at_once_and_the_next_one_is_right(client: Client, graph: Graph) -> None:
    node = graph.add("JanusAsk", model=graph.load(), seed=30, temperature=1.0, max_new_tokens=900)
    run, seconds = cancelled_after(client, graph, node, 10)
    assert run.interrupted
    assert seconds < 2
    graph[node]["inputs"]["max_new_tokens"] = 60
    [short] = client.run(graph).answers(node)
    graph[node]["inputs"]["max_new_tokens"] = 70
    [longer] = client.run(graph).answers(node)
    assert longer.startswith(short.rstrip("\ufffd"))
    assert len(longer) > len(short)


def cpu_seconds(server: Server) -> float:
    """Return the computing time that the server has used, which other work on the machine leaves alone."""
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def drawing_cost(server: Server, client: Client, seed: int, method: str) -> tuple[float, int]:
    """Draw some hundred tokens; returns the computing time per token and the number of previews."""
    graph = Graph()
    draw = graph.add("JanusDraw", model=graph.load(model="janus-random"), seed=seed)
    graph.saved([draw, 0])
    marks: list[tuple[int, float]] = []  # tokens done, computing time so far

    def watch(run: Run) -> None:
        done = run.progress_of(draw)[-1][0] if run.progress_of(draw) else 0
        if len(marks) < 2 and done >= (_MEASURED_FROM, _MEASURED_TO)[len(marks)]:
            marks.append((done, cpu_seconds(server)))
            if len(marks) == 2:
                client.interrupt()

    run = client.follow(client.submit(graph, preview_method=method), watch)
    assert run.interrupted
    (from_token, from_s), (to_token, to_s) = marks
    return (to_s - from_s) / (to_token - from_token), len(run.previews)


@_needs_linux
@pytest.mark.slow
def test_previews_cost_little(comfy: ComfyUI, with_random: Server, client: Client) -> None:
    if comfy.numbers < (0, 8):
        pytest.skip(f"ComfyUI {comfy.version} knows no preview method per prompt, only the server's")
    costs: dict[str, list[float]] = {"auto": [], "none": []}
    for seed, method in itertools.product(range(_PAIRS), ("auto", "none")):
        cost, previews = drawing_cost(with_random, client, 500 + seed, method)
        assert bool(previews) is (method == "auto")
        costs[method].append(cost)
    typical = statistics.median(costs["auto"]) / statistics.median(costs["none"]) - 1
    undisturbed = min(costs["auto"]) / min(costs["none"]) - 1
    print(f"previews cost {typical:+.1%} of drawing by the medians, {undisturbed:+.1%} by the fastest runs")
    assert min(typical, undisturbed) < 0.10


@_needs_linux
def test_free_memory_returns_the_models(
    crowded_server: Server, crowded_client: Client, random_model: Path
) -> None:
    link = crowded_server.base / "models" / "janus" / "janus-freed"
    link.symlink_to(random_model, target_is_directory=True)

    def asked(model: str) -> float:
        graph = Graph()
        graph.add("JanusAsk", model=graph.load(model=model), image=graph.made("pattern"), max_new_tokens=2)
        assert crowded_client.run(graph).error is None
        return float(crowded_client.get("/janus_test/memory")["anonymous"]) / 1024

    asked("janus-tiny")
    crowded_client.free()
    before = asked("janus-tiny")
    loaded = asked(link.name)
    crowded_client.press_free()  # and no further prompt, which would drop the model from the cache by itself
    for _ in range(_FREED_WITHIN_S):
        time.sleep(1)
        after = float(crowded_client.get("/janus_test/memory")["anonymous"]) / 1024
        if after - before < 0.05 * (loaded - before):
            break
    print(f"MiB of the process: {before:.0f} before, {loaded:.0f} with the model, {after:.0f} after freeing")
    assert loaded - before > 250
    assert after - before < 0.05 * (loaded - before)


@_needs_linux
@pytest.mark.slow
def test_memory_does_not_grow_run_by_run(
    crowded_server: Server, crowded_client: Client, random_model: Path
) -> None:
    link = crowded_server.base / "models" / "janus" / random_model.name
    link.symlink_to(random_model, target_is_directory=True)
    share = growth(measure(crowded_client, 12, is_rough=True))
    print(f"memory grew by {share:+.2%} in 12 runs")
    assert share < 0.03
