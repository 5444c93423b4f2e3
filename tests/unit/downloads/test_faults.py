"""What goes wrong on the way: one sentence that says what to do, and nothing that had arrived is lost."""

from __future__ import annotations

import errno
import hashlib
import shutil
import sys
import time
from collections import Counter, namedtuple
from pathlib import Path

import pytest
from fake_hub import FakeHub, Fault
from huggingface_hub import constants

from janus_core import DownloadError, read_checkpoint
from janus_core.downloads import download, published, record
from janus_core.downloads.record import PART_SUFFIX, RECORD

from .conftest import NAME, OTHER, PREFERRED, Fetch

WEIGHTS = "model.safetensors"
HALF = 1_000_000
LOST = 2**14  # bytes of a broken connection that requests throws away; httpx hands over everything
EVERYWHERE = (WEIGHTS, "tokenizer.json", "config.json", "api")


def refusal(fetch: Fetch) -> str:
    """Return why a download was refused: one line, no more."""
    with pytest.raises(DownloadError) as refused:
        fetch()
    message = str(refused.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def part(folder: Path) -> Path:
    return folder / (WEIGHTS + PART_SUFFIX)


@pytest.fixture
def half(fetch: Fetch, hub: FakeHub, folder: Path) -> int:
    """Leave a download half-way and return how many bytes of the weights there are."""
    hub.faults[WEIGHTS] = Fault(cut_after=HALF, times=1)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(download, "_MOST_FAILURES", 1)
    try:
        assert "What has arrived is kept" in refusal(fetch)
    finally:
        monkey.undo()
    there = part(folder).stat().st_size
    assert HALF - LOST < there <= HALF
    return there


def assert_goes_on(fetch: Fetch, hub: FakeHub, folder: Path, there: int) -> None:
    """Once all is well the rest comes, and nothing but the rest."""
    hub.faults.clear()
    hub.sent = Counter()
    fetch()
    content = hub.repositories[PREFERRED][WEIGHTS]
    assert (folder / WEIGHTS).read_bytes() == content
    assert hub.sent[WEIGHTS] == len(content) - there


# the connection


@pytest.mark.parametrize("fault", [{"cut_after": 300_000}, {"status": 503}, {"status": 429}, {"status": 500}])
def test_what_passes_is_tried_again(fetch: Fetch, hub: FakeHub, folder: Path, fault: dict[str, int]) -> None:
    hub.faults[WEIGHTS] = Fault(times=3, **fault)
    fetch()
    assert (folder / WEIGHTS).read_bytes() == hub.repositories[PREFERRED][WEIGHTS]
    assert 0 <= hub.sent[WEIGHTS] - len(hub.repositories[PREFERRED][WEIGHTS]) < 3 * LOST


def test_a_connection_that_breaks_for_ever_but_brings_something_each_time_is_enough(
    fetch: Fetch, hub: FakeHub
) -> None:
    hub.faults[WEIGHTS] = Fault(cut_after=200_000)
    fetch()
    assert [name for name, _ in hub.asked].count(WEIGHTS) in (10, 11)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 401}, "correct or unset it"),
        ({"status": 403}, "accept its terms"),
        ({"status": 404}, "moved, renamed or withdrawn"),
        ({"status": 429}, "too many requests"),
        ({"status": 429, "headers": {"Retry-After": "3600"}}, "too many requests"),
        ({"status": 418}, "answers with status 418"),
        ({"status": 503}, "answers with status 503"),
        ({"is_page": True}, "A web page came instead of"),
        ({"is_loop": True}, "from one address to the next without end"),
    ],
)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_refusal_is_one_sentence_wherever_it_comes(
    fetch: Fetch, hub: FakeHub, name: str, fault: dict[str, object], said: str
) -> None:
    hub.faults[name] = Fault(**fault)  # type: ignore[arg-type]
    message = refusal(fetch)
    assert said in message
    assert (NAME if name == "api" else name) in message


@pytest.mark.parametrize(
    "fault", [{"status": 404}, {"status": 503}, {"is_page": True}, {"is_loop": True}, {"cut_after": 0}]
)
def test_a_refusal_half_way_loses_nothing(
    fetch: Fetch, hub: FakeHub, folder: Path, half: int, fault: dict[str, int]
) -> None:
    hub.faults[WEIGHTS] = Fault(**fault)
    refusal(fetch)
    assert part(folder).stat().st_size == half
    assert_goes_on(fetch, hub, folder, half)


def test_a_server_that_asks_to_wait_is_waited_for(fetch: Fetch, hub: FakeHub) -> None:
    hub.faults[WEIGHTS] = Fault(status=429, headers={"Retry-After": "1"}, times=1)
    began = time.monotonic()
    fetch()
    assert time.monotonic() - began >= 1


