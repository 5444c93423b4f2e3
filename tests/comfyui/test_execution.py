"""Batches, lists and ComfyUI's cache: as many results as pictures, and nothing computed twice."""

import numpy as np
import pytest
from comfy_client import Client, Run
from comfy_server import Server
from conftest import CoreResults
from graphs import Graph


def finished(client: Client, graph: Graph) -> Run:
    """Run a prompt that must succeed."""
    run = client.run(graph)
    assert run.error is None, run.error
    return run


@pytest.mark.parametrize("count", [3, 17])
def test_a_batch_gives_one_caption_per_picture(
    client: Client, graph: Graph, core: CoreResults, count: int
) -> None:
    node = graph.add("JanusCaption", model=graph.load(), image=graph.made("pattern", count=count))
    assert finished(client, graph).answers(node) == core.texts[f"caption {count}"]


def test_captions_that_were_cut_off_say_so_on_the_node(client: Client, graph: Graph) -> None:
    pictures = graph.made("pattern", count=2)
    node = graph.add("JanusCaption", model=graph.load(), image=pictures, max_new_tokens=2)
    shown = finished(client, graph).shown(node)
    assert [text.rpartition("\n")[2] for text in shown] == ["(cut off at 2 tokens: raise max_new_tokens)"] * 2


def test_pictures_of_a_batch_are_those_of_following_seeds(client: Client, graph: Graph) -> None:
    model = graph.load()
    batch = graph.saved([graph.add("JanusDraw", model=model, seed=40, batch_size=3), 0])
    alone = graph.saved([graph.add("JanusDraw", model=model, seed=42), 0])
    run = finished(client, graph)
    off = client.pictures(run, batch)[2].astype(int) - client.pictures(run, alone)[0]
    assert np.abs(off).max() <= 1


def test_a_list_of_different_sizes_is_captioned_one_by_one(
    client: Client, graph: Graph, core: CoreResults
) -> None:
    pictures = [graph.add("JanusTestPictureList"), 0]
    node = graph.add("JanusCaption", model=graph.load(), image=pictures)
    assert finished(client, graph).answers(node) == core.texts["caption list"]


def test_captions_arrive_at_the_next_node_one_by_one(client: Client, graph: Graph, core: CoreResults) -> None:
    model = graph.load()
    caption = graph.add("JanusCaption", model=model, image=graph.made("pattern", count=3))
    shown = graph.saved([graph.add("JanusDraw", model=model, prompt=[caption, 0]), 0])
    assert len(client.pictures(finished(client, graph), shown)) == 3


def test_a_list_of_different_sizes_is_encoded_at_the_models_size(client: Client, graph: Graph) -> None:
    model = graph.load()
    encode = graph.add("JanusEncodeImage", model=model, image=[graph.add("JanusTestPictureList"), 0])
    shown = graph.saved([graph.add("JanusDecodeTokens", model=model, image_tokens=[encode, 0]), 0])
    assert client.pictures(finished(client, graph), shown).shape == (4, 64, 64, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (53, 97), (64, 64), (500, 500)])
def test_pictures_of_any_size_are_read(client: Client, graph: Graph, height: int, width: int) -> None:
    model, picture = graph.load(), graph.made("pattern", height=height, width=width)
    node = graph.add("JanusCaption", model=model, image=picture)
    encode = graph.add("JanusEncodeImage", model=model, image=picture)
    shown = graph.saved([graph.add("JanusDecodeTokens", model=model, image_tokens=[encode, 0]), 0])
    run = finished(client, graph)
    assert len(run.answers(node)[0]) > 1
    assert client.pictures(run, shown).shape == (1, 64, 64, 3)


