"""What nobody should send: each gets a clear message on the right node, and the server goes on working."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comfy_client import Client, RefusedError
from comfy_server import Server
from conftest import GOLDEN
from graphs import Graph, Link
from safetensors.numpy import save_file

OUR_ERRORS = (
    "ConfigError", "CheckpointError", "PromptError", "PromptTooLongError", "ImageError", "SamplingError",
    "OutputError", "DownloadError",
)  # fmt: skip
_fresh_seeds = itertools.count(10_000)

BAD_PICTURES = {
    "empty batch": "empty batch of shape (0, 64, 64, 3)",
    "no channels": "shape (1, 64, 64, 0)",
    "five channels": "has 5 channels",
    "nan": "NaN or infinite",
    "infinite": "NaN or infinite",
    "three axes": "has shape (64, 64, 3); a batch of pictures has four axes",
    "0 to 255": "whole numbers up to",
}
BAD_MODELS = {
    "sd_xl_base_1.0.safetensors": "so it is no model in one file",
    "holiday": "has no config.json",
    "stable-diffusion": "is not a Janus model",
    "never-seen": 'There is no model folder "never-seen"',
    "Janus-Pro-7B": "is not installed, and its download (14.8 GB into",
}
BAD_MODEL_NAMES = [
    "../janus/janus-tiny", "..", ".", "", "janus-tiny/", "janus-tiny/../janus-tiny", "..\\janus\\janus-tiny",
    "C:\\janus", "./janus-tiny", "janus-tiny\0",
]  # fmt: skip
BAD_TOKEN_FILES = {
    "../outside.janus.safetensors": "There is no token file",
    "folder/../../outside.janus.safetensors": "There is no token file",
    "../outside.janus.safetensors [output]": "There is no token file",
    "..\\outside.janus.safetensors": "There is no token file",
    "missing.janus.safetensors": "There is no token file",
    "null\0.janus.safetensors": "There is no token file",
    "link.janus.safetensors": "There is no token file",
    "": "There is no token file",
    "weights.janus.safetensors": "holds no image tokens",
    "damaged.janus.safetensors": "Cannot read image tokens",
    "landscape.png": "Cannot read image tokens",
}
BAD_PREFIXES = [
    "../outside",
    "../../outside",
    "folder/../../outside",
    "landscape.txt/tokens",
    "long" * 100,
    "null\0",
]


@pytest.fixture
def works_afterwards(client: Client) -> Iterator[None]:
    """Ask something new after the test."""
    yield
    graph = Graph()
    node = graph.add("JanusAsk", model=graph.load(), seed=next(_fresh_seeds), max_new_tokens=2)
    run = client.run(graph)
    assert run.error is None
    assert run.answers(node)


pytestmark = pytest.mark.usefixtures("works_afterwards")


@pytest.fixture(scope="module")
def odd_files(server: Server) -> Path:
    """Fill the model and picture folders with what is no Janus; returns the base folder."""
    models, inputs = server.base / "models" / "janus", server.base / "input"
    weights = {"model.diffusion_model.input_blocks.0.0.weight": np.zeros((4, 4), np.float32)}
    save_file(weights, models / "sd_xl_base_1.0.safetensors")
    (models / "holiday").mkdir()
    shutil.copy(GOLDEN / "images" / "landscape.png", models / "holiday")
    (models / "stable-diffusion").mkdir()
    (models / "stable-diffusion" / "config.json").write_text('{"model_type": "unet"}', encoding="utf-8")
    save_file({"grid": np.zeros((1, 4, 4), np.int64)}, inputs / "weights.janus.safetensors")
    (inputs / "damaged.janus.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    outside = server.base / "outside.janus.safetensors"
    save_file(
        {"grid": np.zeros((1, 4, 4), np.int64)}, outside, {"format": "janus-image-tokens-1", "codebook": "x"}
    )
    (inputs / "link.janus.safetensors").symlink_to(outside)
    (inputs / "folder").mkdir()
    (server.base / "output" / "landscape.txt").write_text("a file, not a folder", encoding="utf-8")
    return server.base


def failure(client: Client, graph: Graph, node: str) -> str:
    """Run a prompt that must fail on one node with an error of ours; returns the message."""
    run = client.run(graph)
    assert run.error is not None, run.outputs
    assert run.status == "error"
    assert run.error["node_id"] == node
    module, _, name = run.error["exception_type"].rpartition(".")
    assert name in OUR_ERRORS
    assert module == "janus_core.errors"  # what the page shows people is no path of the disk
    assert node not in run.outputs
    message = str(run.error["exception_message"])
    assert len(message) > 40
    return message


def refusal(client: Client, graph: Graph, node: str) -> str:
    """Return why a value was not accepted: by core as it came in, else by our node."""
    try:
        return failure(client, graph, node)
    except RefusedError as error:
        refused = error.node_errors
    assert list(refused) == [node]
    return str(refused[node]["errors"])


def shown(graph: Graph, tokens: Link) -> str:
    """Decode tokens and save the pictures; returns the decoding node."""
    decode = graph.add("JanusDecodeTokens", model=graph.load(), image_tokens=tokens)
    graph.saved([decode, 0])
    return decode


@pytest.mark.parametrize("kind", BAD_PICTURES)
@pytest.mark.parametrize("node_kind", ["JanusCaption", "JanusAsk", "JanusEncodeImage"])
def test_unusable_picture(client: Client, graph: Graph, node_kind: str, kind: str) -> None:
    node = graph.add(node_kind, model=graph.load(), image=graph.made(kind))
    if node_kind == "JanusEncodeImage":
        shown(graph, [node, 0])
    assert BAD_PICTURES[kind] in failure(client, graph, node)


def test_unusable_further_picture_is_named(client: Client, graph: Graph) -> None:
    good, bad = graph.made("pattern"), graph.made("empty batch")
    node = graph.add("JanusAsk", model=graph.load(), image=good, image_3=bad)
    assert '"image_3"' in failure(client, graph, node)


def test_a_question_about_more_pictures_than_fit_names_the_way_out(client: Client, graph: Graph) -> None:
    node = graph.add("JanusAsk", model=graph.load(), image=graph.made("pattern", count=200))
    assert "is about 200 pictures at once; ask_each asks it about each" in failure(client, graph, node)


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize("name", BAD_MODELS)
def test_folder_that_is_no_janus(client: Client, graph: Graph, name: str) -> None:
    model = graph.load(model=graph.text(name))
    graph.add("JanusAsk", model=model)
    assert BAD_MODELS[name] in failure(client, graph, model[0])


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize("name", ["sd_xl_base_1.0.safetensors", "holiday", "stable-diffusion"])
def test_folder_that_is_no_janus_is_not_offered(client: Client, name: str) -> None:
    assert name not in str(client.get("/object_info/JanusLoad")["JanusLoad"]["input"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("dtype", 'There is no dtype "loud"'), ("residency", 'There is no residency "loud"')],
)
def test_choice_of_the_loader_that_is_not_in_the_list(
    client: Client, graph: Graph, name: str, message: str
) -> None:
    model = graph.load(**{name: graph.text("loud")})
    graph.add("JanusAsk", model=model)
    assert message in failure(client, graph, model[0])


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("JanusCaption", "style", 'There is no caption style "loud"'),
        ("JanusEncodeImage", "fit", 'Unknown fit "loud"'),
    ],
)
def test_choice_that_is_not_in_the_list(
    client: Client, graph: Graph, kind: str, name: str, message: str
) -> None:
    picture = graph.made("pattern")
    node = graph.add(kind, model=graph.load(), image=picture, **{name: graph.text("loud")})
    if kind == "JanusEncodeImage":
        shown(graph, [node, 0])
    assert message in failure(client, graph, node)


@pytest.mark.parametrize("name", BAD_MODEL_NAMES)
def test_path_as_model_name_along_a_link(client: Client, graph: Graph, name: str) -> None:
    model = graph.load(model=graph.text(name))
    graph.add("JanusAsk", model=model)
    assert "is no name of a model folder" in failure(client, graph, model[0])


@pytest.mark.parametrize("name", [*BAD_MODEL_NAMES, "never-seen"])
def test_path_as_model_name_in_the_prompt(client: Client, graph: Graph, name: str) -> None:
    model = graph.load(model=name)
    graph.add("JanusAsk", model=model)
    message = refusal(client, graph, model[0])
    assert (
        "not in" in message
        or "is no name of a model folder" in message
        or "There is no model folder" in message
    )


def test_absolute_path_as_model_name(server: Server, client: Client, graph: Graph) -> None:
    model = graph.load(model=graph.text(str(server.base / "models" / "janus" / "janus-tiny")))
    graph.add("JanusAsk", model=model)
    assert "is no name of a model folder" in failure(client, graph, model[0])


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize("name", BAD_TOKEN_FILES)
def test_unusable_token_file_along_a_link(client: Client, graph: Graph, name: str) -> None:
    node = graph.add("JanusLoadTokens", file=graph.text(name))
    shown(graph, [node, 0])
    assert BAD_TOKEN_FILES[name] in failure(client, graph, node)


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize("name", [*list(BAD_TOKEN_FILES)[:5], "/etc/hostname"])
def test_path_as_token_file_in_the_prompt(client: Client, graph: Graph, name: str) -> None:
    node = graph.add("JanusLoadTokens", file=name)
    shown(graph, [node, 0])
    message = refusal(client, graph, node)
    assert "not in" in message or "There is no token file" in message


def test_absolute_path_as_token_file(client: Client, graph: Graph, odd_files: Path) -> None:
    node = graph.add("JanusLoadTokens", file=graph.text(str(odd_files / "outside.janus.safetensors")))
    shown(graph, [node, 0])
    assert "There is no token file" in failure(client, graph, node)


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize("prefix", BAD_PREFIXES)
def test_prefix_that_cannot_be_saved_under(server: Server, client: Client, graph: Graph, prefix: str) -> None:
    before = set(server.base.parent.rglob("*.janus.safetensors"))
    draw = graph.add("JanusDraw", model=graph.load())
    node = graph.add("JanusSaveTokens", image_tokens=[draw, 1], filename_prefix=prefix)
    assert "Cannot " in failure(client, graph, node)
    assert set(server.base.parent.rglob("*.janus.safetensors")) == before


def test_absolute_prefix(server: Server, client: Client, graph: Graph, tmp_path: Path) -> None:
    draw = graph.add("JanusDraw", model=graph.load())
    node = graph.add("JanusSaveTokens", image_tokens=[draw, 1], filename_prefix=str(tmp_path / "tokens"))
    assert "inside the output folder" in failure(client, graph, node)
    assert list(tmp_path.iterdir()) == []


def test_prefix_with_backslashes_stays_inside(server: Server, client: Client, graph: Graph) -> None:
    draw = graph.add("JanusDraw", model=graph.load())
    graph.add("JanusSaveTokens", image_tokens=[draw, 1], filename_prefix="..\\..\\outside")
    client.run(graph)
    assert all(server.base / "output" in path.parents for path in server.base.parent.rglob("*outside_0*"))


@pytest.mark.usefixtures("with_random")
def test_tokens_of_another_codebook(client: Client, graph: Graph) -> None:
    draw = graph.add("JanusDraw", model=graph.load())
    other = graph.load(model="janus-random")
    node = graph.add("JanusDecodeTokens", model=other, image_tokens=[draw, 1])
    graph.saved([node, 0])
    assert "were made with the codebook" in failure(client, graph, node)


@pytest.fixture
def own_model(server: Server) -> Iterator[Path]:
    """A model folder that the test may damage."""
    folder = server.base / "models" / "janus" / "janus-own"
    shutil.copytree(GOLDEN / "janus-tiny-bin", folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_weights_deleted_between_two_runs(client: Client, graph: Graph, own_model: Path) -> None:
    model = graph.load(model=own_model.name)
    graph.add("JanusAsk", model=model)
    assert client.run(graph).error is None
    (own_model / "pytorch_model-00002-of-00002.bin").unlink()
    assert "pytorch_model-00002-of-00002.bin" in failure(client, graph, model[0])


def test_tokenizer_deleted_between_two_runs(client: Client, graph: Graph, own_model: Path) -> None:
    model = graph.load(model=own_model.name)
    graph.add("JanusAsk", model=model, question="Another question?")
    assert client.run(graph).error is None
    (own_model / "tokenizer.json").unlink()
    assert "tokenizer.json" in failure(client, graph, model[0])


def test_folder_deleted_between_two_runs(client: Client, graph: Graph, own_model: Path) -> None:
    model = graph.load(model=own_model.name)
    graph.add("JanusAsk", model=model, question="A third question?")
    assert client.run(graph).error is None
    shutil.rmtree(own_model)
    message = refusal(client, graph, model[0])
    assert "not in" in message or "There is no model folder" in message


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"ask_each": True}, "none is connected"),
        ({"question": "<image_placeholder> What is this?"}, "<image_placeholder>"),
        ({"question": " "}, "question"),
        ({"question": "word " * 2000}, "too long"),
    ],
)
def test_question_that_cannot_be_asked(client: Client, graph: Graph, inputs: dict, message: str) -> None:
    node = graph.add("JanusAsk", model=graph.load(), **inputs)
    assert message in failure(client, graph, node)


def test_prompt_too_long_to_draw(client: Client, graph: Graph) -> None:
    node = graph.add("JanusDraw", model=graph.load(), prompt="word " * 2000)
    graph.saved([node, 0])
    assert "too long" in failure(client, graph, node)


def test_prompt_of_control_tags_is_plain_text(client: Client, graph: Graph) -> None:
    tags = "<image_placeholder><begin_of_image><|User|>"
    node = graph.add("JanusDraw", model=graph.load(), prompt=tags, negative_prompt=tags)
    graph.saved([node, 0])
    assert client.run(graph).error is None
