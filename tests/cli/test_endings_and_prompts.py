"""Answers that are cut off, prompts out of a file, new seeds, devices that are not there."""

import json
import re

import pytest
import torch
from PIL import Image

from .conftest import PICTURES


def test_a_caption_that_was_cut_off_is_marked(janus, tmp_path):
    out = tmp_path / "c.jsonl"
    code, printed, err = janus("caption", PICTURES, "--json", "--out", out, "--max-new-tokens", 3)
    assert code == 0
    assert [caption["finished"] for caption in json.loads(printed)["captions"]] == [False] * 3
    assert [json.loads(line)["finished"] for line in out.read_text().splitlines()] == [False] * 3
    assert "3 captions were cut off at 3 tokens" in err


def test_an_answer_that_ends_by_a_stop_text_is_finished(janus):
    asked = ("ask", "-q", "How are you?", "--json", "--max-new-tokens", 12)
    stop = json.loads(janus(*asked)[1])["text"][3]
    answer = json.loads(janus(*asked, "--stop", stop)[1])
    assert answer["finished"] is True


PROMPTS = "# what to draw\na red circle\n\n  Zwei blaue Quadrate, übereinander!  \n#no\n...\n"


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(PROMPTS, encoding="utf-8")
    return path


def test_prompts_of_a_file_are_drawn_and_named_by_number_and_words(janus, prompts, tmp_path):
    code, printed, _ = janus("draw", "--prompts", prompts, "--out", tmp_path / "out", "--json")
    names = ["001_a-red-circle.png", "002_zwei-blaue-quadrate-übereinander.png", "003.png"]
    assert code == 0
    assert json.loads(printed)["seeds"] == [0, 0, 0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    with Image.open(tmp_path / "out" / names[1]) as picture:
        assert picture.text["prompt"] == "Zwei blaue Quadrate, übereinander!"


def test_several_pictures_of_each_prompt_carry_their_seed(janus, prompts, tmp_path):
    janus("draw", "--prompts", prompts, "-n", 2, "--seed", 7, "--out", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[:2] == ["001_a-red-circle_7.png", "001_a-red-circle_8.png"]
    assert len(names) == 6


def test_a_prompt_of_a_file_is_drawn_as_it_is_alone(janus, prompts, tmp_path):
    drawn = json.loads(janus("draw", "--prompts", prompts, "--out", tmp_path, "--json", "--seed", 3)[1])
    alone = json.loads(janus("draw", "a red circle", "--out", tmp_path, "--json", "--seed", 3)[1])
    assert drawn["token_ids"][0] == alone["token_ids"][0]


@pytest.mark.parametrize("content", [None, "", "# only remarks\n\n", b"\xff\xfe\x00"])
def test_a_file_without_prompts_is_named_before_the_model_is_loaded(janus, tmp_path, content):
    path = tmp_path / "p.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, _, err = janus("draw", "--prompts", path, "--out", tmp_path, model=tmp_path / "no-model")
    assert code == 1
    assert "p.txt" in err
    assert "no-model" not in err


@pytest.mark.parametrize("arguments", [(), ("x", "--prompts", "p.txt"), ("x", "--seed", "much")])
def test_wrong_usage_of_prompts_and_seeds_ends_with_two(janus, arguments):
    assert janus("draw", *arguments, model=None)[0] == 2


@pytest.mark.parametrize("seed", ["random", "-1"])
def test_a_new_seed_is_printed_and_gives_the_picture_again(janus, tmp_path, seed):
    first = json.loads(janus("draw", "x", "--seed", seed, "--out", tmp_path, "--json")[1])
    _, _, err = janus("draw", "x", "--seed", seed, "--out", tmp_path)
    [second] = re.findall(r"^seed (\d+)$", err, re.MULTILINE)
    assert first["seeds"] != [int(second)]
    again = json.loads(janus("draw", "x", "--seed", *first["seeds"], "--out", tmp_path, "--json")[1])
    assert again["token_ids"] == first["token_ids"]


def test_a_new_seed_of_an_answer_is_printed(janus):
    _, _, err = janus("ask", "-q", "What?", "--temperature", 1, "--seed", "random", "--max-new-tokens", 3)
    assert re.search(r"^seed \d+$", err, re.MULTILINE)


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("mps", marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="is there")),
        pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="is there")),
        "xpu:7",
        "nonsense",
        "meta",
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(janus, device):
    code, out, err = janus("ask", "-q", "What?", "--device", device)
    assert (code, out) == (1, "")
    assert err.startswith(f'janus: The device "{device}" cannot be used: ')
    assert err.count("\n") == 1
    assert len(err) < 300
