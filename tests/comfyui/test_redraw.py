"""Janus Redraw on a real ComfyUI: both ends of its mask, and what it cannot work with."""

from typing import Any

import numpy as np
import pytest
from comfy_client import Client
from graphs import Graph, Link
from test_bad_input import failure


def mask(graph: Graph, value: float, size: int = 64) -> Link:
    return [graph.add("SolidMask", value=value, width=size, height=size), 0]


def drawn(client: Client, graph: Graph, node: str) -> np.ndarray:
    shown = graph.saved([node, 0])
    run = client.run(graph)
    assert run.error is None
    return client.pictures(run, shown)


def test_a_full_mask_equals_a_draw(client: Client) -> None:
    first, second = Graph(), Graph()
    expected = drawn(client, first, first.add("JanusDraw", model=first.load(), seed=4, batch_size=2))
    node = second.add(
        "JanusRedraw", model=second.load(), image=second.picture("landscape.png"), mask=mask(second, 1.0),
        seed=4, batch_size=2,
    )  # fmt: skip
    assert np.array_equal(drawn(client, second, node), expected)


@pytest.mark.parametrize("size", [64, 32])
def test_an_empty_mask_returns_the_pictures(client: Client, size: int) -> None:
    graph = Graph()
    picture = graph.made("pattern", count=2)
    source = graph.saved(picture)
    node = graph.add("JanusRedraw", model=graph.load(), image=picture, mask=mask(graph, 0.0, size))
    shown = graph.saved([node, 0])
    run = client.run(graph)
    assert np.array_equal(client.pictures(run, shown), client.pictures(run, source))


def test_tokens_are_redrawn_like_their_pictures(client: Client) -> None:
    graph = Graph()
    model, picture = graph.load(), graph.made("pattern")
    encode = graph.add("JanusEncodeImage", model=model, image=picture)
    half = graph.add("SolidMask", value=1.0, width=32, height=64)
    whole = graph.add(
        "MaskComposite", destination=mask(graph, 0.0), source=[half, 0], x=0, y=0, operation="add"
    )
    sources: list[dict[str, Any]] = [{"image": picture}, {"image_tokens": [encode, 0]}]
    shown = [
        graph.saved([graph.add("JanusRedraw", model=model, mask=[whole, 0], seed=3, **source), 0])
        for source in sources
    ]
    run = client.run(graph)
    from_picture, from_tokens = (client.pictures(run, node) for node in shown)
    assert np.array_equal(from_picture[:, :, :32], from_tokens[:, :, :32])
    assert not np.array_equal(from_picture[:, :, 32:], from_tokens[:, :, 32:])  # the picture's own pixels


def test_of_several_candidates_one_comes_out(client: Client) -> None:
    graph = Graph()
    model, picture = graph.load(), graph.made("pattern")
    corner = [graph.add("SolidMask", value=1.0, width=32, height=32), 0]
    part = graph.add("MaskComposite", destination=mask(graph, 0.0), source=corner, x=0, y=0, operation="add")
    shown = [
        graph.saved(
            [graph.add("JanusRedraw", model=model, image=picture, mask=[part, 0], candidates=count), 0]
        )
        for count in (1, 8)
    ]
    source = graph.saved(picture)
    run = client.run(graph)
    assert run.error is None
    one, best = (client.pictures(run, node) for node in shown)
    original = client.pictures(run, source)
    assert best.shape == one.shape == original.shape
    assert np.array_equal(best[:, 32:], original[:, 32:])
    assert not np.array_equal(best[:, :32, :32], original[:, :32, :32])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to change": ({}, "Neither is connected"),
    "an unknown fit": ({"fit": "loud"}, 'Unknown fit "loud"'),
    "more than there are": ({"count": 2, "batch_size": 3}, "2 pictures to start from, but 3"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_redrawn(client: Client, changes: dict[str, Any], message: str) -> None:
    graph = Graph()
    inputs = dict(changes)
    if changes:
        inputs["image"] = graph.made("pattern", count=inputs.pop("count", 1))
    if "fit" in inputs:
        inputs["fit"] = graph.text(inputs["fit"])
    node = graph.add("JanusRedraw", model=graph.load(), mask=mask(graph, 1.0), **inputs)
    graph.saved([node, 0])
    assert message in failure(client, graph, node)


def test_picture_and_tokens_together_are_refused(client: Client) -> None:
    graph = Graph()
    model, picture = graph.load(), graph.made("pattern")
    encode = graph.add("JanusEncodeImage", model=model, image=picture)
    node = graph.add(
        "JanusRedraw", model=model, image=picture, image_tokens=[encode, 0], mask=mask(graph, 1.0)
    )
    graph.saved([node, 0])
    assert "Both are connected" in failure(client, graph, node)


def test_a_mask_for_another_number_of_pictures_is_refused(client: Client) -> None:
    graph = Graph()
    masks = graph.add("ImageToMask", image=graph.made("pattern", count=3), channel="red")
    node = graph.add("JanusRedraw", model=graph.load(), image=graph.made("pattern", count=2), mask=[masks, 0])
    graph.saved([node, 0])
    assert "3 masks for 2 pictures" in failure(client, graph, node)
