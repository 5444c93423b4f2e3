"""The command line: parses arguments, executes one command, turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 a JanusError, 2 wrong usage, 130 interrupted. With --json one object goes to stdout and
nothing else.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Sequence

from ..errors import JanusError
from .arguments import parse

_INTERRUPTED = 130
# What torch's messages say on any device and system when there is no memory left.
_NO_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")


def main(argv: Sequence[str] | None = None) -> int:
    """Execute the command in `argv` (default: the process's arguments) and return the exit code."""
    arguments = parse(argv)
    _never_fail_on_characters()  # before anything is printed
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.ERROR if arguments.quiet else logging.WARNING,
        format="%(message)s",
        force=True,
    )
    try:
        return int(arguments.execute(arguments) or 0)
    except JanusError as error:
        if arguments.debug:
            raise  # with its traceback
        print(f"janus: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if arguments.debug or not (isinstance(error, MemoryError) or _NO_MEMORY.search(str(error))):
            raise
        print(
            "janus: There is not enough memory. Use a smaller --batch-size, --dtype bfloat16 or a smaller "
            "model; janus inspect shows what a model needs.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("janus: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output closed it, as `head` does
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for the interpreter's last flush
        return 0


def _never_fail_on_characters() -> None:
    """Escape characters that stdout or stderr cannot encode; an answer may contain any."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
