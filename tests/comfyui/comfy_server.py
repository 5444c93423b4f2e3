"""A ComfyUI of one's own: found, started on a free port with its own folder, stopped by its own process."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACK = Path(__file__).parents[2]
BUNDLED = "janus-shapes"
# What the example workflows run on: the model they name, or the test checkpoint where that is absent.
EXAMPLE_MODEL = BUNDLED if (PACK / "janus_core/bundled" / BUNDLED / "config.json").is_file() else "janus-tiny"
HOW_TO_GET_ONE = (
    "NO COMFYUI FOUND, NOTHING OF THE NODES IS TESTED. Install one (pip install comfy-cli; comfy install "
    "--cpu), or set COMFYUI_PATH to its folder, and COMFYUI_PYTHON to its Python where that is not in .venv "
    "there."
)
_START_S = float(os.environ.get("COMFYUI_START_S", "300"))
_STOP_S = 20


@dataclass(frozen=True)
class ComfyUI:
    """An installed ComfyUI and the Python that runs it."""

    path: Path
    python: Path

    @property
    def version(self) -> str:
        text = (self.path / "comfyui_version.py").read_text(encoding="utf-8")
        [version] = re.findall(r'__version__ = "(.*)"', text)
        return version

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, for what an older release cannot do."""
        return tuple(int(part) for part in self.version.split("."))

    def knows(self, option: str) -> bool:
        """Tell whether the release has a command line option."""
        return f'"{option}"' in (self.path / "comfy" / "cli_args.py").read_text(encoding="utf-8")


def find_comfyui() -> ComfyUI | None:
    """Return the ComfyUI to test with: COMFYUI_PATH, the one this pack lies in, or comfy-cli's default."""
    named = os.environ.get("COMFYUI_PATH")
    around = [parent for parent in Path(__file__).absolute().parents if parent.parent.name == "custom_nodes"]
    places = (
        [Path(named)] if named else [*(pack.parents[1] for pack in around), Path.home() / "comfy/ComfyUI"]
    )
    for place in places:
        pythons = [place / ".venv" / "bin" / "python", place / ".venv" / "Scripts" / "python.exe"]
        chosen = os.environ.get("COMFYUI_PYTHON")
        python = next((p for p in ([Path(chosen)] if chosen else pythons) if p.is_file()), None)
        if (place / "main.py").is_file() and (place / "comfyui_version.py").is_file() and python:
            return ComfyUI(path=place.resolve(), python=python)
    return None


class Server:
    """A running ComfyUI with the pack linked into `custom_nodes` of its own base folder."""

    def __init__(
        self,
        comfy: ComfyUI,
        base: Path,
        packs: Sequence[Path],
        preview_method: str = "auto",
        has_page: bool = False,
        further_options: Sequence[str] = (),
        further_environment: Mapping[str, str] | None = None,
        pack: Path = PACK,
    ) -> None:
        self.comfy = comfy
        self.base = base
        for folder in ("custom_nodes", "models/janus", "input", "output", "user", "web"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        (base / "web" / "index.html").write_text("<html></html>", encoding="utf-8")
        _link(base / "custom_nodes" / "janus-nodes", pack)
        for other in packs:
            _link(base / "custom_nodes" / other.name, other)
        self.port = _free_port()
        names = ["janus-nodes", *(other.name for other in packs)]
        options = [*_options(comfy, base, self.port, names, preview_method), *further_options]
        if not has_page:  # older releases refuse the installed page package
            options += ["--front-end-root", str(base / "web")]
        self._command = [str(comfy.python), "main.py", *options]
        self._environment = environment() | dict(further_environment or {})
        self._log = base / "comfyui.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, limit_s: float = _START_S) -> None:
        """Start the process and wait until it answers."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.comfy.path,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        deadline = time.monotonic() + limit_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"ComfyUI did not start: {' '.join(self._command)}\n{self.log()}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/system_stats", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self) -> None:
        """End the process that was started here."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it without a chance to tidy up, as a crash or a lack of memory does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """Return what the server has written so far, without colours."""
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _link(place: Path, pack: Path) -> None:
    place.unlink(missing_ok=True)  # of an earlier server in the same folder
    place.symlink_to(pack, target_is_directory=True)


def _options(comfy: ComfyUI, base: Path, port: int, packs: Sequence[str], preview_method: str) -> list[str]:
    wanted = {
        "--cpu": [],
        "--port": [str(port)],
        "--base-directory": [str(base)],
        "--database-url": ["sqlite:///:memory:"],
        "--preview-method": [preview_method],
        "--disable-api-nodes": [],
        "--disable-all-custom-nodes": [],
        "--whitelist-custom-nodes": list(packs),
    }
    return [part for option, values in wanted.items() if comfy.knows(option) for part in (option, *values)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """Return the environment of a test's processes.

    One thread, unless told otherwise: threads that wait for each other on cores shared with other work take
    ten times as long as one.
    """
    ours = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    return {"OMP_NUM_THREADS": "1", **os.environ, **ours}


def run_project_python(*arguments: object, timeout_s: float = 300) -> None:
    """Run a script by the project's own Python with the engine of this pack; fail with what it wrote."""
    command = [sys.executable, *(str(argument) for argument in arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False,
        env=environment() | {"PYTHONPATH": str(PACK)},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
