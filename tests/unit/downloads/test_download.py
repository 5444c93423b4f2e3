"""A download that meets nothing: what comes, from where, and how it goes on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import COMMIT, FakeHub, Fault

from janus_core import DownloadError, read_checkpoint
from janus_core.downloads.download import plan_download, run_download
from janus_core.downloads.record import PART_SUFFIX, RECORD, read_record

from .conftest import NAME, OTHER, PREFERRED, WANTED, Fetch, silent

WEIGHTS = "model.safetensors"
LATER = "a" * 40


class StoppedByHand(Exception):  # noqa: N818
    pass


def stop_after(wanted: int):
    """Return a progress callback that interrupts once `wanted` bytes are there."""

    def on_progress(done: int, total: int) -> None:
        if done >= wanted:
            raise StoppedByHand

    return on_progress


def named(folder: Path) -> set[str]:
    """Return the files of a folder that are not the download's own."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".janus-download")}


def begin(fetch: Fetch, wanted: int = 1_000_000) -> None:
    with pytest.raises(StoppedByHand):
        fetch(stop_after(wanted))


# the double of the hub


def test_the_real_library_downloads_from_the_fake_hub(hub: FakeHub, tmp_path: Path) -> None:
    info = huggingface_hub.HfApi().model_info(PREFERRED, files_metadata=True)
    assert info.sha == COMMIT
    assert info.siblings
    lfs = {found.rfilename: found.lfs for found in info.siblings}[WEIGHTS]
    assert lfs is not None
    assert lfs.size == len(hub.repositories[PREFERRED][WEIGHTS])
    for name in (WEIGHTS, "config.json"):
        path = huggingface_hub.hf_hub_download(PREFERRED, name, local_dir=tmp_path / "theirs")
        assert Path(path).read_bytes() == hub.repositories[PREFERRED][name]


# what comes


def test_only_weights_configuration_and_tokenizer_come(fetch: Fetch, hub: FakeHub, folder: Path) -> None:
    fetch()
    assert named(folder) == WANTED
    for name in WANTED:
        assert (folder / name).read_bytes() == hub.repositories[PREFERRED][name]


def test_what_came_can_be_read(fetch: Fetch, folder: Path) -> None:
    fetch()
    assert read_checkpoint(folder).layout == "transformers"


def test_the_next_repository_is_taken_where_the_preferred_one_is_gone(
    fetch: Fetch, hub: FakeHub, folder: Path
) -> None:
    del hub.repositories[PREFERRED]
    assert fetch().record.repository == OTHER
    assert "pytorch_model-00002-of-00002.bin" in named(folder)
    assert read_checkpoint(folder).layout == "authors"


def test_the_plan_says_what_will_come_and_writes_nothing(hub: FakeHub, folder: Path) -> None:
    plan = plan_download(NAME, folder)
    sizes = [len(hub.repositories[PREFERRED][name]) for name in WANTED]
    assert plan.total_bytes == plan.missing_bytes == sum(sizes)
    assert plan.record.commit == COMMIT
    assert not folder.exists()


def test_the_configuration_comes_last(fetch: Fetch, hub: FakeHub) -> None:
    fetch()
    assert hub.asked[-1][0] == "config.json"


def test_progress_grows_from_nothing_to_everything(fetch: Fetch) -> None:
    seen: list[tuple[int, int]] = []
    plan = fetch(lambda done, total: seen.append((done, total)))
    done = [done for done, _ in seen]
    assert done[0] == 0
    assert done == sorted(done)
    assert seen[-1] == (plan.total_bytes, plan.total_bytes)


# going on


def test_an_interrupted_download_keeps_what_arrived(fetch: Fetch, folder: Path) -> None:
    begin(fetch)
    assert WEIGHTS + PART_SUFFIX in named(folder)
    assert "config.json" not in named(folder)


def test_a_download_that_goes_on_fetches_no_byte_twice(fetch: Fetch, hub: FakeHub, folder: Path) -> None:
    begin(fetch)
    there = (folder / (WEIGHTS + PART_SUFFIX)).stat().st_size
    fetch()
    assert (WEIGHTS, f"bytes={there}-") in hub.asked
    assert [name for name, _ in hub.asked].count("tokenizer.json") == 1
    assert (folder / WEIGHTS).read_bytes() == hub.repositories[PREFERRED][WEIGHTS]


def test_a_download_that_goes_on_keeps_its_commit_and_does_not_ask_for_the_newest(
    fetch: Fetch, hub: FakeHub, folder: Path
) -> None:
    begin(fetch)
    hub.faults["api"] = Fault(status=500)
    assert fetch().record.commit == COMMIT
    assert json.loads((folder / RECORD).read_text())["commit"] == COMMIT


def test_a_finished_download_needs_no_network(fetch: Fetch, hub: FakeHub) -> None:
    fetch()
    asked = len(hub.asked)
    plan = fetch()
    assert plan.missing_bytes == 0
    assert len(hub.asked) == asked


def test_a_new_download_takes_the_newest_commit(fetch: Fetch, hub: FakeHub, tmp_path: Path) -> None:
    fetch()
    hub.commits[PREFERRED] = LATER
    assert plan_download(NAME, tmp_path / "elsewhere").record.commit == LATER


def test_a_file_that_was_deleted_is_fetched_again_alone(fetch: Fetch, hub: FakeHub, folder: Path) -> None:
    fetch()
    (folder / "tokenizer.json").unlink()
    asked = len(hub.asked)
    fetch()
    assert [name for name, _ in hub.asked[asked:]] == ["tokenizer.json"]


def test_configuration_that_a_person_edited_stays(fetch: Fetch, folder: Path) -> None:
    fetch()
    (folder / "generation_config.json").write_text('{"guidance_scale": 3}')
    fetch()
    assert (folder / "generation_config.json").read_text() == '{"guidance_scale": 3}'


# what somebody else put there


def test_published_files_that_are_there_already_are_taken(fetch: Fetch, hub: FakeHub, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(hub.repositories[PREFERRED][WEIGHTS])
    fetch()
    assert WEIGHTS not in [name for name, _ in hub.asked]


@pytest.mark.parametrize("content", [b"mine", None])
def test_files_of_something_else_are_not_overwritten(
    fetch: Fetch, hub: FakeHub, folder: Path, content: bytes | None
) -> None:
    published = hub.repositories[PREFERRED][WEIGHTS]
    mine = published[:-1] + b"x" if content is None else content  # of the same size, or not
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(mine)
    with pytest.raises(DownloadError, match="is there already and is not the file of"):
        fetch()
    assert named(folder) == {WEIGHTS}
    assert (folder / WEIGHTS).read_bytes() == mine
    assert read_record(folder) is None


def test_two_downloads_into_one_folder_do_not_meet(hub: FakeHub, folder: Path) -> None:
    plan = plan_download(NAME, folder)
    messages = []

    def on_progress(done: int, total: int) -> None:
        if not messages:
            with pytest.raises(DownloadError) as refused:
                run_download(plan, silent)
            messages.append(str(refused.value))

    run_download(plan, on_progress)
    assert messages == [f'Another process is downloading into "{folder}". Wait until it is done.']
