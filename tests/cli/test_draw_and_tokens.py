"""`draw`, `encode`, `decode`, `demo` and `inspect`: files, their text chunks, seeds, and Ctrl-C."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from janus_core import ImageTokens, Janus, load_janus, read_checkpoint, to_uint8
from janus_training.world.detector import detect, matches
from janus_training.world.parsing import caption_facts

from .conftest import MODEL, PICTURES

PROMPT = "a small red house"


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "kept.safetensors"
    ImageTokens(grid=torch.zeros(1, 4, 4, dtype=torch.int64), codebook="any").save(path)
    return path


def test_draw_writes_pictures_that_say_how_they_were_made(janus, tmp_path):
    code, out, _ = janus("draw", PROMPT, "--seed", 7, "--negative", "blue", "--cfg", 3, "--out", tmp_path)
    [path] = out.split()
    with Image.open(path) as picture:
        assert picture.size == (64, 64)
        notes = picture.text
    assert code == 0
    assert notes["prompt"] == PROMPT
    assert notes["negative_prompt"] == "blue"
    assert notes["seed"] == "7"
    assert json.loads(notes["options"])["cfg_weight"] == 3
    assert notes["model"] == "janus-tiny-bin"
    assert notes["software"] == "janus-nodes"


def options_of(path):
    with Image.open(path) as picture:
        return json.loads(picture.text["options"])


@pytest.mark.parametrize("asked", [(), ("--cfg", 0, "--min-p", -1)])
@pytest.mark.parametrize("model", ["janus-shapes", MODEL])
def test_draw_has_the_guidance_that_the_model_recommends(janus, tmp_path, model, asked):
    recommended = read_checkpoint(model).guidance
    code, out, _ = janus("draw", PROMPT, "--out", tmp_path, *asked, model=model)
    assert code == 0
    options = options_of(out.strip())
    assert (options["cfg_weight"], options["min_p"]) == (recommended.cfg_weight, recommended.min_p)


def test_draw_drops_unlikely_tokens_where_it_is_asked_to(janus, tmp_path):
    def drawn(*arguments):
        [file] = json.loads(janus("draw", PROMPT, "--json", "--out", tmp_path, *arguments)[1])["files"]
        with Image.open(file) as picture:
            return options_of(file), np.asarray(picture)

    likeliest, picture = drawn("--min-p", 1, "--cfg", 5)
    _, greedy = drawn("--temperature", 0, "--cfg", 1)
    assert likeliest["min_p"] == 1
    assert np.array_equal(picture, greedy)


def test_draw_as_json_gives_files_seeds_and_tokens(janus, tmp_path):
    drawn = json.loads(janus("draw", PROMPT, "-n", 2, "--json", "--out", tmp_path)[1])
    assert list(drawn) == ["files", "seeds", "token_ids"]
    assert drawn["seeds"] == [0, 1]
    assert [len(ids) for ids in drawn["token_ids"]] == [16, 16]


def test_picture_k_of_a_batch_is_the_first_of_seed_plus_k(janus, tmp_path):
    def tokens(*arguments):
        out = janus("draw", PROMPT, "--dtype", "float32", "--json", "--out", tmp_path, *arguments)[1]
        return json.loads(out)["token_ids"]

    assert tokens("-n", 3, "--seed", 5, "--batch-size", 2)[2] == tokens("--seed", 7)[0]


def test_draw_never_writes_over_a_file(janus, tmp_path):
    first, second = (
        json.loads(janus("draw", PROMPT, "--json", "--out", tmp_path)[1])["files"][0] for _ in range(2)
    )
    assert first != second


def test_model_in_the_working_folder_is_named_in_the_picture(janus, tmp_path, monkeypatch):
    monkeypatch.chdir(MODEL)
    [path] = janus("draw", PROMPT, "--out", tmp_path, model=Path())[1].split()
    with Image.open(path) as picture:
        assert picture.text["model"] == "janus-tiny-bin"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "seed 0"),
        (("-n", 3, "--seed", 5), "seeds 5 to 7"),
        (("-n", 2, "--seed", 2**64 - 1), "seeds 18446744073709551615 to 0"),
        (("--seed", 9, "--quiet"), ""),
    ],
)
def test_draw_prints_its_seeds_as_a_remark(janus, tmp_path, options, said):
    err = janus("draw", PROMPT, "--out", tmp_path, *options)[2]
    assert err == (f"drawn with {said}\n" if said else "")


def test_temperature_zero_is_the_same_for_every_seed(janus, tmp_path):
    greedy = ("draw", PROMPT, "--temperature", 0, "--json", "--out", tmp_path, "--seed")
    assert json.loads(janus(*greedy, 1)[1])["token_ids"] == json.loads(janus(*greedy, 2)[1])["token_ids"]


def test_empty_prompt_draws(janus, tmp_path):
    assert janus("draw", "", "--out", tmp_path)[0] == 0


def test_unwritable_folder_fails_before_the_model_is_loaded(janus, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, out, err = janus("draw", PROMPT, "--out", tmp_path / "file" / "sub", model=tmp_path / "no-model")
    assert (code, out) == (1, "")
    assert "Cannot write into" in err


def test_interrupted_draw_keeps_finished_batches_and_names_the_missing_seeds(start_janus, tmp_path):
    process = start_janus("draw", PROMPT, "-n", 4000, "--batch-size", 2, "--out", tmp_path, "--model", MODEL)
    while len(list(tmp_path.glob("janus_*.png"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    kept = len(list(tmp_path.glob("*.png")))
    assert process.returncode == 130
    assert kept >= 2
    assert f"kept {kept} of 4000 pictures, missing: seeds {kept} to 3999" in err


def test_interruption_in_the_second_batch_keeps_the_first(janus, tmp_path, monkeypatch):
    drawn = []

    def interrupted(self, *arguments, **options):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(draw(self, *arguments, **options))
        return drawn[0]

    draw = Janus.draw
    monkeypatch.setattr(Janus, "draw", interrupted)
    code, out, err = janus("draw", PROMPT, "-n", 5, "--seed", 3, "--batch-size", 2, "--out", tmp_path)
    assert (code, out) == (130, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["janus_3.png", "janus_4.png"]
    assert "kept 2 of 5 pictures, missing: seeds 5 to 7" in err


def test_interruption_while_saving_leaves_no_half_picture(janus, tmp_path, monkeypatch):
    def interrupted(self, path, **_):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    code, _, err = janus("draw", PROMPT, "--out", tmp_path)
    assert code == 130
    assert list(tmp_path.iterdir()) == []
    assert "kept 0 of 1 pictures, missing: seed 0" in err


@pytest.mark.parametrize("command", ["encode", "decode"])
@pytest.mark.parametrize(
    ("place", "said"), [("file/sub/x.png", "Cannot write into"), ("folder.png", "it is a folder")]
)
def test_place_that_cannot_be_written_fails_before_the_model_is_loaded(
    janus, tmp_path, tokens, command, place, said
):
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder.png").mkdir()
    source = PICTURES / "tiny.png" if command == "encode" else tokens
    code, out, err = janus(command, source, "-o", tmp_path / place, model=tmp_path / "no-model")
    assert (code, out) == (1, "")
    assert said in err


@pytest.mark.parametrize("name", ["picture", "picture.qqq"])
def test_ending_of_no_picture_format_fails_before_the_model_is_loaded(janus, tmp_path, tokens, name):
    code, out, err = janus("decode", tokens, "-o", tmp_path / name, model=tmp_path / "no-model")
    assert (code, out) == (1, "")
    assert "names no picture format" in err


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_fit_decides_what_is_encoded(janus, tmp_path, fit):
    encode = ("encode", PICTURES / "landscape.png", "-o", tmp_path / "t.safetensors", "--json")
    assert janus(*encode)[1] != janus(*encode, "--fit", fit)[1]


def test_encode_then_decode_gives_a_picture_of_the_models_size(janus, tmp_path):
    kept, picture = tmp_path / "t.safetensors", tmp_path / "p.png"
    encoded = json.loads(janus("encode", PICTURES / "tiny.png", "-o", kept, "--json")[1])
    assert encoded["grid"] == [4, 4]
    assert janus("decode", kept, "-o", picture)[0] == 0
    with Image.open(picture) as decoded:
        assert decoded.size == (64, 64)


def test_a_drawn_picture_is_encoded_by_the_tokens_it_carries(janus, tmp_path):
    drawn = json.loads(janus("draw", PROMPT, "-n", 2, "--json", "--out", tmp_path)[1])
    mine, kept = tmp_path / "mine.png", tmp_path / "t.safetensors"
    with Image.open(drawn["files"][1]) as picture:  # another program's save, which loses the notes
        Image.fromarray(np.asarray(picture)).save(mine)
    code, out, err = janus("encode", *drawn["files"], mine, "-o", kept, "--json")
    [first, second, encoded] = json.loads(out)["token_ids"]
    assert code == 0
    assert [first, second] == drawn["token_ids"]
    assert encoded != second  # random weights restore no picture
    assert f"read from {', '.join(drawn['files'])}, not encoded" in err


def test_a_picture_that_was_changed_is_encoded_anew(janus, tmp_path):
    [path] = json.loads(janus("draw", PROMPT, "--json", "--out", tmp_path)[1])["files"]
    with Image.open(path) as picture:
        notes = PngInfo()
        for key, text in picture.text.items():
            notes.add_itxt(key, text)
        picture.rotate(90).save(tmp_path / "turned.png", pnginfo=notes)
    code, _, err = janus("encode", tmp_path / "turned.png", "-o", tmp_path / "t.safetensors")
    assert code == 0
    assert "not encoded" not in err


def test_several_decoded_pictures_get_numbers(janus, tmp_path):
    kept = tmp_path / "t.safetensors"
    janus("encode", PICTURES / "tiny.png", PICTURES / "portrait.png", "-o", kept)
    files = json.loads(janus("decode", kept, "-o", tmp_path / "p.png", "--json")[1])["files"]
    assert files == [str(tmp_path / "p_1.png"), str(tmp_path / "p_2.png")]


def test_decoded_picture_is_what_the_file_of_tokens_says(janus, tmp_path):
    kept, picture = tmp_path / "t.safetensors", tmp_path / "p.png"
    janus("encode", PICTURES / "tiny.png", "-o", kept)
    janus("decode", kept, "-o", picture)
    expected = to_uint8(load_janus(MODEL).decode(ImageTokens.load(kept)))[0]
    with Image.open(picture) as decoded:
        assert (np.asarray(decoded) == expected).all()


def test_inspect_says_layout_sizes_and_special_tokens(janus):
    found = json.loads(janus("inspect", MODEL, "--json", model=None)[1])
    assert found["layout"].startswith("authors")
    parts = found["parameters"]
    assert list(parts) == ["seeing", "language", "words", "vq_tokenizer", "total"]
    assert parts["total"] == 966683 == sum(parts.values()) - parts["total"]
    assert parts["vq_tokenizer"] == 644907
    assert found["special tokens"]["pad"] == 402
    assert found["problems"] == []


@pytest.mark.parametrize(
    ("dtype", "weights"), [("float32", 966683 * 4), ("bfloat16", 321776 * 2 + 644907 * 4)]
)
def test_inspect_counts_the_bytes_of_weights_and_of_a_drawing(janus, dtype, weights):
    need = json.loads(janus("inspect", MODEL, "--json", model=None)[1])["memory"][dtype]
    assert list(need) == ["weights", "kv cache", "drawing"]
    assert need["weights"] == weights
    assert need["drawing"] > need["weights"] + need["kv cache"]


def test_inspect_finds_an_early_copy_that_does_not_normalise(janus, tmp_path):
    folder = tmp_path / "early"
    shutil.copytree(MODEL, folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(settings | {"do_normalize": False}), encoding="utf-8"
    )
    [problem] = json.loads(janus("inspect", folder, "--json", model=None)[1])["problems"]
    assert "do_normalize" in problem


def test_inspect_finds_a_missing_image_placeholder(janus, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(MODEL, folder)
    path = folder / "tokenizer.json"
    definition = path.read_text(encoding="utf-8")
    path.write_text(definition.replace("<image_placeholder>", "<something_else>"), encoding="utf-8")
    [problem] = json.loads(janus("inspect", folder, "--json", model=None)[1])["problems"]
    assert "image placeholder" in problem


def test_the_demo_draws_what_it_is_asked_for_and_sees_it_in_its_pictures(janus, tmp_path):
    code, out, _ = janus("demo", "--out", tmp_path, "--json", model=None)
    shown = json.loads(out)["pictures"]
    assert code == 0
    assert {Path(one["file"]) for one in shown} == set(tmp_path.glob("*.png"))
    answers = [[answer["text"] for answer in one["answers"]] for one in shown]
    assert answers == [
        *[["A red circle.", "Red."]] * 4,
        *[["A red circle above a blue square.", "Two."]] * 4,
        *[["A yellow star inside a blue circle."]] * 4,
    ]
    seen = [detect(np.asarray(Image.open(one["file"])) / np.float32(255)) for one in shown]
    assert all(matches(caption_facts(one["prompt"]), things) for one, things in zip(shown, seen, strict=True))


@pytest.mark.parametrize("command", ["demo", "ask", "caption", "draw", "encode", "decode", "inspect"])
def test_every_command_has_help(janus, command):
    code, out, _ = janus(command, "--help", model=None)
    assert code == 0
    assert "--model" in out
