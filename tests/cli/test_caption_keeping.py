"""What `caption` keeps: nothing finished is lost, nothing of others is touched, restarts change nothing."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from janus_core import Janus

from .conftest import PICTURES

SHORT = ("--max-new-tokens", "6")
SAMPLED = (*SHORT, "--temperature", 1, "--seed", 3, "--dtype", "float32")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(PICTURES, folder)
    return folder


def line(file, text):
    return json.dumps({"file": str(file), "text": text}, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    "content",
    ["my notes\n", "my notes", '{"a": 1}\n', '[{"file": "x"}]\n', '{"file": 3}\n', "\x00\x01\n"],
)
def test_file_that_holds_no_captions_is_refused_and_left_as_it_is(janus, pictures, tmp_path, content):
    out = tmp_path / "notes.txt"
    out.write_text(content, encoding="utf-8")
    code, printed, err = janus("caption", pictures, "--out", out, *SHORT, model=tmp_path / "no-model")
    assert (code, printed) == (1, "")
    assert "is no caption" in err
    assert out.read_text(encoding="utf-8") == content


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 12, 30])
def test_line_cut_off_anywhere_is_removed_and_others_stay(janus, pictures, tmp_path, cut):
    out, first = tmp_path / "captions.jsonl", line("gone.png", "kept").encode()
    half = line("x.png", "ééé").encode()
    out.write_bytes(first + half[: -1 - cut])
    done = [pictures / name for name in ("tiny.png", "portrait.png", "landscape.png")]
    for path in done[1:]:
        path.unlink()
    assert janus("caption", pictures, "--out", out, *SHORT)[0] == 0
    lines = out.read_bytes().splitlines(keepends=True)
    assert lines[0] == first
    assert [json.loads(entry)["file"] for entry in lines[1:]] == [f"pictures/{done[0].name}"]


def test_whole_line_without_its_end_counts_as_finished(janus, pictures, tmp_path):
    out = tmp_path / "captions.jsonl"
    out.write_text(line(pictures / "tiny.png", "mine").rstrip("\n"), encoding="utf-8")
    janus("caption", pictures / "tiny.png", pictures / "portrait.png", "--out", out, *SHORT)
    lines = out.read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[0])["text"] == "mine"
    assert json.loads(lines[1])["file"] == "pictures/portrait.png"


def test_line_separators_inside_a_caption_do_not_split_it(janus, pictures, tmp_path):
    out, entry = tmp_path / "captions.jsonl", line("gone.png", "a\u2028b\x85c")
    out.write_text(entry, encoding="utf-8")
    assert janus("caption", pictures / "tiny.png", "--out", out, *SHORT)[0] == 0
    assert out.read_bytes().startswith(entry.encode())


def test_another_spelling_of_a_path_is_the_same_picture(janus, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    janus("caption", "pictures", "--out", "c.jsonl", *SHORT)
    assert "0 captioned, 3 were there already" in janus("caption", pictures, "--out", "c.jsonl", *SHORT)[2]


@pytest.mark.parametrize("finished", [1, 2])
def test_restart_gives_the_captions_of_one_uninterrupted_run(janus, pictures, tmp_path, finished):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    janus("caption", pictures, "--out", whole, *SAMPLED)
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    cut.write_text("".join(lines[:finished]), encoding="utf-8")
    janus("caption", pictures, "--out", cut, *SAMPLED)
    assert cut.read_text(encoding="utf-8") == whole.read_text(encoding="utf-8")


def test_finished_picture_in_the_middle_does_not_shift_seeds(janus, pictures, tmp_path):
    whole, holed = tmp_path / "whole.jsonl", tmp_path / "holed.jsonl"
    janus("caption", pictures, "--out", whole, *SAMPLED)
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    holed.write_text(lines[1], encoding="utf-8")
    janus("caption", pictures, "--out", holed, *SAMPLED)
    assert sorted(holed.read_text(encoding="utf-8").splitlines(keepends=True)) == sorted(lines)


def interrupt_second_call(monkeypatch):
    answer, calls = Janus.answer, []

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(self, *arguments, **options)

    monkeypatch.setattr(Janus, "answer", interrupted)


def test_interrupted_run_keeps_finished_batches_in_the_file(janus, pictures, tmp_path, monkeypatch):
    interrupt_second_call(monkeypatch)
    out = tmp_path / "c.jsonl"
    code, printed, _ = janus("caption", pictures, "--batch-size", 1, "--out", out, *SHORT)
    assert (code, printed) == (130, "")
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1


def test_interrupted_run_has_printed_finished_batches(janus, pictures, monkeypatch):
    interrupt_second_call(monkeypatch)
    code, printed, _ = janus("caption", pictures, "--batch-size", 1, *SHORT)
    assert code == 130
    assert printed.startswith(f"{pictures / 'landscape.png'}: ")


def test_interrupted_sidecar_does_not_count_as_finished(janus, pictures, monkeypatch):
    def interrupted(self, *_, **__):
        with self.open("w", encoding="utf-8") as file:
            file.write("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    assert janus("caption", pictures, "--sidecar", *SHORT)[0] == 130
    assert {path.suffix for path in pictures.iterdir()} == {".png"}


def test_finished_sidecars_need_no_model(janus, pictures, tmp_path):
    for path in list(pictures.iterdir()):
        path.with_suffix(".txt").write_text("mine\n", encoding="utf-8")
    assert janus("caption", pictures, "--sidecar", model=tmp_path / "no-model")[0] == 0


def test_two_pictures_that_want_one_sidecar_are_named_before_the_model_is_loaded(janus, pictures, tmp_path):
    with Image.open(pictures / "tiny.png") as picture:
        picture.convert("RGB").save(pictures / "tiny.jpg")
    code, _, err = janus("caption", pictures, "--sidecar", model=tmp_path / "no-model")
    assert code == 1
    assert "tiny.jpg" in err
    assert "would share one .txt" in err


@pytest.mark.parametrize("target", [("--sidecar",), ("--out", "c.jsonl"), ()])
def test_picture_given_twice_is_captioned_once(janus, pictures, monkeypatch, target):
    monkeypatch.chdir(pictures)
    code, _, err = janus("caption", "tiny.png", "./tiny.png", pictures / "tiny.png", *target, *SHORT)
    assert code == 0
    assert err.startswith("1 captioned, 0 were there already\n")


def test_hidden_files_in_a_folder_are_no_pictures(janus, pictures):
    (pictures / "._tiny.png").write_bytes(b"what another program left")
    code, out, _ = janus("caption", pictures, "--json", *SHORT)
    assert code == 0
    assert len(json.loads(out)["captions"]) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no text")
def test_file_name_that_is_no_text_is_kept_and_found_again(janus, pictures, tmp_path):
    folder, out = tmp_path / "odd", tmp_path / "c.jsonl"
    folder.mkdir()
    shutil.copy(pictures / "tiny.png", os.fsencode(folder) + b"/\xff.png")
    assert janus("caption", folder, "--out", out, *SHORT)[0] == 0
    assert "0 captioned, 1 were there already" in janus("caption", folder, "--out", out, *SHORT)[2]


@pytest.mark.parametrize("out", ["file/sub/c.jsonl", "folder"])
def test_caption_file_that_cannot_be_written_fails_before_the_model_is_loaded(janus, pictures, tmp_path, out):
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    code, _, err = janus("caption", pictures, "--out", tmp_path / out, model=tmp_path / "no-model")
    assert code == 1
    assert "no-model" not in err
