"""Janus Draw on a real ComfyUI: the best of a batch; drawings that were cancelled and go on."""

import numpy as np
from comfy_client import Client
from comfy_server import Server
from graphs import Graph
from test_bad_input import failure
from test_resources import cancelled_after


def test_the_best_of_a_batch_are_pictures_of_their_seeds(client: Client) -> None:
    graph = Graph()
    node = graph.add("JanusDraw", model=graph.load(), seed=40, batch_size=8, keep_best=2)
    best = graph.saved([node, 0])
    run = client.run(graph)
    assert run.error is None
    kept = client.pictures(run, best)
    assert len(kept) == 2
    [said] = [text for text in run.texts_of(node) if text.startswith("Kept")]
    seeds = [
        int(number) for number in said.removeprefix("Kept, the best first: seed ").rstrip(".").split(", ")
    ]
    singles = Graph()
    model = singles.load()
    shown = [singles.saved([singles.add("JanusDraw", model=model, seed=seed), 0]) for seed in seeds]
    run = client.run(singles)
    for picture, single in zip(kept, shown, strict=True):
        alone = client.pictures(run, single)[0].astype(int)
        assert np.abs(alone - picture).max() <= 1  # decoding two together rounds otherwise than one


def test_more_than_the_batch_cannot_be_kept(client: Client) -> None:
    graph = Graph()
    node = graph.add("JanusDraw", model=graph.load(), batch_size=2, keep_best=3)
    graph.saved([node, 0])
    assert "keep_best is 3, but only 2 of a prompt are drawn" in failure(client, graph, node)


def test_a_cancelled_drawing_goes_on_to_the_same_picture(with_random: Server, client: Client) -> None:
    first, second = Graph(), Graph()
    draw = first.add("JanusDraw", model=first.load(model="janus-random"), seed=77)
    first.saved([draw, 0])
    run, _ = cancelled_after(client, first, draw, 300)
    assert run.interrupted
    [said] = [text for text in run.texts_of(draw) if text.startswith("Cancelled")]
    file = said.split("What was drawn is in ")[1].split(" in the output folder")[0]
    assert file.startswith("janus/unfinished_")

    model = second.load(model="janus-random")
    begun = [second.add("JanusLoadTokens", file=f"{file} [output]"), 0]
    further = second.add("JanusDraw", model=model, image_tokens=begun, seed=77)
    whole = second.add("JanusDraw", model=model, seed=77)
    shown = [second.saved([node, 0]) for node in (further, whole)]
    run = client.run(second)
    assert run.error is None
    went_on, uninterrupted = (client.pictures(run, node) for node in shown)
    assert np.array_equal(went_on, uninterrupted)
    assert run.progress_of(further)[0][0] > 300 > run.progress_of(whole)[0][0]

    decoding = Graph()
    begun = [decoding.add("JanusLoadTokens", file=f"{file} [output]"), 0]
    node = decoding.add("JanusDecodeTokens", model=decoding.load(model="janus-random"), image_tokens=begun)
    decoding.saved([node, 0])
    assert "1 of 1 pictures are not finished" in failure(client, decoding, node)
    other = Graph()
    begun = [other.add("JanusLoadTokens", file=f"{file} [output]"), 0]
    node = other.add("JanusDraw", model=other.load(), image_tokens=begun)
    other.saved([node, 0])
    assert "These image tokens were made with the codebook" in failure(client, other, node)