def test_a_prompt_may_leave_out_all_that_has_a_default(client: Client, graph: Graph) -> None:
    """Core fills no defaults in prompts sent by API: they come from the nodes, the same as the page's."""
    required = {"model", "image", "image_tokens", "prompt", "question"}
    pairs: list[tuple[str, ...]] = []
    for is_bare in (False, True):
        model = graph.load()
        nodes = {
            "JanusCaption": {"image": graph.picture("landscape.png"), "style": "detailed"},
            "JanusAsk": {"image": graph.picture("landscape.png"), "question": "What is this?"},
            "JanusDraw": {"prompt": "a red circle"},
            "JanusEncodeImage": {"image": graph.picture("landscape.png")},
        }
        added = {}
        for kind, inputs in nodes.items():
            added[kind] = graph.add(kind, model=model, **inputs)
            sent = graph[added[kind]]["inputs"]
            sent |= {"max_new_tokens": 512} if "max_new_tokens" in sent else {}
            if is_bare:
                graph[added[kind]]["inputs"] = {name: sent[name] for name in sent if name in required}
        decode = graph.add("JanusDecodeTokens", model=model, image_tokens=[added["JanusEncodeImage"], 0])
        pairs.append(
            (
                added["JanusCaption"],
                added["JanusAsk"],
                graph.saved([added["JanusDraw"], 0]),
                graph.saved([decode, 0]),
            )
        )
    run = finished(client, graph)
    for full, bare in zip(*(texts[:2] for texts in pairs), strict=True):
        assert run.answers(bare) == run.answers(full)
    for full, bare in zip(*(saved[2:] for saved in pairs), strict=True):
        assert np.array_equal(client.pictures(run, bare), client.pictures(run, full))


def everything(graph: Graph) -> dict[str, str]:
    """Add one of each node that computes; returns their ids by kind."""
    model, picture = graph.load(), graph.picture("landscape.png")
    draw = graph.add("JanusDraw", model=model, seed=60)
    encode = graph.add("JanusEncodeImage", model=model, image=picture)
    decode = graph.add("JanusDecodeTokens", model=model, image_tokens=[encode, 0])
    return {
        "load": model[0],
        "draw": draw,
        "encode": encode,
        "decode": decode,
        "caption": graph.add("JanusCaption", model=model, image=picture),
        "ask": graph.add("JanusAsk", model=model, image=picture),
        "drawn": graph.saved([draw, 0]),
        "decoded": graph.saved([decode, 0]),
    }


def test_nothing_is_computed_again_without_a_change(client: Client, graph: Graph) -> None:
    nodes = everything(graph)
    finished(client, graph)
    run = finished(client, graph)
    assert set(nodes.values()) <= run.cached
    assert set(run.executed).isdisjoint(nodes.values())


def test_another_seed_redraws_only_the_drawing(client: Client, graph: Graph) -> None:
    nodes = everything(graph)
    finished(client, graph)
    graph[nodes["draw"]]["inputs"]["seed"] = 61
    run = finished(client, graph)
    assert set(run.executed) & set(nodes.values()) == {nodes["draw"], nodes["drawn"]}


def test_texts_are_told_again_from_the_cache(client: Client, graph: Graph) -> None:
    nodes = everything(graph)
    first = finished(client, graph)
    assert finished(client, graph).answers(nodes["ask"]) == first.answers(nodes["ask"])


def loads(server: Server) -> int:
    """Count how often a model was made ready."""
    return server.log().count("Janus: janus-tiny ready")


def test_two_equal_loaders_share_the_weights(server: Server, client: Client, graph: Graph) -> None:
    client.free()
    before = loads(server)
    graph.add("JanusAsk", model=graph.load())
    graph.add("JanusCaption", model=graph.load(), image=graph.picture("landscape.png"))
    finished(client, graph)
    assert loads(server) - before == 1


def test_loaders_of_another_dtype_do_not_share(server: Server, client: Client, graph: Graph) -> None:
    client.free()
    before = loads(server)
    graph.add("JanusAsk", model=graph.load())
    graph.add("JanusAsk", model=graph.load(dtype="bfloat16"))
    finished(client, graph)
    assert loads(server) - before == 2


def test_a_model_named_by_a_link_stays_loaded(server: Server, client: Client, graph: Graph) -> None:
    node = graph.add("JanusAsk", model=graph.load(model=graph.text("janus-tiny")))
    first = finished(client, graph)
    before = loads(server)
    assert finished(client, graph).answers(node) == first.answers(node)
    assert loads(server) == before


def test_a_model_replaced_on_disk_is_loaded_again(server: Server, client: Client, graph: Graph) -> None:
    folder = server.base / "models" / "janus" / "janus-replaced"
    folder.mkdir()
    for file in (server.base / "models" / "janus" / "janus-tiny").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    graph.add("JanusAsk", model=graph.load(model="janus-replaced"))
    finished(client, graph)
    shard = folder / "pytorch_model-00001-of-00002.bin"
    shard.with_suffix(".new").write_bytes(shard.read_bytes())
    shard.with_suffix(".new").replace(shard)
    finished(client, graph)
    assert server.log().count("Janus: janus-replaced ready") == 2
