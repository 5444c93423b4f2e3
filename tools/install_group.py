"""Install dependency groups of pyproject.toml with any pip: `python tools/install_group.py test`.

`pip install --group` does the same from pip 25.1 on; the pip that Python 3.10 to 3.13 put into a new
environment may be older.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; Python 3.10 has no parser, so there pip lends its copy."""
    if sys.version_info >= (3, 11):
        import tomllib as toml
    else:
        from pip._vendor import tomli as toml
    content: dict[str, Any] = toml.loads(path.read_text(encoding="utf-8"))
    return content


def requirements(*names: str, pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """Return the requirements of dependency groups, in order.

    Raises:
        SystemExit: there is no such group; the message lists those there are.
    """
    groups: dict[str, list[str]] = read_toml(pyproject)["dependency-groups"]
    unknown = [name for name in names if name not in groups]
    if unknown or not names:
        raise SystemExit(f"Name dependency groups of {pyproject.name}, of {', '.join(groups)}; got {names}.")
    return [requirement for name in names for requirement in groups[name]]


def main() -> int:
    """Install the groups named on the command line into this interpreter; returns pip's exit code."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.run([*command, *requirements(*sys.argv[1:])], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
