"""Check the types of the nodes where ComfyUI puts them: inside a package, beside the engine.

The nodes import the engine relatively, one level above their own top folder, which mypy cannot follow in the
repository itself. So the sources are copied below a package of a temporary folder and checked there, against
the engine's real types. ComfyUI itself need not be installed: its modules are named in pyproject.toml.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACK = "pack"
_CHECKED = ("nodes", "janus_core")


def copy_pack(target: Path, root: Path = ROOT) -> Path:
    """Copy the sources that ComfyUI imports into `target` as one package; returns its folder."""
    pack = target / PACK
    pack.mkdir()
    shutil.copy2(root / "__init__.py", pack)  # times stay as they are, which spares mypy a second reading
    for name in _CHECKED:
        for source in (root / name).rglob("*.py"):
            copy = pack / source.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    return pack


def check(root: Path = ROOT) -> tuple[int, str]:
    """Run mypy over a copy of the pack; returns its exit code and its output, with the repository's paths."""
    with tempfile.TemporaryDirectory() as folder:
        copy_pack(Path(folder), root)
        command = [sys.executable, "-m", "mypy", "--package", PACK]
        command += ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(root / ".mypy_cache")]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, "\n".join(line.removeprefix(f"{PACK}/") for line in lines)


def main() -> int:
    """Print what mypy says and return its exit code."""
    code, said = check()
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
