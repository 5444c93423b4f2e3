"""Janus Draw on a real ComfyUI: the best of a batch; drawings that were cancelled and go on."""

import numpy as np
from comfy_client import Client
from graphs import Graph
from test_bad_input import failure


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
        assert np.array_equal(client.pictures(run, single)[0], picture)


def test_more_than_the_batch_cannot_be_kept(client: Client) -> None:
    graph = Graph()
    node = graph.add("JanusDraw", model=graph.load(), batch_size=2, keep_best=3)
    graph.saved([node, 0])
    assert "keep_best is 3, but only 2 of a prompt are drawn" in failure(client, graph, node)
