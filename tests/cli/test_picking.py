"""`score` and `choose`: what they print, in which order, and what they refuse before a model is loaded."""

import json

import pytest

from .conftest import PICTURES

CHOOSE = ("choose", "-q", "Which?", "-c", "red", "-c", "a red house")


def test_scores_are_printed_the_best_first(janus):
    code, out, err = janus("score", PICTURES, "-p", "a cat")
    lines = [line.split("  ", maxsplit=1) for line in out.splitlines()]
    assert code == 0
    assert sorted(path for _, path in lines) == sorted(str(path) for path in PICTURES.iterdir())
    scores = [float(score) for score, _ in lines]
    assert scores == sorted(scores, reverse=True)
    # random weights say anything but yes or no
    assert "3 of 3 were answered with neither yes nor no" in err


def test_scores_as_json_and_the_best_of_them(janus):
    code, out, err = janus("score", PICTURES, "-p", "a cat", "--json")
    scores = json.loads(out)["scores"]
    assert (code, err) == (0, "")
    assert [list(score) for score in scores] == [["file", "score", "verdict"]] * 3
    best = json.loads(janus("score", PICTURES, "-p", "a cat", "--json", "--keep-best", 2)[1])["scores"]
    assert best == scores[:2]
    all_of_them = json.loads(janus("score", PICTURES, "-p", "a cat", "--json", "--keep-best", 9)[1])["scores"]
    assert all_of_them == scores


def test_scores_do_not_depend_on_the_batch_size(janus):
    sharp = ("score", PICTURES, "-q", "Is it sharp?", "--json", "--dtype", "float32", "--batch-size")
    one, three = (json.loads(janus(*sharp, size)[1])["scores"] for size in (1, 3))
    assert [score["file"] for score in one] == [score["file"] for score in three]
    assert [score["score"] for score in one] == pytest.approx([score["score"] for score in three], rel=1e-4)


def test_a_choice_is_printed_alone_or_behind_its_file(janus):
    code, out, err = janus(*CHOOSE, PICTURES / "tiny.png")
    assert (code, err) == (0, "")
    assert out.strip() in ("red", "a red house")
    many = janus(*CHOOSE, PICTURES)[1].splitlines()
    assert [line.rpartition(": ")[0] for line in many] == sorted(str(path) for path in PICTURES.iterdir())
    assert f"{PICTURES / 'tiny.png'}: {out.strip()}" in many


def test_choices_as_json(janus):
    [chosen] = json.loads(janus(*CHOOSE, PICTURES / "tiny.png", "--json")[1])["choices"]
    assert list(chosen) == ["file", "text", "index", "probabilities"]
    assert sum(chosen["probabilities"]) == pytest.approx(1)
    assert chosen["text"] == ("red", "a red house")[chosen["index"]]
    assert chosen["probabilities"][chosen["index"]] == max(chosen["probabilities"])


def test_a_temperature_draws_by_the_seed(janus):
    letters = [flag for letter in "abcdefgh" for flag in ("-c", letter)]
    asked = ("choose", PICTURES / "tiny.png", "-q", "Which?", *letters, "--temperature", 2, "--seed")
    drawn = [janus(*asked, seed)[1] for seed in (*range(6), 0, 1)]
    assert drawn[:2] == drawn[6:]
    assert len(set(drawn)) > 1


TINY = PICTURES / "tiny.png"
REFUSED = {
    "no prompt": (("score", TINY), "There is no prompt to score by"),
    "no place for it": (("score", TINY, "-p", "a cat", "-q", "Is it?"), "has no place for the prompt"),
    "no batch": (("score", TINY, "-p", "a cat", "--batch-size", 0), "--batch-size is 0"),
    "a negative number": (("score", TINY, "-p", "a cat", "--keep-best", -1), "keep_best is -1"),
    "no picture": (("score", "none.png", "-p", "a cat"), 'no picture or folder at "none.png"'),
    "one choice": (("choose", TINY, "-q", "Which?", "-c", "red"), "There is 1 choice"),
    "twice": (("choose", TINY, "-q", "Which?", "-c", "red", "-c", "red "), '"red" comes 2 times'),
    "an empty choice": (("choose", TINY, "-q", "Which?", "-c", "red", "-c", ""), "Choice 2 is empty"),
    "too hot": ((*CHOOSE, TINY, "--temperature", 3), "--temperature is 3"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_said_before_a_model_is_loaded(janus, tmp_path, arguments, message):
    code, out, err = janus(*arguments, model=tmp_path)  # no model folder
    assert (code, out) == (1, "")
    assert message in err


def test_an_empty_question_is_refused(janus):
    code, _, err = janus("choose", TINY, "-q", " ", "-c", "red", "-c", "blue")
    assert code == 1
    assert "question is empty" in err
