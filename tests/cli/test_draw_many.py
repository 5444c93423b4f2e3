"""`draw` of many pictures at once: the best of them, and drawings that were interrupted and go on."""

import json

import pytest

from janus_core import Janus

PROMPT = "a small red house"


def drawn(janus, folder, *arguments):
    code, out, err = janus("draw", PROMPT, "--dtype", "float32", "--json", "--out", folder, *arguments)
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize("batch_size", [2, 8])
def test_only_the_best_are_written_the_best_first(janus, tmp_path, batch_size):
    kept = drawn(janus, tmp_path, "-n", 8, "--keep-best", 2, "--seed", 5, "--batch-size", batch_size)
    assert list(kept) == ["files", "seeds", "token_ids", "scores"]
    assert kept["scores"] == sorted(kept["scores"], reverse=True)
    assert {path.name for path in tmp_path.iterdir()} == {f"janus_{seed}.png" for seed in kept["seeds"]}
    for seed, tokens in zip(kept["seeds"], kept["token_ids"], strict=True):
        assert seed in range(5, 13)
        assert drawn(janus, tmp_path, "--seed", seed)["token_ids"] == [tokens]


def test_the_best_of_every_prompt_of_a_file_are_written(janus, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na red house\n", encoding="utf-8")
    asked = ("draw", "--prompts", prompts, "-n", 3, "--keep-best", 1, "--json", "--out", tmp_path / "out")
    code, out, _ = janus(*asked)
    assert code == 0
    files = json.loads(out)["files"]
    assert [file.rpartition("/")[2].partition("_")[0] for file in files] == ["001", "002"]


def test_more_than_are_drawn_cannot_be_kept(janus, tmp_path):
    code, out, err = janus("draw", PROMPT, "-n", 4, "--keep-best", 5, "--out", tmp_path)
    assert (code, out) == (1, "")
    assert "--keep-best is 5; it must be a whole number between 0 and 4" in err


def test_an_interrupted_choice_says_that_none_was_made(janus, tmp_path, monkeypatch):
    def interrupted(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Janus, "draw", interrupted)
    code, _, err = janus("draw", PROMPT, "-n", 8, "--keep-best", 2, "--seed", 3, "--out", tmp_path)
    assert code == 130
    assert "kept 0 of 2 pictures, missing: the best 2 of seeds 3 to 10" in err
