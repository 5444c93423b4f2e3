"""What the nodes answer and draw is what the core alone computes: token for token, pixel for pixel."""

from pathlib import Path

import numpy as np
import pytest
from comfy_client import Client, Run
from comfy_server import Server
from conftest import CoreResults
from graphs import Graph, Link
from safetensors.numpy import load_file

SAMPLED = {
    "seed": 7,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 0.9,
    "min_p": 0.01,
    "repetition_penalty": 1.3,
}
DRAWINGS = {
    "draw 1": {},
    "draw 3": {"batch_size": 3, "seed": 5},
    "draw 17": {"batch_size": 17, "seed": 2**64 - 3},
    "draw unguided": {"cfg_weight": 1.0},
    "draw steered": {
        "seed": 3,
        "negative_prompt": "blue",
        "cfg_weight": 2.0,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
        "min_p": 0.2,
    },
}


def finished(client: Client, graph: Graph) -> Run:
    """Run a prompt that must succeed."""
    run = client.run(graph)
    assert run.error is None, run.error
    assert run.status == "success"
    return run


def answers(client: Client, graph: Graph, node: str) -> list[str]:
    return finished(client, graph).answers(node)


def assert_same_picture(shown: np.ndarray, expected: np.ndarray) -> None:
    """Compare 8-bit pictures, one level apart at most: another torch may round otherwise."""
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected.astype(int)).max() <= 1


def saved_grid(server: Server, run: Run, node: str, folder: str) -> np.ndarray:
    """Return the image tokens that a save node wrote."""
    [name] = run.outputs[node]["text"]
    return load_file(server.base / "output" / folder / Path(name).name)["grid"]


@pytest.mark.parametrize("residency", ["auto", "fast", "offload"])
def test_caption_is_the_cores(client: Client, graph: Graph, core: CoreResults, residency: str) -> None:
    model = graph.load(residency=residency)
    node = graph.add("JanusCaption", model=model, image=graph.picture("landscape.png"))
    assert answers(client, graph, node) == core.texts["caption"]


def test_each_caption_style_asks_its_own_question(client: Client, graph: Graph, core: CoreResults) -> None:
    model, picture = graph.load(), graph.picture("landscape.png")
    nodes = [
        graph.add("JanusCaption", model=model, image=picture, style=s) for s in ("detailed", "tags", "text")
    ]
    run = finished(client, graph)
    assert [run.answers(node)[0] for node in nodes] == core.texts["caption each style"]


def test_custom_caption_asks_the_persons_question(client: Client, graph: Graph, core: CoreResults) -> None:
    picture = graph.picture("landscape.png")
    node = graph.add(
        "JanusCaption", model=graph.load(), image=picture, style="custom", question="Which colours?"
    )
    assert answers(client, graph, node) == core.texts["caption custom"]


def test_question_of_another_style_is_asked_besides(client: Client, graph: Graph, core: CoreResults) -> None:
    picture = graph.picture("landscape.png")
    node = graph.add("JanusCaption", model=graph.load(), image=picture, question="Which colours?")
    assert answers(client, graph, node) == core.texts["caption and question"]
    assert core.texts["caption and question"] != core.texts["caption"]


def test_prefix_and_suffix_stand_round_every_caption(client: Client, graph: Graph, core: CoreResults) -> None:
    pictures = graph.made("pattern", count=3)
    node = graph.add("JanusCaption", model=graph.load(), image=pictures, prefix="photo, ", suffix=" .")
    assert answers(client, graph, node) == [f"photo, {text} ." for text in core.texts["caption 3"]]


def test_sampled_captions_are_the_cores(client: Client, graph: Graph, core: CoreResults) -> None:
    node = graph.add("JanusCaption", model=graph.load(), image=graph.made("pattern", count=3), **SAMPLED)
    assert answers(client, graph, node) == core.texts["caption sampled"]


