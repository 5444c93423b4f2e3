"""What stdout and stderr carry, as a process of its own sees them: JSON alone, whole lines, any encoding."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from janus_core.cli import main
from janus_core.cli.terminal import GrowingAnswer

from .conftest import MODEL, PICTURES

ASK = ("ask", PICTURES / "tiny.png", "-q", "What is it?", "--max-new-tokens", 8, "--model", MODEL)


def run(*arguments, **options):
    command = [sys.executable, "-m", "janus_core", *(str(argument) for argument in arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, timeout=60, check=False, **options)


def test_help_needs_nothing_heavy():
    code = (
        "import sys\nfrom janus_core.cli import main\n"
        "try: main(['caption', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'PIL', 'tqdm', 'tokenizers'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False).returncode == 0


@pytest.fixture(scope="session")
def json_run():
    return run(*ASK, "--json", stdout=subprocess.PIPE)


def on_ascii(monkeypatch, *arguments):
    """Run in this process with an ASCII stdout and return the exit code and what was written."""
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        code = main([str(argument) for argument in arguments])
    return code, written.getvalue()


def test_json_is_one_object_alone_on_stdout_and_the_log_is_clean(json_run):
    assert (json_run.returncode, json_run.stderr) == (0, b"")
    assert json_run.stdout.count(b"\n") == 1
    keys = {"text", "token_ids", "prompt_tokens", "finished"}
    assert set(json.loads(json_run.stdout)) == keys


def test_json_is_escaped_where_stdout_is_ascii(monkeypatch, tmp_path):
    picture = tmp_path / "\xe9 \U0001f600.png"  # bare escapes of neither are JSON
    shutil.copy(PICTURES / "tiny.png", picture)
    code, written = on_ascii(monkeypatch, "caption", picture, "--json", "--model", MODEL)
    assert code == 0
    assert json.loads(written.decode("ascii"))["captions"][0]["file"] == str(picture)


def test_any_answer_can_be_printed_where_stdout_is_ascii(monkeypatch, json_run):
    code, written = on_ascii(monkeypatch, *ASK)
    assert code == 0
    assert not json_run.stdout.isascii()
    assert written.isascii()


def test_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = run("inspect", MODEL, stdout=writing)
    os.close(writing)
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_answer_on_a_terminal_is_a_whole_line(json_run):
    import pty

    ours, theirs = pty.openpty()
    answer = json.loads(json_run.stdout)["text"]
    assert run(*ASK, stdout=theirs).returncode == 0
    os.close(theirs)
    shown = os.read(ours, 65536).decode("utf-8", "replace").replace("\r\n", "\n")
    os.close(ours)
    assert shown == answer + "\n"


def test_growing_answer_prints_each_part_once(capsys):
    growing = GrowingAnswer(())
    growing.on_text(0, "A red")
    assert capsys.readouterr().out == "A red"
    growing.on_text(0, "A red circle")
    growing.finish("A red circle")
    assert capsys.readouterr().out == " circle\n"


def test_growing_answer_never_shows_the_beginning_of_a_stop_text(capsys):
    growing = GrowingAnswer(("END",))
    for text in ("A cat", "A cat E", "A cat EN"):
        growing.on_text(0, text)
    growing.finish("A cat")
    assert capsys.readouterr().out == "A cat\n"


def test_missing_default_model_asks_for_a_folder(janus, monkeypatch, tmp_path):
    monkeypatch.setattr("janus_core.cli.models._DEFAULT", "no-such-model")
    code, out, err = janus("draw", "x", "--out", tmp_path, model=None)
    assert (code, out) == (1, "")
    assert "--model" in err
    assert err.count("\n") == 1
