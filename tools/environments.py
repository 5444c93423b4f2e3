"""A virtual environment that is made, filled and asked what is in it; what for, it does not know."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path


class Environment:
    """A virtual environment in a folder of its own."""

    def __init__(self, folder: Path, interpreter: str, uv: str | None = None) -> None:
        """Make it.

        Args:
            folder: for the environment.
            interpreter: of which it is.
            uv: the installer to use, which takes a fraction of pip's time; None for pip.
        """
        bare = ["--without-pip"] if uv else []
        subprocess.run([interpreter, "-m", "venv", *bare, str(folder)], check=True)
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._installer = (
            [uv, "pip", "install", "--quiet", "--python", str(self.python)]
            if uv
            else [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        )
        self.site = Path(self.ask("import sysconfig; print(sysconfig.get_paths()['purelib'])"))

    def ask(self, code: str) -> str:
        """Return what a line of Python prints there."""
        command = [str(self.python), "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def install(self, *requirements: str, alone: bool = False) -> None:
        """Install requirements, without what they need if they stand alone."""
        if requirements:
            subprocess.run([*self._installer, *(["--no-deps"] if alone else []), *requirements], check=True)

    def has(self, requirements: Sequence[str]) -> list[bool]:
        """Tell of each requirement whether it is there: at its version where it is pinned, else at any."""
        versions = self.versions([name_of(one) for one in requirements])
        return [
            versions.get(name_of(one)) == (one.partition("==")[2] or versions.get(name_of(one), "none"))
            for one in requirements
        ]

    def versions(self, names: Sequence[str]) -> dict[str, str]:
        """Return the versions of the packages that are there."""
        code = (
            "import importlib.metadata as m, json\n"
            "have = {}\n"
            "for d in m.distributions():\n"
            "    have.setdefault(d.metadata['Name'].lower().replace('_', '-'), d.version)\n"
            f"print(json.dumps({{n: have[n] for n in {list(names)!r} if n in have}}))"
        )
        found: dict[str, str] = json.loads(self.ask(code))
        return {"python": self.ask("import platform; print(platform.python_version())"), **found}


def name_of(requirement: str) -> str:
    """Return the name of the package that a requirement asks for."""
    return re.split(r"[<>=~ ]", requirement)[0].lower().replace("_", "-")
