"""`ask` and `caption`: what they print, what they keep, what they skip."""

import json
import shutil

import pytest

from janus_core.inputs.prompting import caption_request

from .conftest import PICTURES

SHORT = ("--max-new-tokens", "6")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(PICTURES, folder)
    return folder


def test_ask_prints_the_answer_and_nothing_else(janus):
    code, out, err = janus("ask", PICTURES / "tiny.png", "-q", "What is it?", *SHORT)
    assert code == 0
    assert err == "cut off at 6 tokens: raise --max-new-tokens, or use --trim\n"
    assert out.strip()


def test_ask_as_json_gives_text_tokens_and_prompt_length(janus):
    code, out, _ = janus("ask", PICTURES / "tiny.png", "-q", "What is it?", "--json", *SHORT)
    answer = json.loads(out)
    assert code == 0
    assert list(answer) == ["text", "token_ids", "prompt_tokens", "finished"]
    assert len(answer["token_ids"]) == 6
    assert answer["prompt_tokens"] > 16


def test_ask_without_pictures_is_allowed(janus):
    assert janus("ask", "-q", "How are you?", *SHORT)[0] == 0


def test_seed_changes_a_sampled_answer_and_repeats_it(janus):
    sampled = ("ask", "-q", "How are you?", "--temperature", "1", "--json", *SHORT)
    answers = [janus(*sampled, "--seed", seed)[1] for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


def test_stop_text_ends_the_answer(janus):
    whole = json.loads(janus("ask", "-q", "How are you?", "--json", "--max-new-tokens", "12")[1])["text"]
    stop = whole[3]
    cut = json.loads(
        janus("ask", "-q", "How are you?", "--json", "--max-new-tokens", "12", "--stop", stop)[1]
    )["text"]
    assert stop not in cut
    assert whole.startswith(cut)


def test_caption_of_a_folder_is_sorted_and_one_per_picture(janus, pictures):
    code, out, _ = janus("caption", pictures, "--json", *SHORT)
    captions = json.loads(out)["captions"]
    assert code == 0
    assert [caption["file"] for caption in captions] == sorted(str(path) for path in pictures.iterdir())


def test_caption_file_is_continued_where_it_stopped(janus, pictures, tmp_path):
    out = tmp_path / "captions.jsonl"
    janus("caption", pictures / "tiny.png", "--out", out, *SHORT)
    first = out.read_text(encoding="utf-8")
    code, printed, err = janus("caption", pictures, "--out", out, *SHORT)
    lines = out.read_text(encoding="utf-8").splitlines()
    assert (code, printed) == (0, "")
    assert "2 captioned, 1 were there already" in err
    assert lines[0] + "\n" == first
    assert {json.loads(line)["file"] for line in lines} == {
        f"pictures/{path.name}" for path in pictures.iterdir()
    }


def test_half_written_line_of_a_kill_is_repaired(janus, pictures, tmp_path):
    out = tmp_path / "captions.jsonl"
    janus("caption", pictures, "--out", out, *SHORT)
    whole = out.read_text(encoding="utf-8")
    out.write_text(whole[:-10], encoding="utf-8")
    janus("caption", pictures, "--out", out, *SHORT)
    assert sorted(out.read_text(encoding="utf-8").splitlines()) == sorted(whole.splitlines())


def test_sidecars_lie_beside_the_pictures_and_are_never_overwritten(janus, pictures):
    (pictures / "tiny.txt").write_text("mine\n", encoding="utf-8")
    assert janus("caption", pictures, "--sidecar", *SHORT)[0] == 0
    assert (pictures / "tiny.txt").read_text(encoding="utf-8") == "mine\n"
    assert (pictures / "landscape.txt").read_text(encoding="utf-8").strip()


def test_one_broken_picture_does_not_lose_the_others(janus, pictures, tmp_path):
    (pictures / "broken.png").write_bytes(b"no picture")
    code, _, err = janus("caption", pictures, "--out", tmp_path / "c.jsonl", "--batch-size", "2", *SHORT)
    assert code == 1
    assert "broken.png" in err
    assert len((tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_captions_do_not_depend_on_the_batch_size(janus, pictures):
    one, three = (
        janus("caption", pictures, "--json", "--dtype", "float32", "--batch-size", size, *SHORT)[1]
        for size in (1, 3)
    )
    assert one == three


def test_own_question_replaces_the_style(janus, pictures):
    asked = janus("caption", pictures / "tiny.png", "--json", "--question", "Why?", *SHORT)[1]
    styled = janus("caption", pictures / "tiny.png", "--json", *SHORT)[1]
    assert asked != styled


def test_a_question_with_a_style_is_asked_besides(janus, pictures):
    both = ("caption", pictures / "tiny.png", "--json", "--style", "short", "--question", "Why?", *SHORT)
    joined = f"{caption_request('short')} Why?"
    assert (
        janus(*both)[1] == janus("caption", pictures / "tiny.png", "--json", "--question", joined, *SHORT)[1]
    )


def test_own_styles_come_from_a_file(janus, pictures, tmp_path):
    (tmp_path / "captions.toml").write_text('lamp = "Where is the lamp?"\n[bare]\nask = "A"\nraw = true\n')
    picture = pictures / "tiny.png"

    def captioned(*flags):
        return janus("caption", picture, "--json", *flags, *SHORT)[1]

    own = ("--styles", tmp_path / "captions.toml")
    assert captioned(*own, "--style", "lamp") == captioned("--question", "Where is the lamp?")
    assert captioned(*own, "--style", "bare") == captioned("--style", "raw", "--question", "A")
    assert captioned("--style", "raw", "--question", "A") != captioned("--question", "A")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--style", "lamp"), "no caption style"),
        (("--style", "raw"), "question is empty"),
        (("--question", " "), "question is empty"),
        (("--styles", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_a_style_that_asks_nothing_is_refused(janus, pictures, flags, said):
    code, out, err = janus("caption", pictures / "tiny.png", *flags, *SHORT)
    assert (code, out) == (1, "")
    assert said in err
