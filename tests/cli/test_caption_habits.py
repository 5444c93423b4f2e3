"""What people do every day when they caption a training set: endings, prefixes, restarts, shares."""

import json
import shutil
import sys

import pytest
from PIL import Image

from janus_core import Janus, TextOptions, load_janus

from .conftest import MODEL, PICTURES

SHORT = ("--max-new-tokens", "6")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(PICTURES, folder)
    return folder


def save(folder, name, **options):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (200, 60, 40)).save(folder / name, **options)


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- which files ---


ENDINGS = ["avif", "jfif", "jpe", "jp2", "tga", "ppm", "webp", "bmp", "tiff", "gif", "qoi", "dds", "pcx"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_that_pillow_opens_is_a_picture(janus, tmp_path, ending):
    save(tmp_path / "a", f"one.{ending}")
    save(tmp_path / "a", f"two.{ending.upper()}", format={"jfif": "JPEG", "jpe": "JPEG"}.get(ending))
    code, out, _ = janus("caption", tmp_path / "a", "--json", *SHORT)
    assert code == 0
    assert len(json.loads(out)["captions"]) == 2


@pytest.mark.parametrize("name", ["a.eps", "a.pdf", "a.ps", "a.h5", "a.mpg", "a.txt", "noending"])
def test_what_is_no_picture_is_passed_over_and_counted(janus, pictures, name):
    (pictures / name).write_bytes(b"%!PS-Adobe")
    code, _, err = janus("caption", pictures, *SHORT)
    ending = name.partition(".")[2]
    assert code == 0
    assert f"passed over: 1 file of another kind ({'.' + ending if ending else 'no ending'} 1)" in err


def test_the_closing_line_counts_subfolders_and_hidden_files_too(janus, pictures):
    save(pictures / "more", "deep.png")
    save(pictures / ".cache", "no.png")
    (pictures / "._tiny.png").write_bytes(b"x")
    _, _, err = janus("caption", pictures, *SHORT)
    assert "passed over: 1 subfolder (--recursive looks into them); 2 hidden" in err


def test_texts_beside_pictures_are_not_worth_a_word(janus, pictures):
    janus("caption", pictures, "--sidecar", *SHORT)
    assert "passed over" not in janus("caption", pictures, "--sidecar", *SHORT)[2]


def test_recursive_looks_into_every_subfolder_once(janus, pictures):
    save(pictures / "more" / "deeper", "deep.png")
    (pictures / "more" / "back").symlink_to(pictures)
    code, out, err = janus("caption", pictures, "--recursive", "--json", *SHORT)
    assert code == 0
    assert len(json.loads(out)["captions"]) == 4
    assert "subfolder" not in err


def test_a_folder_whose_pictures_lie_deeper_says_how_to_reach_them(janus, tmp_path):
    save(tmp_path / "a" / "b", "one.png")
    code, _, err = janus("caption", tmp_path / "a", *SHORT)
    assert code == 1
    assert "--recursive looks into its subfolders" in err


@pytest.mark.parametrize("pattern", ["*.png", "t*y.png", "[lt]*.png", "*"])
def test_a_pattern_that_no_shell_expanded_is_expanded(janus, pictures, pattern):
    (pictures / "notes.txt").write_text("x")
    code, out, _ = janus("caption", pictures / pattern, "--json", *SHORT)
    found = [caption["file"] for caption in json.loads(out)["captions"]]
    assert code == 0
    assert found == sorted(str(path) for path in pictures.glob(pattern) if path.suffix == ".png")


@pytest.mark.parametrize("command", ["ask", "encode"])
def test_patterns_are_expanded_for_other_commands_too(janus, pictures, tmp_path, command):
    flags = {"ask": ("-q", "What?", *SHORT), "encode": ("-o", tmp_path / "t.safetensors")}[command]
    code, out, _ = janus(command, pictures / "*.png", "--json", *flags)
    answer = json.loads(out)
    assert code == 0
    assert (answer["prompt_tokens"] > 3 * 16) if command == "ask" else (len(answer["token_ids"]) == 3)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(janus, pictures):
    shutil.copy(pictures / "tiny.png", pictures / "a[1].png")
    out = janus("caption", pictures / "a[1].png", "--json", *SHORT)[1]
    assert len(json.loads(out)["captions"]) == 1


def test_a_pattern_that_matches_nothing_is_named(janus, pictures):
    code, _, err = janus("caption", pictures / "*.webp", *SHORT)
    assert code == 1
    assert "No picture matches" in err


def test_the_frames_of_an_animation_are_remarked_on(janus, tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    code, _, err = janus("caption", tmp_path / "a.gif", *SHORT)
    assert code == 0
    assert 'a.gif" has 2 frames; only the first is looked at.' in err


def test_the_package_that_a_format_needs_is_named(janus, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (pictures / "a.heic").write_bytes(b"x")
    if ".heic" in Image.registered_extensions():
        pytest.skip("this Pillow reads HEIC itself")
    assert ".heic needs pillow-heif: pip install pillow-heif" in janus("caption", pictures, *SHORT)[2]


def test_pictures_wait_for_their_batch_at_the_models_size(janus, pictures, monkeypatch):
    whole, sizes = Janus.answer, []

    def answer(self, conversations, **options):
        sizes.extend(image.size for turns in conversations for turn in turns for image in turn.images)
        return whole(self, conversations, **options)

    monkeypatch.setattr(Janus, "answer", answer)
    assert janus("caption", pictures, *SHORT)[0] == 0
    assert sizes == [(64, 64)] * 3


def test_a_caption_is_what_python_says_of_the_same_file(janus, pictures):
    out = janus("caption", pictures, "--json", "--dtype", "float32", *SHORT)[1]
    model = load_janus(MODEL, dtype="float32", device="cpu")
    paths = sorted(pictures.iterdir())
    texts = model.caption(paths, options=TextOptions(max_new_tokens=6))
    assert [caption["text"] for caption in json.loads(out)["captions"]] == texts


# --- what is written ---


def test_prefix_suffix_and_one_line(janus, pictures):
    flags = ("--prefix", "my style,\n", "--suffix", "\n\nend", "--one-line", "--sidecar")
    assert janus("caption", pictures, *flags, *SHORT)[0] == 0
    text = (pictures / "tiny.txt").read_text(encoding="utf-8")
    assert text.startswith("my style, ")
    assert text.endswith(" end\n")
    assert text.count("\n") == 1


@pytest.mark.parametrize("ending", [".caption", "cap"])
def test_texts_may_have_another_ending(janus, pictures, ending):
    assert janus("caption", pictures, "--extension", ending, *SHORT)[0] == 0
    assert len(list(pictures.glob(f"*.{ending.lstrip('.')}"))) == 3
    assert "0 captioned, 3 were there" in janus("caption", pictures, "--extension", ending, *SHORT)[2]


@pytest.mark.parametrize("ending", [".png", "JPG", ".", "a/b"])
def test_an_ending_that_would_harm_pictures_is_refused(janus, pictures, tmp_path, ending):
    before = sorted(pictures.iterdir())
    code, _, err = janus("caption", pictures, "--extension", ending, model=tmp_path / "no-model")
    assert (code, sorted(pictures.iterdir())) == (1, before)
    assert "Texts cannot end in" in err


def test_overwrite_replaces_sidecars(janus, pictures):
    (pictures / "tiny.txt").write_text("mine\n", encoding="utf-8")
    janus("caption", pictures, "--sidecar", "--overwrite", *SHORT)
    assert "mine" not in (pictures / "tiny.txt").read_text(encoding="utf-8")


def test_append_puts_behind_and_repeats_nothing(janus, pictures):
    (pictures / "tiny.txt").write_text("mine\n", encoding="utf-8")
    janus("caption", pictures, "--sidecar", "--append", *SHORT)
    once = (pictures / "tiny.txt").read_text(encoding="utf-8")
    assert once.startswith("mine\n")
    assert len(once) > len("mine\n")
    janus("caption", pictures, "--sidecar", "--append", *SHORT)
    assert (pictures / "tiny.txt").read_text(encoding="utf-8") == once


@pytest.mark.parametrize("content", ["", "\n", "  \n\t"])
def test_an_empty_text_counts_as_missing_and_is_remarked_on(janus, pictures, content):
    (pictures / "tiny.txt").write_text(content)
    err = janus("caption", pictures, "--sidecar", *SHORT)[2]
    assert "3 captioned" in err
    assert "1 empty .txt counted as missing" in err
    assert (pictures / "tiny.txt").read_text(encoding="utf-8").strip()


def test_two_pictures_that_share_a_finished_text_are_remarked_on(janus, pictures):
    save(pictures, "tiny.jpg")
    (pictures / "tiny.txt").write_text("mine\n", encoding="utf-8")
    code, _, err = janus("caption", pictures, "--sidecar", *SHORT)
    assert code == 0
    assert 'share "tiny.txt", so both count as captioned' in err


# --- one file ---


def test_paths_are_relative_to_the_file_so_that_no_place_doubles_them(janus, pictures, tmp_path, monkeypatch):
    out = tmp_path / "out" / "c.jsonl"
    monkeypatch.chdir(pictures)
    janus("caption", ".", "--out", out, *SHORT)
    monkeypatch.chdir(tmp_path)
    err = janus("caption", "pictures", "--out", "out/c.jsonl", *SHORT)[2]
    assert "0 captioned, 3 were there already" in err
    assert sorted(line["file"] for line in lines_of(out)) == [
        "../pictures/landscape.png",
        "../pictures/portrait.png",
        "../pictures/tiny.png",
    ]


def test_a_moved_dataset_goes_on_where_it_stopped(janus, pictures, tmp_path):
    janus("caption", pictures / "tiny.png", "--out", pictures / "metadata.jsonl", *SHORT)
    moved = pictures.rename(tmp_path / "elsewhere")
    err = janus("caption", moved, "--out", moved / "metadata.jsonl", *SHORT)[2]
    assert "2 captioned, 1 were there already" in err


def test_lines_of_older_files_count_from_where_they_were_made(janus, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.jsonl").write_text('{"file": "pictures/tiny.png", "text": "old"}\n')
    assert "2 captioned, 1 were" in janus("caption", "pictures", "--out", "out/c.jsonl", *SHORT)[2]


def test_the_key_of_image_folders_is_written_and_accepted(janus, pictures):
    out = pictures / "metadata.jsonl"
    janus("caption", pictures / "tiny.png", "--out", out, "--key", "file_name", *SHORT)
    assert list(lines_of(out)[0]) == ["file_name", "text", "finished"]
    assert lines_of(out)[0]["file_name"] == "tiny.png"
    assert "2 captioned, 1 were there" in janus("caption", pictures, "--out", out, *SHORT)[2]


@pytest.mark.parametrize("mode", ["--overwrite", "--append"])
def test_replacing_lines_doubles_none(janus, pictures, mode):
    out = pictures / "c.jsonl"
    out.write_text('{"file": "tiny.png", "text": "mine"}\n{"file": "gone.png", "text": "kept"}\n')
    for _ in range(2):
        assert janus("caption", pictures, "--out", out, mode, *SHORT)[0] == 0
    entries = lines_of(out)
    assert [entry["file"] for entry in entries[:2]] == ["tiny.png", "gone.png"]
    assert len(entries) == 4
    assert entries[1]["text"] == "kept"
    assert entries[0]["text"].startswith("mine\n") is (mode == "--append")


@pytest.mark.parametrize("flags", [("--append",), ("--overwrite",)])
def test_replacing_needs_a_place_where_captions_are(janus, pictures, tmp_path, flags):
    code, _, err = janus("caption", pictures, *flags, model=tmp_path / "no-model")
    assert code == 1
    assert "needs --sidecar or --out" in err


# --- shares ---


def test_shares_are_disjoint_and_together_everything(janus, pictures):
    for share in ("1/2", "2/2"):
        janus("caption", pictures, "--sidecar", "--shard", share, *SHORT)
        assert len(list(pictures.glob("*.txt"))) == (2 if share == "1/2" else 3)


def test_shares_of_a_sampled_run_say_what_one_run_says(janus, pictures, tmp_path):
    sampled = (*SHORT, "--temperature", 1, "--seed", 3, "--dtype", "float32")
    janus("caption", pictures, "--out", tmp_path / "whole.jsonl", *sampled)
    for share in ("2/2", "1/2"):
        janus("caption", pictures, "--out", tmp_path / "parts.jsonl", "--shard", share, *sampled)
    whole, parts = (sorted(map(str, lines_of(tmp_path / f"{name}.jsonl"))) for name in ("whole", "parts"))
    assert parts == whole


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_share_that_is_none_is_refused(janus, pictures, share):
    code, _, err = janus("caption", pictures, f"--shard={share}", *SHORT)
    assert code == 1
    assert "--shard is" in err
