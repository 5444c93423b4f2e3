"""What a person sees while a node works: progress, the picture as it grows, the text as it is written."""

import io
import itertools

import numpy as np
import pytest
from comfy_client import Client, Run
from comfy_server import ComfyUI, Server
from conftest import Drawing
from graphs import Graph
from PIL import Image

GREY, GREY_SLACK = 127, 4  # JPEG
TINY_CELLS, GRID = 16, 24
# The tiny model writes on and on with the seeds of these tests; each is used once, since a cached text is not
# written again.
LONG = {"temperature": 1.0, "max_new_tokens": 400}


def finished(client: Client, graph: Graph) -> Run:
    """Run a prompt that must succeed."""
    run = client.run(graph)
    assert run.error is None, run.error
    return run


def cells(preview: Image.Image, side: int) -> np.ndarray:
    """Return the middle colour of every cell of a preview: (side * side, 3)."""
    pixels = np.asarray(preview).astype(int)
    middles = [int((index + 0.5) * preview.height / side) for index in range(side)]
    return pixels[np.ix_(middles, middles)].reshape(-1, 3)


def is_grey(colours: np.ndarray) -> np.ndarray:
    return (np.abs(colours - GREY) <= GREY_SLACK).all(axis=-1)


def test_drawing_tells_its_progress_up_to_the_last_token(client: Client, graph: Graph) -> None:
    draw = graph.add("JanusDraw", model=graph.load(), seed=70, batch_size=3)
    graph.saved([draw, 0])
    progress = finished(client, graph).progress_of(draw)
    assert progress[0] == (1, TINY_CELLS)
    assert progress[-1] == (TINY_CELLS, TINY_CELLS)
    assert progress == sorted(progress)


def test_long_drawing_tells_its_progress_often(drawing: Drawing) -> None:
    done = [done for done, total in drawing.run.progress_of(drawing.draw) if total == GRID * GRID]
    assert max(np.diff(done)) <= GRID * GRID / 8
    assert done[-1] == GRID * GRID


def test_answering_tells_its_progress_token_by_token(client: Client, graph: Graph) -> None:
    node = graph.add("JanusAsk", model=graph.load(), seed=30, **LONG)
    progress = finished(client, graph).progress_of(node)
    assert progress[0] == (1, LONG["max_new_tokens"])
    assert progress[-1] == (LONG["max_new_tokens"], LONG["max_new_tokens"])
    assert len(progress) > 3


def test_cells_not_yet_drawn_are_grey_and_drawn_ones_stay(drawing: Drawing) -> None:
    counts = []
    for preview in drawing.run.previews[:-1]:
        grey = is_grey(cells(preview, GRID))
        last = int(np.flatnonzero(~grey).max(initial=-1))
        counts.append(last + 1)
        assert (~grey[: last + 1]).mean() > 0.5
    assert counts == sorted(counts)
    assert counts[0] < GRID * 4
    assert counts[-1] > GRID * GRID / 2


def test_previews_are_rough_pictures_of_the_result(drawing: Drawing) -> None:
    """A cell's colour in the preview is nearer to its own in the picture than to another's, on average."""
    shown = cells(drawing.run.previews[-2], GRID).astype(float)
    drawn = ~is_grey(shown)
    means = drawing.picture.reshape(GRID, 16, GRID, 16, 3).mean(axis=(1, 3)).reshape(-1, 3)
    own = np.abs(shown - means)[drawn].mean()
    other = np.abs(shown - np.roll(means, GRID * GRID // 2, axis=0))[drawn].mean()
    assert own < other


def as_preview(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture as a page sees it in a preview: in its size, through JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR).save(file, "JPEG", quality=95)
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def distance(preview: Image.Image, picture: np.ndarray) -> float:
    return float(np.abs(np.asarray(preview) - as_preview(picture, preview.size)).mean())


def test_last_preview_is_the_finished_picture(drawing: Drawing) -> None:
    assert distance(drawing.run.previews[-1], drawing.picture) < 0.5
    assert distance(drawing.run.previews[-2], drawing.picture) > 5


def test_previews_belong_to_the_drawing_node(drawing: Drawing) -> None:
    assert set(drawing.run.preview_nodes) == {drawing.draw}


def test_previews_come_at_most_four_a_second(drawing: Drawing) -> None:
    assert 2 < len(drawing.run.previews) <= 4 * drawing.run.elapsed_s + 2


def test_last_preview_of_a_batch_is_its_first_picture(client: Client, graph: Graph) -> None:
    shown = graph.saved([graph.add("JanusDraw", model=graph.load(), seed=71, batch_size=3), 0])
    run = finished(client, graph)
    first, *others = (distance(run.previews[-1], picture) for picture in client.pictures(run, shown))
    assert first < 0.5
    assert min(others) > 5


def test_old_pages_get_previews_too(server: Server, graph: Graph) -> None:
    graph.saved([graph.add("JanusDraw", model=graph.load(), seed=72), 0])
    with Client(server.url, takes_metadata=False) as old:
        run = finished(old, graph)
    assert len(run.previews) >= 2
    assert run.preview_nodes == []


def test_no_preview_when_the_server_has_them_off(crowded_client: Client, graph: Graph) -> None:
    draw = graph.add("JanusDraw", model=graph.load(), seed=73)
    graph.saved([draw, 0])
    run = finished(crowded_client, graph)
    assert run.previews == []
    assert run.progress_of(draw)[-1] == (TINY_CELLS, TINY_CELLS)


@pytest.mark.parametrize(("method", "has_previews"), [("none", False), ("auto", True)])
def test_preview_method_of_a_prompt_is_obeyed(
    comfy: ComfyUI, server: Server, crowded_server: Server, graph: Graph, method: str, has_previews: bool
) -> None:
    if comfy.numbers < (0, 8):
        pytest.skip(f"ComfyUI {comfy.version} knows no preview method per prompt, only the server's")
    graph.saved([graph.add("JanusDraw", model=graph.load(), seed=74), 0])
    with Client((crowded_server if has_previews else server).url) as client:
        run = client.run(graph, preview_method=method)
    assert run.error is None
    assert bool(run.previews) is has_previews


def test_text_appears_while_it_is_written(client: Client, graph: Graph) -> None:
    node = graph.add("JanusAsk", model=graph.load(), seed=33, **LONG)
    run = finished(client, graph)
    texts = run.texts_of(node)
    assert len(texts) > 3
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert texts[0] != texts[-1]
    assert [texts[-1]] == run.shown(node)


def test_text_appears_before_the_node_has_finished(client: Client, graph: Graph) -> None:
    node = graph.add("JanusAsk", model=graph.load(), seed=36, **LONG)
    order = finished(client, graph).order
    assert order.index(("text", node)) < order.index(("executed", node))


def test_texts_of_a_batch_are_shown_as_paragraphs(client: Client, graph: Graph) -> None:
    pictures = graph.made("pattern", count=3)
    node = graph.add("JanusCaption", model=graph.load(), image=pictures, suffix=".", seed=34)
    run = finished(client, graph)
    assert run.texts_of(node)[-1] == "\n\n".join(run.shown(node))


def test_text_goes_only_to_the_page_that_asked(server: Server, client: Client, graph: Graph) -> None:
    graph.add("JanusAsk", model=graph.load(), seed=38, **LONG)
    its_own = Graph()
    its_own.load()  # so that the two questions have different ids
    node = its_own.add("JanusAsk", model=its_own.load(), seed=36)
    with Client(server.url) as other:
        finished(client, graph)
        run = finished(other, its_own)
    assert {name for name, _ in run.texts} == {node}
