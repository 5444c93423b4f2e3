"""Load Janus with a published model that is not installed: what a person sees, Cancel, and going on."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_client import Client, Run
from comfy_server import ComfyUI, Server
from conftest import GOLDEN
from graphs import Graph

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from fake_hub import FakeHub, Fault, files_of

NAME = "Janus-Pro-1B"
REPOSITORY = "deepseek-community/Janus-Pro-1B"
WEIGHTS = "model.safetensors"
CANCEL_S = 1.0


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub() as served:
        served.add(REPOSITORY, files_of(GOLDEN / "janus-tiny-hf") | {"modeling.py": b"import os"})
        yield served


@pytest.fixture(scope="module")
def online_server(comfy: ComfyUI, hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for which the hub is the one on this computer."""
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1,localhost"}
    base = tmp_path_factory.mktemp("comfy") / "online-server"
    made = Server(comfy, base, [], further_environment=environment)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def online(online_server: Server) -> Iterator[Client]:
    with Client(online_server.url) as made:
        yield made


@pytest.fixture
def folder(online_server: Server) -> Path:
    return online_server.base / "models" / "janus" / NAME


def drawing() -> tuple[Graph, str]:
    """Return a prompt that loads the published model and draws, and the loading node."""
    graph = Graph()
    load = graph.add("JanusLoad", model=NAME)
    draw = graph.add("JanusDraw", model=[load, 0])
    graph.saved([draw, 0])
    return graph, load


def test_listing_asks_nobody_and_offers_bare_names(online: Client, hub: FakeHub) -> None:
    for _ in range(2):
        node = online.get("/object_info/JanusLoad")["JanusLoad"]
    choices = node["input"]["required"]["model"]
    names = choices[0] if isinstance(choices[0], list) else choices[1]["options"]
    assert {NAME, "Janus-Pro-7B", "Janus-1.3B"} <= set(names)
    assert hub.asked == []


def test_a_failure_names_size_folder_and_cause(online: Client, hub: FakeHub, folder: Path) -> None:
    hub.faults["api"] = Fault(is_page=True, times=1)
    graph, load = drawing()
    run = online.run(graph)
    assert run.error is not None
    assert run.error["node_id"] == load
    message = run.error["exception_message"]
    assert f'"{NAME}" is not installed, and its download (4.2 GB into "{folder}") did not succeed' in message
    assert "A web page came instead of" in message
    assert not folder.exists()


def test_cancel_is_felt_at_once_and_keeps_what_arrived(online: Client, hub: FakeHub, folder: Path) -> None:
    hub.bytes_per_second = 300_000
    graph, load = drawing()
    part = folder / f"{WEIGHTS}.part"
    cancelled_s: list[float] = []

    def cancel(run: Run) -> None:
        if not cancelled_s and part.exists() and part.stat().st_size > 500_000:
            cancelled_s.append(time.monotonic())
            online.interrupt()

    run = online.follow(online.submit(graph), cancel)
    assert time.monotonic() - cancelled_s[0] < CANCEL_S
    assert run.interrupted
    assert 500_000 < part.stat().st_size < 1_900_000
    first, *_, last = run.texts_of(load)
    assert first.startswith(f"{NAME} is not installed yet. Downloading 0.00 GB from {REPOSITORY} into ")
    assert f'into "{folder}"' in first
    assert f'What has arrived is kept in "{folder}"; run again to go on.' in last


def test_the_next_run_goes_on_shows_its_pace_and_draws(online: Client, hub: FakeHub, folder: Path) -> None:
    there = (folder / f"{WEIGHTS}.part").stat().st_size
    graph, load = drawing()
    run = online.run(graph)
    assert run.error is None, run.error
    assert run.status == "success"
    assert [asked for name, asked in hub.asked if name == WEIGHTS] == [None, f"bytes={there}-"]
    assert (folder / WEIGHTS).read_bytes() == hub.repositories[REPOSITORY][WEIGHTS]
    texts = run.texts_of(load)
    assert any(" kB/s, " in text and text.endswith(" s left") for text in texts)
    assert texts[-1] == f'{NAME} is installed in "{folder}".'
    done = [done for done, _ in run.progress_of(load)]
    assert len(done) > 4
    assert not (folder / "modeling.py").exists()


def test_an_installed_model_asks_nobody(online: Client, hub: FakeHub, folder: Path) -> None:
    asked = len(hub.asked)
    graph, load = drawing()
    for _ in range(2):
        run = online.run(graph)
        assert run.error is None
    assert len(hub.asked) == asked
    assert load in run.cached


def test_a_changed_model_is_named(online: Client, folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"more")
    graph, load = drawing()
    run = online.run(graph)
    assert run.error is not None
    assert run.error["node_id"] == load
    assert "changed or damaged since" in run.error["exception_message"]