def test_no_network_is_said_at_once(fetch: Fetch, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "Check the connection to http://127.0.0.1:9" in refusal(fetch)


def test_a_server_that_sends_everything_again_loses_nothing(
    fetch: Fetch, hub: FakeHub, folder: Path, half: int
) -> None:
    hub.faults[WEIGHTS] = Fault(ignores_ranges=True, cut_after=1_500_000, times=1)
    fetch()
    assert (folder / WEIGHTS).read_bytes() == hub.repositories[PREFERRED][WEIGHTS]
    name, asked = hub.asked[-2]
    assert name == WEIGHTS
    assert 1_500_000 - LOST < int((asked or "").removeprefix("bytes=").removesuffix("-")) <= 1_500_000


@pytest.mark.parametrize("name", ["api", WEIGHTS])
def test_a_person_can_interrupt_a_server_that_says_nothing(fetch: Fetch, hub: FakeHub, name: str) -> None:
    hub.faults[name] = Fault(stall_after=0)
    began = time.monotonic()

    def interrupt(*_: int) -> None:
        if time.monotonic() - began > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(interrupt, on_wait=interrupt)
    assert time.monotonic() - began < 1.5


# what arrives


def test_a_wrong_checksum_costs_one_file(fetch: Fetch, hub: FakeHub, folder: Path) -> None:
    content = hub.repositories[PREFERRED][WEIGHTS]
    hub.faults[WEIGHTS] = Fault(content=content[:-1] + b"x")
    assert f'What arrived of "{WEIGHTS}" is not what was published' in refusal(fetch)
    assert not part(folder).exists()
    assert not (folder / WEIGHTS).exists()
    assert (folder / "tokenizer.json").exists()
    assert_goes_on(fetch, hub, folder, 0)


def test_a_small_file_has_a_checksum_too(fetch: Fetch, hub: FakeHub, folder: Path) -> None:
    content = hub.repositories[PREFERRED]["tokenizer.json"]
    hub.faults["tokenizer.json"] = Fault(content=b" " + content[1:])
    assert 'What arrived of "tokenizer.json" is not what was published' in refusal(fetch)


@pytest.mark.parametrize("change", [b"longer", b""])
def test_another_size_is_noticed_before_it_is_written(
    fetch: Fetch, hub: FakeHub, folder: Path, half: int, change: bytes
) -> None:
    hub.faults[WEIGHTS] = Fault(content=hub.repositories[PREFERRED][WEIGHTS][:-1] + change)
    assert "is not what was published: the server has" in refusal(fetch)
    assert part(folder).stat().st_size == half


def test_a_part_that_is_too_long_is_begun_anew(fetch: Fetch, hub: FakeHub, folder: Path, half: int) -> None:
    with part(folder).open("ab") as file:
        file.write(bytes(2_000_000))
    assert_goes_on(fetch, hub, folder, 0)


def test_a_part_damaged_on_the_disk_is_noticed(fetch: Fetch, hub: FakeHub, folder: Path, half: int) -> None:
    with part(folder).open("r+b") as file:
        file.write(b"damaged")
    assert "is not what was published" in refusal(fetch)
    assert_goes_on(fetch, hub, folder, 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"not json", "answered strangely"),
        (b"[]", "answered strangely"),
        (b'{"sha": "x", "siblings": [{"rfilename": "config.json"}]}', "has no weights"),
        (b'{"sha": "x", "siblings": [{"rfilename": "model.safetensors"}]}', "has no config.json"),
        (b'{"siblings": null}', "answered strangely"),
        (b'{"sha": "x", "siblings": [{"rfilename": "../model.safetensors"}]}', "has no weights"),
    ],
)
def test_a_strange_list_of_files_is_refused(fetch: Fetch, hub: FakeHub, answer: bytes, said: str) -> None:
    hub.faults["api"] = Fault(content=answer)
    assert said in refusal(fetch)


def test_an_index_that_names_what_was_not_offered_is_refused(fetch: Fetch, hub: FakeHub) -> None:
    del hub.repositories[PREFERRED]
    del hub.repositories[OTHER]["pytorch_model-00002-of-00002.bin"]
    assert 'names 1 weight files that the repository does not have, first "pytorch_model-00002' in refusal(
        fetch
    )


def test_the_last_repositorys_answer_is_told(fetch: Fetch, hub: FakeHub) -> None:
    hub.repositories.clear()
    assert f'Cannot fetch repository "{OTHER}"' in refusal(fetch)


# the disk


