"""A run of captions as a host drives it: watched, cut off, gone on with; the command line tests the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from janus_core import (
    Caption,
    CaptionRequest,
    CaptionRun,
    CaptionTask,
    CaptionWatch,
    Existing,
    Janus,
    OutputError,
    Sidecars,
    TextOptions,
    survey,
)

TASK = CaptionTask(request=CaptionRequest(text="What?"), options=TextOptions(max_new_tokens=4))


class Seen(CaptionWatch):
    """Notes what it is told, and interrupts after so many texts."""

    def __init__(self, stop_after: int = 10_000) -> None:
        self.texts: list[str] = []
        self.batches: list[list[str]] = []
        self.steps: list[tuple[int, int]] = []
        self._stop_after = stop_after

    def on_text(self, picture: Path, text: str) -> None:
        self.texts.append(picture.name)
        if len(self.texts) > self._stop_after:
            raise KeyboardInterrupt

    def on_captions(self, captions: Sequence[Caption]) -> None:
        self.batches.append([caption.picture.name for caption in captions])

    def on_step(self, done: int, total: int) -> None:
        self.steps.append((done, total))


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Image.Image]) -> Path:
    for number in range(5):
        pictures[number % 3].save(tmp_path / f"{number}.png")
    return tmp_path


def kept(existing: Existing = "skip") -> Sidecars:
    return Sidecars(".txt", existing, one_line=False)


def run_of(folder: Path, store: Sidecars, watch: CaptionWatch, task: CaptionTask = TASK) -> CaptionRun:
    return CaptionRun(task, survey([str(folder)], store).todo, store, watch)


def texts_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.txt")}


def test_a_host_sees_texts_batches_and_how_many_are_done(janus: Janus, folder: Path) -> None:
    watch = Seen()
    run_of(folder, kept(), watch).go_on(janus, 2)
    assert watch.batches == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png"]]
    assert watch.steps == [(2, 5), (4, 5), (5, 5)]
    assert set(watch.texts) == {f"{number}.png" for number in range(5)}


def test_captions_know_their_tokens(janus: Janus, folder: Path) -> None:
    run = run_of(folder, kept(), CaptionWatch())
    run.go_on(janus, 5)
    assert all(0 < caption.num_tokens <= 4 for caption in run.captions)


def test_an_interrupted_run_keeps_its_batches_and_a_new_one_goes_on(janus: Janus, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_of(folder, kept(), Seen(stop_after=9)).go_on(janus, 2)
    before = texts_in(folder)
    watch = Seen()
    run_of(folder, kept(), watch).go_on(janus, 2)
    assert 0 < len(before) < 5
    assert sum(map(len, watch.batches)) == 5 - len(before)
    assert before.items() <= texts_in(folder).items()


@pytest.mark.parametrize("existing", ["skip", "append", "overwrite"])
def test_the_same_run_goes_on_in_smaller_batches_and_does_nothing_twice(
    janus: Janus, folder: Path, existing: Existing
) -> None:
    whole = run_of(folder, kept("overwrite"), CaptionWatch())
    whole.go_on(janus, 5)
    expected = texts_in(folder)
    for path in folder.glob("*.txt"):
        path.unlink()

    watch = Seen(stop_after=9)
    run = run_of(folder, kept(existing), watch)
    with pytest.raises(KeyboardInterrupt):
        run.go_on(janus, 2)
    watch._stop_after = 10_000
    run.go_on(janus, 1)
    assert texts_in(folder) == expected
    assert sorted(name for batch in watch.batches for name in batch) == [f"{n}.png" for n in range(5)]


def test_sampled_captions_are_the_same_in_pieces(janus: Janus, folder: Path) -> None:
    task = CaptionTask(
        request=TASK.request, options=TextOptions(max_new_tokens=4, temperature=1.0, top_p=1.0), seed=5
    )
    whole = run_of(folder, kept("overwrite"), CaptionWatch(), task)
    whole.go_on(janus, 5)
    expected = texts_in(folder)
    for name in ("1.txt", "3.txt"):
        (folder / name).unlink()
    run_of(folder, kept(), CaptionWatch(), task).go_on(janus, 5)
    assert texts_in(folder) == expected


def test_a_raw_request_differs_from_one_in_the_template(janus: Janus, folder: Path) -> None:
    runs = []
    for is_raw in (False, True):
        task = CaptionTask(request=CaptionRequest(text="What?", is_raw=is_raw), options=TASK.options)
        runs.append(CaptionRun(task, [(0, folder / "0.png")], None, CaptionWatch()))
        runs[-1].go_on(janus, 1)
    assert runs[0].captions[0].text != runs[1].captions[0].text


def test_texts_beside_pictures_are_read_back(folder: Path) -> None:
    (folder / "0.txt").write_text("\ufeff a text \n", encoding="utf-8")
    assert kept().text_of(folder / "0.png") == "a text"
    assert kept().text_of(folder / "1.png") is None


def test_a_way_to_treat_texts_that_is_none_is_refused() -> None:
    with pytest.raises(OutputError, match=r'no way "replace".*skip, append, overwrite'):
        Sidecars(".txt", "replace", one_line=False)  # type: ignore[arg-type]


def test_two_pictures_of_one_stem_are_refused_before_anything_is_written(
    folder: Path, pictures: list[Image.Image]
) -> None:
    pictures[0].save(folder / "0.jpg")
    with pytest.raises(OutputError, match=r'0\.jpg" and .*0\.png" would share one \.txt'):
        survey([str(folder)], kept())
    assert texts_in(folder) == {}


def test_what_is_passed_over_is_said_in_the_words_of_the_host(folder: Path) -> None:
    (folder / "more").mkdir()
    seen = survey([str(folder)], kept(), recursive_name="recursive")
    assert seen.found.passed_over() == "passed over: 1 subfolder (recursive looks into them)"
