"""The least that must work wherever the pack is installed: it loads, draws, looks and answers.

Once from this folder and once as people get it, from the registry's archive, on a ComfyUI that has nothing
else: no other pack, no model, no settings. The bundled model is what it works with.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from comfy_client import Client
from comfy_server import BUNDLED, PACK, ComfyUI, Server
from graphs import Graph

LARGEST_ARCHIVE = 12_000_000  # bytes; ten of them are the bundled model


def unpacked(folder: Path) -> Path:
    """Install the archive as a manager does: its files in a folder of the pack's name."""
    from tools.archive import write_archive

    try:
        write_archive(folder / "node.zip", PACK)
    except subprocess.CalledProcessError:
        pytest.skip("which files are tracked is known to git alone")
    assert (folder / "node.zip").stat().st_size < LARGEST_ARCHIVE
    with ZipFile(folder / "node.zip") as archive:
        archive.extractall(folder / "janus-nodes")
    return folder / "janus-nodes"


@pytest.fixture(scope="module", params=["folder", "archive"])
def bare_server(
    request: pytest.FixtureRequest, comfy: ComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bare")
    pack = PACK if request.param == "folder" else unpacked(folder)
    server = Server(comfy, folder / "base", [], pack=pack, has_page=True)
    server.start()
    yield server
    server.stop()


def test_the_pack_loads_without_a_word(bare_server: Server) -> None:
    lines = bare_server.log().splitlines()
    assert [line for line in lines if "IMPORT FAILED" in line or "Traceback" in line] == []
    assert [line for line in lines if "janus" in line.lower() and "warn" in line.lower()] == []


def test_the_page_is_there_with_what_the_pack_adds_to_it(bare_server: Server) -> None:
    with Client(bare_server.url) as client:
        assert b"<script" in client.get_bytes("/")
        assert "/extensions/janus-nodes/janus.js" in client.get("/extensions")
        assert "Draw four pictures with Janus" in client.get("/workflow_templates")["janus-nodes"]
        assert client.get_bytes("/extensions/janus-nodes/docs/JanusDraw/en.md").startswith(b"# Janus Draw")


def test_it_draws_and_answers_about_what_it_drew(bare_server: Server) -> None:
    graph = Graph()
    model = graph.load(model=BUNDLED, dtype="auto")
    draw = graph.add("JanusDraw", model=model, prompt="a red circle", seed=1, batch_size=2)
    saved = graph.saved([draw, 0])
    ask = graph.add(
        "JanusAsk", model=model, image=[draw, 0], question="What is in the picture?", ask_each=True
    )
    with Client(bare_server.url) as client:
        run = client.run(graph)
        assert run.error is None, run.error
        assert run.status == "success"
        first, second = client.pictures(run, saved)
        answers = run.answers(ask)
    assert first.shape == second.shape == (64, 64, 3)
    assert np.abs(first.astype(int) - second).max() > 0  # two seeds, two pictures
    assert min(len(np.unique(picture)) for picture in (first, second)) > 10
    assert len(answers) == 2
    assert all(len(answer) > 5 for answer in answers)
