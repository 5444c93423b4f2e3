"""The command line in this process, and as a process of its own."""

import functools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
MODEL = GOLDEN / "janus-tiny-bin"
PICTURES = GOLDEN / "images"


class CommandLine:
    """Runs `janus` with the tiny model and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object, model: Path | None = MODEL) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        from janus_core.cli import main

        given = [str(argument) for argument in arguments]
        try:
            code = main(given + (["--model", str(model)] if model is not None else []))
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self._capsys.readouterr()
        return code, out, err


@pytest.fixture(scope="session", autouse=True)
def one_load_per_model():
    """Load each model once for all tests in this process; a refusal is not remembered."""
    from janus_core.cli import models

    load_janus = models.load_janus
    load_once = functools.cache(load_janus)
    with pytest.MonkeyPatch.context() as patch:
        folder = models.resolve_model  # of a bundled model's name too
        patch.setattr(models, "load_janus", lambda path, **how: load_once(folder(path).resolve(), **how))
        yield


@pytest.fixture
def janus(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def start_janus():
    """Start `python -m janus_core` as a process of its own.

    A background job without a terminal hands its children an ignored Ctrl-C; a person's shell does not.
    """

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "janus_core", *(str(argument) for argument in arguments)]
        inherited = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        finally:
            signal.signal(signal.SIGINT, inherited)

    return start