def test_stop_text_ends_the_answer(client: Client, graph: Graph, core: CoreResults) -> None:
    [whole] = core.texts["ask without picture"]
    stop = whole[6:8]
    node = graph.add("JanusAsk", model=graph.load(), stop=f"\n{stop}\nnever written")
    assert answers(client, graph, node) == [whole.split(stop)[0].strip()]


def test_question_without_picture(client: Client, graph: Graph, core: CoreResults) -> None:
    node = graph.add("JanusAsk", model=graph.load())
    assert answers(client, graph, node) == core.texts["ask without picture"]


def test_question_about_two_pictures(client: Client, graph: Graph, core: CoreResults) -> None:
    first, second = graph.picture("landscape.png"), graph.picture("portrait.png")
    node = graph.add("JanusAsk", model=graph.load(), image=first, image_2=second)
    assert answers(client, graph, node) == core.texts["ask about two"]


def test_order_of_pictures_is_that_of_the_inputs(client: Client, graph: Graph, core: CoreResults) -> None:
    first, second = graph.picture("portrait.png"), graph.picture("landscape.png")
    node = graph.add("JanusAsk", model=graph.load(), image=second, image_4=first)
    assert answers(client, graph, node) == core.texts["ask about two"]


def test_system_text_reaches_the_model(client: Client, graph: Graph, core: CoreResults) -> None:
    node = graph.add("JanusAsk", model=graph.load(), system="Be brief.")
    assert answers(client, graph, node) == core.texts["ask with system"]


def test_question_to_each_picture_of_a_batch(client: Client, graph: Graph, core: CoreResults) -> None:
    node = graph.add("JanusAsk", model=graph.load(), image=graph.made("pattern", count=3), ask_each=True)
    assert answers(client, graph, node) == core.texts["ask each"]


def test_conversation_goes_on_in_the_next_node(client: Client, graph: Graph, core: CoreResults) -> None:
    model = graph.load()
    first = graph.add("JanusAsk", model=model, image=graph.picture("landscape.png"))
    second = graph.add("JanusAsk", model=model, question="And where?", chat=[first, 1])
    run = finished(client, graph)
    assert [*run.answers(first), *run.answers(second)] == core.texts["chat"]


def test_conversations_about_each_picture_go_on_side_by_side(
    client: Client, graph: Graph, core: CoreResults
) -> None:
    model = graph.load()
    first = graph.add("JanusAsk", model=model, image=graph.made("pattern", count=3), ask_each=True)
    second = graph.add("JanusAsk", model=model, question="Sure?", chat=[first, 1])
    assert answers(client, graph, second) == core.texts["ask each again"]


@pytest.mark.parametrize("case", DRAWINGS)
def test_drawing_is_the_cores(
    server: Server, client: Client, graph: Graph, core: CoreResults, case: str
) -> None:
    draw = graph.add("JanusDraw", model=graph.load(), **DRAWINGS[case])
    shown = graph.saved([draw, 0])
    kept = graph.add("JanusSaveTokens", image_tokens=[draw, 1], filename_prefix="drawn/tokens")
    run = finished(client, graph)
    assert np.array_equal(saved_grid(server, run, kept, "drawn"), core.arrays[f"{case} tokens"])
    assert_same_picture(client.pictures(run, shown), core.arrays[case])


def test_drawing_by_streamed_weights_is_the_cores(client: Client, graph: Graph, core: CoreResults) -> None:
    draw = graph.add("JanusDraw", model=graph.load(residency="offload"), **DRAWINGS["draw 3"])
    shown = graph.saved([draw, 0])
    assert_same_picture(client.pictures(finished(client, graph), shown), core.arrays["draw 3"])


