"""What nodes say beside results: what a small model knows, new words, a missing picture; and before a run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_client import Client
from comfy_server import BUNDLED, PACK, Server
from graphs import Graph

KNOWS = f"{BUNDLED} knows only coloured shapes. For anything else choose Janus-Pro-1B in Load Janus."
MISSING = "No picture is connected, so the answer is about none. Connect one to image to ask about it."
FOLDER = PACK / "janus_core" / "bundled" / BUNDLED


def remarks(client: Client, graph: Graph, node: str) -> list[str]:
    run = client.run(graph)
    assert run.error is None, run.error
    # without tokens per second, which are others each time
    return [line for line in run.outputs[node]["janus_remarks"] if " tokens in " not in line]


@pytest.mark.parametrize(
    ("prompt", "new"),
    [
        ("a large red circle left of two blue squares", []),
        ("A Cat on a red square", ["cat"]),
        ("zebra, zebra! über-zebra; don't run at noon, gray fox", ["zebra", "über", "don't", "run", "noon"]),
    ],
)
def test_words_that_a_small_model_never_read_are_named(
    client: Client, graph: Graph, prompt: str, new: list[str]
) -> None:
    draw = graph.add("JanusDraw", model=graph.load(model=BUNDLED), prompt=prompt, temperature=0.0)
    graph.saved([draw, 0])
    *told, last = remarks(client, graph, draw)
    assert last == KNOWS
    named = ", ".join(f'"{word}"' for word in new)
    more = " and 2 more" if len(new) == 5 else ""
    assert told == (
        [f"New to {BUNDLED}, which draws something else or nothing: {named}{more}."] if new else []
    )


def test_a_model_without_a_world_file_has_no_remarks(client: Client, graph: Graph) -> None:
    draw = graph.add("JanusDraw", model=graph.load(), prompt="a cat", seed=3)
    graph.saved([draw, 0])
    assert remarks(client, graph, draw) == []


def test_captions_of_a_small_model_say_what_it_knows(client: Client, graph: Graph) -> None:
    model = graph.load(model=BUNDLED)
    assert remarks(
        client, graph, graph.add("JanusCaption", model=model, image=graph.picture("landscape.png"))
    ) == [KNOWS]


@pytest.mark.parametrize(
    ("question", "refers"),
    [
        ("What is in this picture?", True),
        ("How many people are in the second image?", True),
        ("Describe it.", True),
        ("What do you see?", True),
        ("Write a poem about painting.", False),
        ("How do I take a good photograph?", False),
    ],
)
def test_a_question_about_a_picture_that_is_not_there(
    client: Client, graph: Graph, question: str, refers: bool
) -> None:
    ask = graph.add("JanusAsk", model=graph.load(), question=question, max_new_tokens=2)
    assert remarks(client, graph, ask) == ([MISSING] if refers else [])


def test_a_picture_earlier_in_the_conversation_counts(client: Client, graph: Graph) -> None:
    model, picture = graph.load(), graph.picture("landscape.png")
    first = graph.add("JanusAsk", model=model, image=picture, max_new_tokens=2)
    again = "And what else is in this picture?"
    second = graph.add("JanusAsk", model=model, chat=[first, 1], question=again, max_new_tokens=2)
    assert remarks(client, graph, second) == []


def test_a_small_model_without_any_picture_says_so(client: Client, graph: Graph) -> None:
    ask = graph.add("JanusAsk", model=graph.load(model=BUNDLED), question="Why?", max_new_tokens=2)
    assert remarks(client, graph, ask) == [MISSING, KNOWS]


@pytest.fixture
def spoilt(server: Server) -> Iterator[Path]:
    folder = server.base / "models" / "janus" / "spoilt-world"
    shutil.copytree(FOLDER, folder)
    (folder / "world.json").write_text('{"knows": "nothing"}', encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


def test_a_spoilt_world_file_is_named(client: Client, graph: Graph, spoilt: Path) -> None:
    draw = graph.add("JanusDraw", model=graph.load(model=spoilt.name))
    graph.saved([draw, 0])
    run = client.run(graph)
    assert run.error is not None
    message = run.error["exception_message"]
    assert 'world.json", which says what the model knows' in message
    assert "Put back the file that came with the model, or remove it." in message
    note = client.get("/janus/models")["models"][spoilt.name]
    assert note["text"] in message


def test_the_page_learns_what_is_installed(client: Client) -> None:
    told = client.get("/janus/models")
    assert told["models"]["Janus-Pro-7B"] == {
        "is_installed": False,
        "text": "Janus-Pro-7B is not installed. Run downloads 14.8 GB into models/janus/Janus-Pro-7B.",
    }
    assert told["models"]["janus-tiny"] == {"is_installed": True, "text": ""}
    assert told["models"][BUNDLED]["text"].startswith(
        f"{BUNDLED} is a miniature that knows only coloured shapes."
    )
    assert "models/janus" in told["unknown"]


def test_core_shows_values_as_people_read_them(client: Client, graph: Graph) -> None:
    model = graph.load(model=BUNDLED)
    draw = graph.add("JanusDraw", model=model, batch_size=2)
    ask = graph.add("JanusAsk", model=model, image=[draw, 0], question="What is it?")
    shown = [graph.add("PreviewAny", source=link) for link in (model, [draw, 1], [ask, 1])]
    run = client.run(graph)
    assert run.error is None, run.error
    texts = [run.outputs[node]["text"][0] for node in shown]
    assert texts[:2] == [f"{BUNDLED}, float32, CPU", f"2 × 8 × 8 tokens of {BUNDLED}"]
    assert texts[2].startswith("user (2 pictures): What is it?\n\nassistant: ")
