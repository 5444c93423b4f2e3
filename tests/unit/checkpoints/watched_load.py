"""Loads model folders and writes what each load did outside them: `python watched_load.py WHOLE FOLDER…`.

A whole folder is loaded first, so that everything that is imported or opened once, is. From then on an audit
hook of Python sees every file opened, every module imported, text compiled, process started and connection
made. What other languages open it does not see; the caller runs this under strace for that.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from janus_core import JanusError, load_janus

EVENTS = (
    "open", "import", "exec", "compile", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn",
    "os.fork",
    "os.spawn", "socket.connect", "socket.getaddrinfo", "socket.bind", "ctypes.dlopen", "code.__new__",
    "os.remove",
    "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate", "shutil.rmtree",
)  # fmt: skip
MARK = "/watched-folder-begins"  # a path that strace shows, since nothing has it
_MAY_COMPILE = ("<string>",)  # dataclasses and named tuples write their methods so


def concerns(event: str, arguments: tuple[Any, ...], folder: Path) -> str:
    """Return what an event is about if it leaves the folder, else nothing."""
    if event not in EVENTS:
        return ""
    first = arguments[0] if arguments else ""
    if event == "open":
        is_inside = isinstance(first, int) or str(os.fsdecode(first)).startswith(f"{folder}/")
        return "" if is_inside else os.fsdecode(first)
    if event == "exec" or event == "compile":
        name = getattr(
            first, "co_filename", arguments[1] if event == "compile" and len(arguments) > 1 else ""
        )
        return "" if name in _MAY_COMPILE else str(name)
    return str(first)[:200]


def main() -> None:
    whole, *folders = (Path(argument) for argument in sys.argv[1:])
    warnings.simplefilter("ignore")
    load_janus(whole, dtype="float32", device="cpu")
    codecs.lookup("cp437")  # zip files name their entries in it, and Python imports it at its first use
    watched: list[Path] = []
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watched and (about := concerns(event, arguments, watched[0])):
            seen.append(f"{event} {about}")

    sys.addaudithook(hook)
    for folder in folders:
        os.path.exists(f"{MARK}{folder}")  # noqa: PTH110 - one plain system call
        started, end = time.process_time(), "success"
        watched.append(folder)
        try:
            load_janus(folder, dtype="float32", device="cpu")
        except JanusError as error:
            end = str(error)
        finally:
            watched.clear()
        os.path.exists(MARK)  # noqa: PTH110 - likewise
        took_s = time.process_time() - started
        line = {"folder": folder.name, "end": end, "seen": seen.copy(), "took_s": took_s}
        print(json.dumps(line), flush=True)
        seen.clear()


if __name__ == "__main__":
    main()
