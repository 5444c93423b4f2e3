"""The registry's archive: what git tracks, less what `.comfyignore` names. `python -m tools.archive OUT.zip`.

The same files as `comfy node pack` puts into its own, so that tests can install what people will get.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pathspec

ROOT = Path(__file__).parents[1]


def archived_files(root: Path = ROOT) -> list[str]:
    """Return the archive's files, relative to the project's folder.

    Raises:
        subprocess.CalledProcessError: the folder is no checkout; which files are tracked only git knows.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    lines = (root / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    ignored = pathspec.PathSpec.from_lines("gitignore", patterns)
    return [name for name in listed.stdout.split("\0") if name and not ignored.match_file(name)]


def write_archive(target: Path, root: Path = ROOT) -> None:
    """Write the archive."""
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for name in archived_files(root):
            archive.write(root / name, name)


def main() -> None:
    """Write the archive that the command line names, and say how large it is."""
    target = Path(sys.argv[1])
    write_archive(target)
    print(f"{target}: {len(archived_files())} files, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
