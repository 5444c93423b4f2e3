"""Files that people pass on: a saved picture has its graph inside, and its image tokens."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_client import Client, Run
from comfy_server import Server
from graphs import Graph
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import load_file

WORKFLOW = {"nodes": [], "links": [], "version": 0.4, "extra": {"note": "as the page sent it"}}


def drawn(client: Client, *, count: int = 1, seed: int = 3, **inputs: Any) -> tuple[Graph, str, str, Run]:
    """Draw and save by our node and by core's; return graph, both nodes, and the run."""
    graph = Graph()
    draw = graph.add("JanusDraw", model=graph.load(), batch_size=count, seed=seed)
    ours = graph.add("JanusSavePictures", images=[draw, 0], image_tokens=[draw, 1], **inputs)
    cores = graph.saved([draw, 0])
    run = client.run(graph, extra_pnginfo={"workflow": WORKFLOW})
    assert run.error is None, run.error
    return graph, ours, cores, run


def saved_files(server: Server, run: Run, node: str) -> list[Path]:
    files = run.outputs[node]["images"]
    return [server.base / file["type"] / file["subfolder"] / file["filename"] for file in files]


def tokens_of(client: Client, server: Server, source: list[Any], graph: Graph) -> np.ndarray:
    """Return what a graph has at an output for image tokens."""
    graph.add("JanusSaveTokens", image_tokens=source, filename_prefix="shared/tokens")
    run = client.run(graph)
    assert run.error is None, run.error
    newest = max((server.base / "output" / "shared").glob("tokens_*"))
    return load_file(newest)["grid"]


def encoded(client: Client, server: Server, *names: str) -> tuple[np.ndarray, Run, str]:
    """Encode pictures of the input folder as one batch; return the tokens, the run and the node."""
    graph = Graph()
    image = graph.picture(names[0])
    for name in names[1:]:
        image = [graph.add("ImageBatch", image1=image, image2=graph.picture(name)), 0]
    node = graph.add("JanusEncodeImage", model=graph.load(), image=image)
    graph.add("JanusSaveTokens", image_tokens=[node, 0], filename_prefix="shared/tokens")
    run = client.run(graph)
    assert run.error is None, run.error
    newest = max((server.base / "output" / "shared").glob("tokens_*"))
    return load_file(newest)["grid"], run, node


def remarks(run: Run, node: str) -> list[str]:
    return list(run.outputs.get(node, {}).get("janus_remarks", []))


@pytest.mark.parametrize("which", ["ours", "core's"])
def test_a_saved_picture_restores_its_graph_which_draws_the_same_pixels(
    client: Client, server: Server, which: str
) -> None:
    seed = {"ours": 41, "core's": 42}[which]  # of its own: cached results are no new files
    _, ours, cores, run = drawn(client, seed=seed, count=2)
    node = ours if which == "ours" else cores
    first, second = saved_files(server, run, node)
    with Image.open(second) as picture:
        notes = dict(picture.text)
        pixels = np.asarray(picture.convert("RGB"))
    assert json.loads(notes["workflow"]) == WORKFLOW

    client.free()  # nothing that was computed is left
    again = client.run(json.loads(notes["prompt"]))
    assert again.error is None, again.error
    assert "JanusDraw" in {json.loads(notes["prompt"])[name]["class_type"] for name in again.executed}
    assert np.array_equal(client.pictures(again, node)[1], pixels)
    assert first not in saved_files(server, again, node)


def test_a_saved_picture_does_not_tell_where_the_models_of_its_owner_lie(
    client: Client, server: Server
) -> None:
    _, ours, _, run = drawn(client)
    content = saved_files(server, run, ours)[0].read_bytes()
    assert str(server.base).encode() not in content


def test_tokens_travel_inside_a_picture_and_come_back_exactly(client: Client, server: Server) -> None:
    graph, ours, _, run = drawn(client, count=2, seed=5)
    draw = next(name for name, node in graph.items() if node["class_type"] == "JanusDraw")
    graph.pop(ours)
    expected = tokens_of(client, server, [draw, 1], graph)
    for number, path in enumerate(saved_files(server, run, ours)):
        shutil.copy(path, server.base / "input" / f"shared-{number}.png")

    # reversed, and beside a picture without any
    tokens, told, node = encoded(client, server, "shared-1.png", "landscape-64.png", "shared-0.png")
    assert np.array_equal(tokens[0], expected[1])
    assert np.array_equal(tokens[2], expected[0])
    assert remarks(told, node) == ["The image tokens were read from shared-1.png, shared-0.png, not encoded."]


@pytest.fixture(autouse=True)
def plain_picture(server: Server) -> None:
    """Put a picture of the model's size without tokens into the input folder."""
    with Image.open(server.base / "input" / "landscape.png") as picture:
        picture.convert("RGB").resize((64, 64)).save(server.base / "input" / "landscape-64.png")


def test_tokens_are_there_although_the_drawing_came_from_the_cache(client: Client, server: Server) -> None:
    graph, ours, _, _ = drawn(client, seed=6)
    graph[ours]["inputs"]["filename_prefix"] = "shared/later"
    run = client.run(graph)
    draw = next(name for name, node in graph.items() if node["class_type"] == "JanusDraw")
    assert draw in run.cached
    [path] = saved_files(server, run, ours)
    with Image.open(path) as picture:
        assert "janus_image_tokens" in picture.text


def changed_pixel(path: Path, target: Path) -> None:
    kept = PngInfo()
    with Image.open(path) as picture:
        for key, value in picture.text.items():
            kept.add_text(key, value)
        picture.putpixel((3, 3), (255, 0, 255))
        picture.save(target, pnginfo=kept)


def test_an_edited_picture_that_kept_its_notes_is_encoded(client: Client, server: Server) -> None:
    _, ours, _, run = drawn(client, seed=7)
    [path] = saved_files(server, run, ours)
    changed_pixel(path, server.base / "input" / "edited.png")
    with Image.open(server.base / "input" / "edited.png") as picture:
        picture.convert("RGB").save(server.base / "input" / "edited-without.png")
    tokens, told, node = encoded(client, server, "edited.png")
    assert remarks(told, node) == []
    assert np.array_equal(tokens, encoded(client, server, "edited-without.png")[0])


def test_damaged_tokens_are_remarked_on_and_the_picture_is_encoded(client: Client, server: Server) -> None:
    notes = PngInfo()
    notes.add_text("janus_image_tokens", "{}")
    with Image.open(server.base / "input" / "landscape-64.png") as picture:
        picture.save(server.base / "input" / "damaged-note.png", pnginfo=notes)
    tokens, told, node = encoded(client, server, "damaged-note.png")
    [said] = remarks(told, node)
    assert 'damaged-note.png" cannot be read' in said
    assert np.array_equal(tokens, encoded(client, server, "landscape-64.png")[0])


def test_pictures_and_tokens_must_be_as_many(client: Client) -> None:
    graph = Graph()
    draw = graph.add("JanusDraw", model=graph.load())
    graph.add("JanusSavePictures", images=graph.made("pattern", count=2), image_tokens=[draw, 1])
    run = client.run(graph)
    assert run.error is not None
    assert "There are 2 pictures and image tokens of 1" in run.error["exception_message"]


def test_what_the_page_gets_is_the_file(client: Client) -> None:
    _, ours, _, run = drawn(client, filename_prefix="shared/%width%x%height%")
    [file] = run.outputs[ours]["images"]
    assert file["filename"].startswith("64x64_0")
    content = client.get_bytes("/view", **file)
    assert Image.open(io.BytesIO(content)).size == (64, 64)