def encoded(graph: Graph, picture: Link, fit: str) -> tuple[str, str]:
    """Encode a picture and decode it again; returns the nodes that save tokens and pictures."""
    model = graph.load()
    encode = graph.add("JanusEncodeImage", model=model, image=picture, fit=fit)
    decode = graph.add("JanusDecodeTokens", model=model, image_tokens=[encode, 0])
    kept = graph.add("JanusSaveTokens", image_tokens=[encode, 0], filename_prefix="encoded/tokens")
    return kept, graph.saved([decode, 0])


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_encoding_any_size_is_the_cores(
    server: Server, client: Client, graph: Graph, core: CoreResults, fit: str
) -> None:
    kept, shown = encoded(graph, graph.picture("landscape.png"), fit)
    run = finished(client, graph)
    assert np.array_equal(saved_grid(server, run, kept, "encoded"), core.arrays[f"encode {fit} tokens"])
    assert_same_picture(client.pictures(run, shown), core.arrays[f"encode {fit}"])


def test_encoding_the_exact_size_is_the_cores(
    server: Server, client: Client, graph: Graph, core: CoreResults
) -> None:
    kept, shown = encoded(graph, graph.made("pattern", count=3), "crop")
    run = finished(client, graph)
    assert np.array_equal(saved_grid(server, run, kept, "encoded"), core.arrays["encode exact tokens"])
    assert_same_picture(client.pictures(run, shown), core.arrays["encode exact"])


@pytest.mark.parametrize("place", ["input", "output"])
def test_saved_tokens_give_the_same_pictures_again(server: Server, client: Client, place: str) -> None:
    first = Graph()
    draw = first.add("JanusDraw", model=first.load(), batch_size=3, seed=9)
    kept = first.add("JanusSaveTokens", image_tokens=[draw, 1], filename_prefix=f"trip-{place}/t")
    drawn = first.saved([draw, 0])
    run = finished(client, first)
    [name] = run.outputs[kept]["text"]
    file = f"trip-{place}/{name}"
    if place == "input":
        (server.base / "input" / f"trip-{place}").mkdir()
        (server.base / "output" / file).rename(server.base / "input" / file)

    second = Graph()
    loaded = second.add("JanusLoadTokens", file=file + (" [output]" if place == "output" else ""))
    again = second.saved([second.add("JanusDecodeTokens", model=second.load(), image_tokens=[loaded, 0]), 0])
    assert np.array_equal(client.pictures(finished(client, second), again), client.pictures(run, drawn))


def test_tokens_are_never_saved_over_a_file(server: Server, client: Client) -> None:
    names = []
    for seed in (1, 2):
        graph = Graph()
        draw = graph.add("JanusDraw", model=graph.load(), seed=seed)
        kept = graph.add("JanusSaveTokens", image_tokens=[draw, 1], filename_prefix="many/tokens")
        names += finished(client, graph).outputs[kept]["text"]
    assert names == ["tokens_00001_.janus.safetensors", "tokens_00002_.janus.safetensors"]
    grids = [load_file(server.base / "output" / "many" / name)["grid"] for name in names]
    assert not np.array_equal(*grids)


def test_tokens_replaced_on_disk_are_read_again(server: Server, client: Client) -> None:
    graph = Graph()
    draw = graph.add("JanusDraw", model=graph.load(), seed=21)
    graph.add("JanusSaveTokens", image_tokens=[draw, 1], filename_prefix="replaced/t")
    finished(client, graph)
    read = Graph()
    loaded = read.add("JanusLoadTokens", file="replaced/t_00001_.janus.safetensors [output]")
    shown = read.saved([read.add("JanusDecodeTokens", model=read.load(), image_tokens=[loaded, 0]), 0])
    before = client.pictures(finished(client, read), shown)
    graph[draw]["inputs"]["seed"] = 22
    graph["3"]["inputs"]["filename_prefix"] = "replacing/t"
    finished(client, graph)
    folder = server.base / "output"
    (folder / "replacing/t_00001_.janus.safetensors").replace(folder / "replaced/t_00001_.janus.safetensors")
    assert not np.array_equal(client.pictures(finished(client, read), shown), before)
