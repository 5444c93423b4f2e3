"""Janus Score and Janus Choose on a real ComfyUI: what goes on, in which order, and what they cannot use."""

from typing import Any

import numpy as np
import pytest
from comfy_client import Client, Run
from graphs import Graph, Link
from test_bad_input import failure

LINES = ["red", "a blue house", "green"]


def numbers(run: Run, previews: list[str]) -> list[list[float]]:
    return [[float(text) for text in run.answers(node)] for node in previews]


def shown(graph: Graph, node: str, *outputs: int) -> list[str]:
    return [graph.add("PreviewAny", source=[node, output]) for output in outputs]


def test_the_best_pictures_go_on_with_scores_and_tokens(client: Client) -> None:
    graph = Graph()
    model, pictures = graph.load(), graph.made("pattern", count=3)
    encode = graph.add("JanusEncodeImage", model=model, image=pictures)
    every = graph.add("JanusScore", model=model, image=pictures)
    best = graph.add("JanusScore", model=model, image=pictures, image_tokens=[encode, 0], keep_best=2)
    more = graph.add("JanusScore", model=model, image=pictures, keep_best=9)
    source, kept = graph.saved(pictures), graph.saved([best, 0])
    decoded = [
        graph.saved([graph.add("JanusDecodeTokens", model=model, image_tokens=tokens), 0])
        for tokens in ([encode, 0], [best, 3])
    ]
    previews = [*shown(graph, every, 1, 2), *shown(graph, best, 1, 2), *shown(graph, more, 1)]
    run = client.run(graph)
    assert run.error is None
    scores, order, best_scores, best_order, more_scores = numbers(run, previews)
    assert scores == sorted(scores, reverse=True) == more_scores
    assert (best_scores, best_order) == (scores[:2], order[:2])
    places = [int(place) for place in best_order]
    assert np.array_equal(client.pictures(run, kept), client.pictures(run, source)[places])
    all_decoded, best_decoded = (client.pictures(run, node) for node in decoded)
    assert np.array_equal(best_decoded, all_decoded[places])
    told = run.answers(best)
    assert [text.split()[:3] for text in told] == [
        [f"{score:.3f}", "picture", str(place + 1)] for score, place in zip(best_scores, places, strict=True)
    ]


def test_a_picture_scores_in_a_batch_as_alone(client: Client) -> None:
    graph = Graph()
    model, pictures = graph.load(), graph.made("pattern", count=3)
    together = graph.add("JanusScore", model=model, image=pictures)
    singles: list[Link] = [
        [graph.add("ImageFromBatch", image=pictures, batch_index=place, length=1), 0] for place in range(3)
    ]
    alone = [graph.add("JanusScore", model=model, image=single) for single in singles]
    previews = shown(graph, together, 1, 2)
    previews += [preview for node in alone for preview in shown(graph, node, 1)]
    scores, order, *single = numbers(client.run(graph), previews)
    assert [single[int(place)][0] for place in order] == pytest.approx(scores, rel=1e-4)


def test_one_of_the_lines_comes_out_for_each_picture(client: Client) -> None:
    graph = Graph()
    node = graph.add(
        "JanusChoose", model=graph.load(), image=graph.made("pattern", count=3),
        choices="red\n a blue house \ngreen\n",
    )  # fmt: skip
    previews = shown(graph, node, 0, 1, 2)
    run = client.run(graph)
    assert run.error is None
    texts = run.answers(previews[0])
    indices, shares = numbers(run, previews[1:])
    assert texts == [LINES[int(index)] for index in indices]
    assert len(shares) == 9
    for picture, index in enumerate(indices):
        of_picture = shares[3 * picture : 3 * picture + 3]
        assert sum(of_picture) == pytest.approx(1)
        assert of_picture[int(index)] == max(of_picture)
    assert [text.rpartition(" (")[0] for text in run.answers(node)] == texts


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no prompt": ("JanusScore", {"prompt": " "}, "There is no prompt to score by"),
    "no place for the prompt": ("JanusScore", {"question": "Is it sharp?"}, "has no place for the prompt"),
    "no choices": ("JanusChoose", {"choices": "\n"}, "There are no choices"),
    "one choice": ("JanusChoose", {"choices": "red"}, "There is 1 choice"),
    "an empty line": ("JanusChoose", {"choices": "red\n\nblue"}, "Choice 2 is empty"),
    "the same twice": ("JanusChoose", {"choices": "red\nblue\nred "}, '"red" comes 2 times'),
    "no question": ("JanusChoose", {"question": ""}, "question is empty"),
}


@pytest.mark.parametrize(("kind", "inputs", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_answered(client: Client, kind: str, inputs: dict[str, Any], message: str) -> None:
    graph = Graph()
    node = graph.add(kind, model=graph.load(), image=graph.made("pattern"), **inputs)
    assert message in failure(client, graph, node)


def test_image_tokens_of_other_pictures_are_refused(client: Client) -> None:
    graph = Graph()
    model = graph.load()
    encode = graph.add("JanusEncodeImage", model=model, image=graph.made("pattern", count=3))
    node = graph.add(
        "JanusScore", model=model, image=graph.made("pattern", count=2), image_tokens=[encode, 0]
    )
    assert "image tokens of 3 pictures for 2" in failure(client, graph, node)


def test_tokens_that_are_not_there_stop_what_wants_them(client: Client) -> None:
    graph = Graph()
    model = graph.load()
    score = graph.add("JanusScore", model=model, image=graph.made("pattern"))
    decode = graph.add("JanusDecodeTokens", model=model, image_tokens=[score, 3])
    graph.saved([decode, 0])
    run = client.run(graph)
    assert run.answers(score)
    assert run.error is not None
    assert 'connected to "image_tokens"' in run.error["exception_message"]
