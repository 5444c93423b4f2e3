"""What goes wrong: one sentence on stderr, the right exit code, nothing on stdout."""

import pytest
import torch

from janus_core.cli import draw as drawing

from .conftest import MODEL, PICTURES

DRAW = ("draw", "x", "--out")
ASK = ("ask", "-q", "x")


@pytest.mark.parametrize(
    ("arguments", "interval"),
    [
        ((*DRAW, ".", "--cfg", "nan"), "above 0 and at most 100"),
        ((*DRAW, ".", "--cfg", "-1"), "above 0 and at most 100"),
        ((*DRAW, ".", "--min-p", "2"), "between 0 and 1"),
        ((*DRAW, ".", "--temperature", "3"), "between 0 and 2"),
        ((*DRAW, ".", "--top-p", "0"), "and 1"),
        ((*DRAW, ".", "--top-k", "-1"), "between 0 and"),
        ((*DRAW, ".", "-n", "0"), "at least 1"),
        ((*DRAW, ".", "--batch-size", "0"), "at least 1"),
        ((*ASK, "--max-new-tokens", "0"), "between 1 and 4096"),
        ((*ASK, "--temperature", "inf"), "between 0 and 2"),
        ((*ASK, "--top-p", "2"), "and 1"),
        (("caption", PICTURES, "--batch-size", "0"), "at least 1"),
    ],
)
def test_option_out_of_range_names_the_interval(janus, arguments, interval):
    code, out, err = janus(*arguments)
    assert (code, out) == (1, "")
    assert interval in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ask", "nowhere.png", "-q", "x"), "nowhere.png"),
        (("ask", MODEL / "config.json", "-q", "x"), "config.json"),
        (("ask", "-q", "  "), "The question is empty"),
        (("ask", "-q", "<image_placeholder> what?"), "1 picture marks"),
        (("caption", "nowhere"), "nowhere"),
        (("caption", MODEL), "has no pictures"),
        (("decode", MODEL / "config.json", "-o", "x.png"), "image tokens"),
        (("draw", "word " * 2000, "--out", "."), "tokens too long"),
    ],
)
def test_bad_input_is_named(janus, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = janus(*arguments)
    assert (code, out) == (1, "")
    assert said in err


def test_missing_model_folder_is_named(janus, tmp_path):
    code, out, err = janus("ask", "-q", "x", "--json", model=tmp_path / "nothing")
    assert (code, out) == (1, "")
    assert "does not exist" in err


def test_debug_shows_where_the_error_comes_from(janus, tmp_path):
    from janus_core import CheckpointError

    with pytest.raises(CheckpointError):
        janus("ask", "-q", "x", "--debug", model=tmp_path / "nothing")


NO_MEMORY = (
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 192 bytes"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: 192 bytes"),
    MemoryError(),
)


def fail_with(monkeypatch, error):
    def fail(arguments):
        raise error

    monkeypatch.setattr(drawing, "load_autoregressive", fail)


@pytest.mark.parametrize("error", NO_MEMORY)
def test_memory_that_is_not_enough_is_no_traceback(janus, tmp_path, monkeypatch, error):
    fail_with(monkeypatch, error)
    code, out, err = janus(*DRAW, tmp_path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "not enough memory. Use a smaller --batch-size" in err


@pytest.mark.parametrize(("error", "flags"), [(NO_MEMORY[0], ["--debug"]), (RuntimeError("a mistake"), [])])
def test_other_failures_and_debug_show_their_traceback(janus, tmp_path, monkeypatch, error, flags):
    fail_with(monkeypatch, error)
    with pytest.raises(RuntimeError, match=str(error)):
        janus(*DRAW, tmp_path, *flags)


@pytest.mark.parametrize(
    "arguments", [(), ("paint",), ("draw",), ("draw", "x", "--cfg", "much"), ("ask", "x.png")]
)
def test_wrong_usage_ends_with_two(janus, arguments):
    assert janus(*arguments, model=None)[0] == 2


def test_a_process_ends_with_the_code_and_no_traceback(start_janus, tmp_path):
    process = start_janus("ask", "-q", "x", "--model", tmp_path / "nothing", "--json")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in err
