"""Scores that are no numbers, and pictures that are none: the others are finished, nothing bad is written."""

import json
import shutil

import pytest

from janus_core import Janus, SamplingError

from .conftest import MODEL, PICTURES

SHORT = ("--max-new-tokens", "6")
SAMPLED = (*SHORT, "--temperature", 1, "--seed", 3, "--dtype", "float32")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(PICTURES, folder)
    return folder


@pytest.fixture
def spoil(monkeypatch):
    """Return a function of a seed: from then on the answer or picture of that seed has no numbers."""

    def spoil_seed(method, *bad):
        whole = getattr(Janus, method)

        def spoilt(self, asked, *, seed, **options):
            count = len(asked) if method == "answer" else options["num_images"]
            rows = tuple(row for row in range(count) if seed + row in bad)
            if rows:
                raise SamplingError("The scores in float16 are no numbers. Load it in bfloat16.", rows)
            return whole(self, asked, seed=seed, **options)

        monkeypatch.setattr(Janus, method, spoilt)

    return spoil_seed


@pytest.mark.parametrize("size", [1, 2, 8])
def test_one_spoilt_caption_does_not_lose_the_others(janus, pictures, tmp_path, spoil, size):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "c.jsonl"
    janus("caption", pictures, "--out", whole, *SAMPLED)
    spoil("answer", 4)
    code, _, err = janus("caption", pictures, "--out", out, "--batch-size", size, *SAMPLED)
    assert code == 1
    assert f'No caption was kept for "{pictures / "portrait.png"}": The scores in float16' in err
    kept = [line for line in whole.read_text().splitlines() if "portrait" not in line]
    assert out.read_text().splitlines() == kept


def test_nothing_is_written_for_a_spoilt_caption_and_it_is_tried_again(janus, pictures, spoil):
    spoil("answer", 1)
    assert janus("caption", pictures, "--sidecar", "--batch-size", 1, *SAMPLED, "--seed", 0)[0] == 1
    assert not (pictures / "portrait.txt").exists()
    assert (pictures / "tiny.txt").exists()


def test_captions_that_are_all_spoilt_leave_no_file(janus, pictures, spoil):
    spoil("answer", *range(9))
    code, out, err = janus("caption", pictures, "--sidecar", "--json", *SHORT)
    assert code == 1
    assert json.loads(out) == {"captions": []}
    assert err.count("No caption was kept") == 3
    assert {path.suffix for path in pictures.iterdir()} == {".png"}


def test_a_spoilt_answer_is_one_sentence(janus, spoil):
    spoil("answer", 0)
    code, out, err = janus("ask", "-q", "What?", *SHORT)
    assert (code, out) == (1, "")
    assert "Load it in bfloat16" in err


@pytest.mark.parametrize("size", [1, 4])
def test_one_spoilt_drawing_does_not_lose_the_others(janus, tmp_path, spoil, size):
    spoil("draw", 6)
    code, _, err = janus("draw", "x", "-n", 4, "--seed", 5, "--batch-size", size, "--out", tmp_path)
    assert code == 1
    assert "No picture was kept for seed 6: The scores in float16" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["janus_5.png", "janus_7.png", "janus_8.png"]


def test_other_errors_of_sampling_end_the_run(janus, pictures, monkeypatch):
    def fail(self, *_, **__):
        raise SamplingError("no such thing")

    monkeypatch.setattr(Janus, "answer", fail)
    code, _, err = janus("caption", pictures, *SHORT)
    assert (code, err) == (1, "janus: no such thing\n")


def test_inspect_counts_an_adapter_among_the_problems(janus, tmp_path):
    model = shutil.copytree(MODEL, tmp_path / "model")
    (model / "adapter_config.json").write_text("{}")
    code, out, _ = janus("inspect", model, "--json", model=None)
    assert code == 0
    assert any("holds an adapter (adapter_config.json)" in text for text in json.loads(out)["problems"])