def full_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Let the disk take `room` bytes of a part, in small writes, and no more."""
    open_path = Path.open

    class Part:
        left = room

        def __init__(self, file) -> None:
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def write(self, data) -> int:
            if not Part.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = self._file.write(bytes(data[: min(Part.left, 1000)]))
            Part.left -= written
            return written

    def open_part(path: Path, mode: str = "r", *others, **named):
        file = open_path(path, mode, *others, **named)
        return Part(file) if mode == "ab" and path.name.startswith(WEIGHTS) else file

    monkeypatch.setattr(Path, "open", open_part)


def test_a_disk_that_fills_up_keeps_what_arrived(
    fetch: Fetch, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full_disk(patch, 123_456)
        message = refusal(fetch)
    assert f'Cannot write into "{folder}": No space left on device' in message
    assert part(folder).read_bytes() == hub.repositories[PREFERRED][WEIGHTS][:123_456]
    assert_goes_on(fetch, hub, folder, 123_456)


def test_too_little_room_is_said_before_anything_is_fetched(
    fetch: Fetch, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    message = refusal(fetch)
    assert f"{NAME} needs 0.00 GB more" in message
    assert "has 0.00 GB free" in message
    assert [name for name, _ in hub.asked] == ["api"]


def test_a_folder_that_cannot_be_made_is_named(fetch: Fetch, folder: Path) -> None:
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("a file")
    assert f'Cannot write into "{folder}"' in refusal(fetch)


def test_errors_of_whoever_watches_pass_untouched(fetch: Fetch) -> None:
    def on_progress(done: int, total: int) -> None:
        raise BrokenPipeError(errno.EPIPE, "the terminal is gone")

    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        fetch(on_progress)


# the settings


def test_offline_mode_is_honoured(fetch: Fetch, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal(fetch)
    assert not hub.asked


def test_a_missing_library_is_named(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "needs the package huggingface_hub" in refusal(fetch)


def test_an_endpoint_that_is_none_is_named(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "mirror.example")
    assert 'HF_ENDPOINT is "mirror.example"' in refusal(fetch)


def test_the_token_goes_to_the_hub_and_not_to_the_store_it_sends_to(
    fetch: Fetch, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    assert "correct or unset it" in refusal(fetch)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.tokens_seen.clear()
    fetch()
    assert {place: token for place, token in hub.tokens_seen if place != "cdn"} == {
        "api": "Bearer hf_secret",
        "resolve": "Bearer hf_secret",
    }
    assert {token for place, token in hub.tokens_seen if place == "cdn"} == {None}


def test_an_unknown_name_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(DownloadError, match=r"Janus-Pro-1B, Janus-Pro-7B, Janus-1\.3B"):
        download.plan_download("Janus-Pro-2B", folder)


# what the record is for


def test_weights_of_another_size_are_named_and_kept(fetch: Fetch, folder: Path) -> None:
    fetch()
    (folder / WEIGHTS).write_bytes(b"mine")
    assert f'"{folder / WEIGHTS}" has 4 bytes instead of the 1,969,750 that arrived' in refusal(fetch)
    assert (folder / WEIGHTS).read_bytes() == b"mine"


def test_a_partial_download_is_named_when_it_is_loaded(folder: Path, half: int) -> None:
    with pytest.raises(
        DownloadError, match=r'not finished: 2 of 7 files are missing, first "model.safetensors"'
    ):
        read_checkpoint(folder)


def test_a_changed_download_is_named_when_it_is_loaded(fetch: Fetch, folder: Path) -> None:
    fetch()
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"more")
    with pytest.raises(DownloadError, match="changed or damaged since"):
        read_checkpoint(folder)


ORIGIN = '{"version": 1, "repository": "a/b", "commit": "c", "files": '


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"version": 2}',
        ORIGIN + "3}",
        ORIGIN + '[{"name": "../x", "size": 1, "checksum": ""}]}',
        ORIGIN + '[{"name": "x", "size": -1, "checksum": ""}]}',
    ],
)
def test_a_broken_record_is_named(fetch: Fetch, folder: Path, content: str) -> None:
    fetch()
    (folder / RECORD).write_text(content)
    assert f'Cannot read "{folder / RECORD}"' in refusal(fetch)
    (folder / RECORD).unlink()
    fetch()


def test_gits_checksum_is_gits() -> None:
    # what `git hash-object` says of a file that holds "hello\n"
    file = record.RemoteFile(name="x", size=6, checksum="ce013625030ba8dba906f756967f9e9ca394464a")
    checksum = file.new_checksum()
    checksum.update(b"hello\n")
    assert checksum.hexdigest() == file.checksum


def test_a_long_checksum_is_sha256() -> None:
    digest = hashlib.sha256(b"hello").hexdigest()
    checksum = record.RemoteFile(name="x", size=5, checksum=digest).new_checksum()
    checksum.update(b"hello")
    assert checksum.hexdigest() == digest


# which files are wanted


@pytest.mark.parametrize(
    ("offered", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["pytorch_model.bin", "training_args.bin"], ["pytorch_model.bin"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
             "model.safetensors.index.json", "pytorch_model.bin", "consolidated.safetensors"],
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors",
             "model-00002-of-00002.safetensors"],
        ),
        (
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
            ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"],
        ),
    ],
)  # fmt: skip
def test_the_better_format_is_wanted_alone(offered: list[str], weights: list[str]) -> None:
    names = published.wanted_files([*offered, "tokenizer.json", "config.json", "code.py"], "a/b")
    assert list(names) == ["tokenizer.json", *weights, "config.json"]


@pytest.mark.parametrize("model", published.PUBLISHED.values(), ids=lambda model: model.name)
def test_published_names_are_those_of_their_repositories(model: published.PublishedModel) -> None:
    assert {repository.partition("/")[2] for repository in model.repositories} == {model.name}
