"""`download` as a process of its own, against a hub on this computer: stopped, gone on, refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import GOLDEN

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from fake_hub import FakeHub, Fault, files_of

NAME = "Janus-Pro-1B"
REPOSITORY = "deepseek-community/Janus-Pro-1B"
WEIGHTS = "model.safetensors"
MIB = 2**20


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as served:
        served.add(REPOSITORY, files_of(GOLDEN / "janus-tiny-hf"))
        yield served


class Download:
    """Starts `janus download` with the hub's address in the environment, as a person sets it."""

    def __init__(self, hub: FakeHub, into: Path) -> None:
        self.folder = into / NAME
        self._command = [sys.executable, "-m", "janus_core", "download", NAME, "--into", str(into)]
        ours = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost"}
        self._environment = os.environ | ours | {"HF_HOME": str(into / "home")}
        self._environment.pop("HF_TOKEN", None)

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        inherited = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return subprocess.Popen(
                [*self._command, *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self._environment | environment,
            )
        finally:
            signal.signal(signal.SIGINT, inherited)

    def run(self, *options: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*options, **environment)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def there(self) -> int:
        """Return how many bytes of the weights have arrived."""
        part = self.folder / f"{WEIGHTS}.part"
        return part.stat().st_size if part.exists() else 0


@pytest.fixture
def download(hub: FakeHub, tmp_path: Path) -> Download:
    return Download(hub, tmp_path)


def wait_for(download: Download, wanted: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while download.there() < wanted:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_large(hub: FakeHub, size_mib: int) -> bytes:
    """Make the weights large, and the line as fast as a good one at home."""
    content = b"".join(random.Random(number).randbytes(MIB) for number in range(size_mib))
    hub.repositories[REPOSITORY][WEIGHTS] = content
    hub.bytes_per_second = 50e6
    return content


def test_a_model_is_fetched_and_its_folder_printed(hub: FakeHub, download: Download) -> None:
    code, out, err = download.run()
    assert (code, out) == (0, f"{download.folder}\n"), err
    assert f"0.00 of 0.00 GB to fetch from {REPOSITORY} (commit 4b1dface)" in err
    assert (download.folder / WEIGHTS).read_bytes() == hub.repositories[REPOSITORY][WEIGHTS]


def test_json_says_what_came(hub: FakeHub, download: Download) -> None:
    code, out, _ = download.run("--json", "--quiet")
    told = json.loads(out)
    assert code == 0
    assert (told["model"], told["repository"]) == (NAME, REPOSITORY)
    assert (
        told["bytes"]
        == told["fetched_bytes"]
        == sum(len((download.folder / f).read_bytes()) for f in told["files"])
    )
    assert json.loads(download.run("--json")[1])["fetched_bytes"] == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_download_stopped_half_way_fetches_at_most_a_hundredth_twice(
    hub: FakeHub, download: Download, how: signal.Signals, record_property
) -> None:
    content = make_large(hub, 256)
    process = download.start()
    wait_for(download, len(content) // 2, process)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert ("What has arrived is kept" in err) is (how == signal.SIGINT)
    there = download.there()
    assert there >= len(content) // 2
    hub.bytes_per_second = None
    assert download.run()[0] == 0
    assert (download.folder / WEIGHTS).read_bytes() == content
    assert (WEIGHTS, f"bytes={there}-") in hub.asked
    (download.folder / WEIGHTS).unlink()  # it is large
    twice = hub.sent[WEIGHTS] / len(content) - 1
    record_property("fetched_twice", twice)
    print(f"fetched twice: {100 * twice:.2f} %")
    assert twice <= 0.01


def test_a_refusal_is_one_sentence(hub: FakeHub, download: Download) -> None:
    hub.faults[WEIGHTS] = Fault(is_page=True)
    code, out, err = download.run("--quiet", "--json")
    assert (code, out) == (1, "")
    assert err.startswith("janus: A web page came instead of")
    assert err.count("\n") == 1


def test_offline_mode_of_the_environment_is_honoured(hub: FakeHub, download: Download) -> None:
    code, _, err = download.run(HF_HUB_OFFLINE="1")
    assert code == 1
    assert "HF_HUB_OFFLINE" in err
    assert not hub.asked


def test_the_token_of_the_environment_is_sent(hub: FakeHub, download: Download) -> None:
    hub.token = "hf_secret"
    assert download.run()[0] == 1
    assert download.run(HF_TOKEN="hf_secret")[0] == 0


def test_an_unknown_name_is_wrong_usage(janus) -> None:
    code, out, err = janus("download", "Janus-Pro-2B", model=None)
    assert (code, out) == (2, "")
    assert "'Janus-Pro-1B', 'Janus-Pro-7B', 'Janus-1.3B'" in err
