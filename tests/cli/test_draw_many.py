"""`draw` of many pictures at once: the best of them, and drawings that were interrupted and go on."""

import json

import pytest
import torch

from janus_core import ImageTokens, Janus
from janus_core.generation.drawing import DrawingStep

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


# drawings that go on


def interrupted_after(monkeypatch, steps):
    """Press Ctrl-C after so many steps of the next drawing."""
    step = DrawingStep.report

    def report(self, on_step, on_tokens):
        step(self, on_step, on_tokens)
        if self.done == steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(DrawingStep, "report", report)


@pytest.mark.parametrize("further", [(), ("--keep-best", 2)], ids=["all", "best"])
def test_an_interrupted_drawing_goes_on_to_the_same_pictures(janus, tmp_path, monkeypatch, further):
    asked = ("-n", 4, "--seed", 9, *further)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 5)
        code, _, err = janus("draw", PROMPT, "--dtype", "float32", *asked, "--out", tmp_path)
    begun = tmp_path / "janus_9_unfinished.safetensors"
    assert code == 130
    assert [path.name for path in tmp_path.iterdir()] == [begun.name]
    assert f"what was drawn of seeds 9 to 12 is in {begun}; go on with --tokens and --seed 9" in err
    went_on = drawn(janus, tmp_path, "--tokens", begun, "--seed", 9, *further)
    whole = drawn(janus, tmp_path, *asked)
    assert went_on["token_ids"] == whole["token_ids"]
    assert went_on["seeds"] == whole["seeds"]


def test_the_batch_that_was_interrupted_names_its_own_seed(janus, tmp_path, monkeypatch):
    real, calls = Janus.draw, []

    def second(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            interrupted_after(monkeypatch, 3)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Janus, "draw", second)
    code, _, err = janus("draw", PROMPT, "-n", 5, "--seed", 3, "--batch-size", 2, "--out", tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert code == 130
    assert names == {"janus_3.png", "janus_4.png", "janus_5_unfinished.safetensors"}
    assert "what was drawn of seeds 5 to 6" in err
    assert "kept 2 of 5 pictures, missing: seeds 5 to 7" in err


def test_an_unfinished_drawing_is_not_decoded(janus, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted_after(patch, 5)
        janus("draw", PROMPT, "--out", tmp_path)
    code, _, err = janus("decode", tmp_path / "janus_0_unfinished.safetensors", "-o", tmp_path / "p.png")
    assert code == 1
    assert "1 of 1 pictures are not finished, the first of them, number 1, after 5 of 16" in err


def test_a_drawing_of_another_model_is_refused(janus, tmp_path):
    tokens = tmp_path / "other.safetensors"
    ImageTokens(grid=torch.zeros(1, 4, 4, dtype=torch.int64), codebook="another").save(tokens)
    code, _, err = janus("draw", PROMPT, "--tokens", tokens, "--out", tmp_path)
    assert code == 1
    assert "These image tokens were made with the codebook another" in err


def test_one_drawing_does_not_go_on_with_several_prompts(janus, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na dog\n", encoding="utf-8")
    code, _, err = janus("draw", "--prompts", prompts, "--tokens", "t.safetensors", "--out", tmp_path)
    assert code == 1
    assert "--tokens goes on with one drawing, and --prompts asks for several" in err
