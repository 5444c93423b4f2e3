"""Nothing asks the network until a download is planned: not importing, listing, loading or --help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROOMS = ROOT / "janus_core" / "downloads"
FORBIDDEN = """
import os, sys
def refuse(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind")):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(97)  # which nothing catches
sys.addaudithook(refuse)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FORBIDDEN + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_nothing_else_touches_the_network() -> None:
    done = run("""
import janus_core
from janus_core.cli import main
[getattr(janus_core, name) for name in janus_core.__all__]
assert [*janus_core.PUBLISHED, *janus_core.bundled_models()]
janus_core.load_janus("janus-shapes")
main(["inspect", "--quiet"])
""")
    assert done.returncode == 0, done.stderr


def test_importing_takes_no_library() -> None:
    names = ("huggingface_hub", "requests", "httpx", "httpx2", "torch", "filelock")
    rooms = ", ".join(f"janus_core.downloads.{path.stem}" for path in sorted(ROOMS.glob("[a-z]*.py")))
    assert "janus_core.downloads.hub" in rooms
    code = f"import {rooms}\nprint([name for name in {names} if name in sys.modules])"
    assert run(code).stdout.strip() == "[]"


def test_the_guard_notices_a_connection() -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    assert run(code).returncode == 97


def test_a_download_is_what_asks(tmp_path: Path) -> None:
    code = f"import janus_core; janus_core.plan_download('Janus-1.3B', {str(tmp_path)!r})"
    assert run("os.environ['HF_HUB_OFFLINE'] = '0'\n" + code).returncode == 97
