"""What the pack was run with: `python -m tools.matrix ROW...` runs rows and writes docs/compatibility.md.

A row is one environment, made in a folder of its own and removed afterwards: the tests that tell most, by
that environment's Python, then a real ComfyUI of the row's release that draws and answers. Interpreters,
releases and a frontend are named on the command line; without rows the page alone is written.

    python -m tools.matrix python-3.12 --python 3.12=/usr/bin/python3.12 --comfyui 0.33.0=../ComfyUI
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from .environments import Environment, name_of

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "compatibility.json"
PAGE = ROOT / "docs" / "compatibility.md"
TESTS = ("tests/parity", "tests/unit/test_bundled_model.py")
FEWER_TESTS = (
    "tests/parity/test_drawing.py",
    "tests/parity/test_tokenizer.py",
    "tests/unit/test_bundled_model.py",
)
SMOKE = ("tests/comfyui/test_smoke.py", "-k", "folder")
_NEEDED = ("pytest>=8", "websocket-client")
_TORCHES = ("torch", "torchvision", "torchaudio")
_PATIENCE_S = 3600


@dataclass(frozen=True, kw_only=True)
class Row:
    """An environment that is claimed to work.

    Attributes:
        name: on the command line and in the results.
        theme: which table of the page it is in.
        python: version of the interpreter.
        packages: requirements that make the row what it is; everything else is the newest.
        comfyui: release of the server, or empty where only the engine is tested.
        tests: what is run beside the server: fewer where the engine's surroundings are those of another row.
    """

    name: str
    theme: str
    python: str = "3.11"
    packages: tuple[str, ...] = ()
    comfyui: str = "0.33.0"
    tests: tuple[str, ...] = TESTS


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a row: when, with which versions, how many tests passed; a failure in its own words."""

    day: str
    commit: str
    versions: dict[str, str]
    tests: str
    smoke: str
    elapsed_s: int


def _transformers(version: str) -> Row:
    packages = (f"transformers=={version}",) if version != "newest" else ("transformers",)
    return Row(name=f"transformers-{version}", theme="transformers", packages=packages, comfyui="")


def _comfyui(name: str, release: str, *packages: str) -> Row:
    return Row(name=name, theme="ComfyUI", packages=packages, comfyui=release, tests=FEWER_TESTS)


ROWS = (
    *(Row(name=f"python-{v}", theme="Python", python=v) for v in ("3.10", "3.11", "3.12", "3.13", "3.14")),
    *(_transformers(version) for version in ("4.50.3", "4.57.6", "5.0.0", "newest")),
    Row(name="torch-oldest", theme="torch", packages=("torch==2.4.1", "transformers==4.57.6"), comfyui=""),
    Row(name="torch-2.13", theme="torch", packages=("torch==2.13.0",), comfyui=""),
    Row(name="torch-newest", theme="torch", packages=("torch==2.15.0",), comfyui=""),
    *(_comfyui(f"comfyui-{release}", release) for release in ("0.3.64", "0.8.0", "0.33.0")),
    _comfyui("page-1.58.1", "0.33.0", "comfyui-frontend-package==1.58.1"),
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine has to offer.

    Attributes:
        interpreters: by their version.
        releases: folders of ComfyUI by their release.
        beneath: site-packages of an environment to build upon, for rows of its Python; it stays as it is.
        libraries: the folder `nvidia` of an installed torch, so that torch alone is fetched for a row.
        torch: what to install for torch where a row does not say.
        uv: an installer that is faster than pip, where there is one.
    """

    interpreters: Mapping[str, str]
    releases: Mapping[str, Path]
    beneath: Path | None = None
    libraries: Path | None = None
    torch: tuple[str, ...] = _TORCHES
    uv: str | None = None


def requirements_of(release: Path) -> list[str]:
    """Return what a release of ComfyUI asks for, less the torch family, which comes first and alone."""
    lines = (release / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = [line.split("#")[0].strip() for line in lines]
    return [line for line in asked if line and name_of(line) not in _TORCHES]


def prepare(row: Row, folder: Path, machine: Machine) -> Environment:
    """Make a row's environment."""
    made = Environment(folder, machine.interpreters[row.python], machine.uv)
    is_upon = machine.beneath is not None and f"python{row.python}" in machine.beneath.parts
    if is_upon:
        (made.site / "beneath.pth").write_text(f"{machine.beneath}\n", encoding="utf-8")
    own_torch = [one for one in row.packages if one.startswith("torch==")]
    if own_torch or not is_upon:
        family = own_torch or machine.torch
        if machine.libraries is not None:
            (made.site / "nvidia").symlink_to(machine.libraries, target_is_directory=True)
            made.install(*family, alone=True)
            made.install(
                "filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec", "setuptools"
            )
        else:
            made.install(*family)
    asked = requirements_of(machine.releases[row.comfyui]) if row.comfyui else []
    engine = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    wanted = {name_of(one): one for one in (*engine, *asked, *row.packages) if name_of(one) not in _TORCHES}
    needed = [*wanted.values(), *_NEEDED]
    made.install(*(one for one, is_there in zip(needed, made.has(needed), strict=True) if not is_there))
    return made


def closing_line(output: str) -> str:
    """Return what pytest says at its end, or the first error; of a run without either, its last line."""
    lines = output.strip().splitlines()
    closing = re.search(r"=* ?((?:\d+ \w+,? ?)+) in [\d.]+s", lines[-1] if lines else "")
    first = next((line for line in lines if re.match(r"E  +\S", line)), "")
    if closing and not re.search(r"failed|error", closing[1]):
        return closing[1].strip()
    said = " ".join(
        part for part in (closing[1].strip() if closing else "did not end", first[1:].strip()) if part
    )
    return f"failed: {said[:200]}"


def run_tests(python: str, tests: Sequence[str], further: Mapping[str, str]) -> str:
    """Run tests and return pytest's closing line."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    given = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **os.environ, **further}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=given, timeout=_PATIENCE_S
    )
    return closing_line(done.stdout or done.stderr)


def run_row(row: Row, machine: Machine) -> Result:
    """Make a row's environment, run its tests, remove it."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="janus-matrix-"))
    try:
        made = prepare(row, folder / "venv", machine)
        versions = made.versions(["torch", "transformers", "numpy", "pillow", "comfyui-frontend-package"])
        tests = run_tests(str(made.python), row.tests, {})
        smoke = ""
        if row.comfyui:
            release = machine.releases[row.comfyui]
            named = {"COMFYUI_PATH": str(release), "COMFYUI_PYTHON": str(made.python)}
            named["COMFYUI_START_S"] = str(_PATIENCE_S // 2)  # beside other work a server starts slowly
            smoke = run_tests(sys.executable, SMOKE, named)
    finally:
        shutil.rmtree(folder)
    return Result(
        day=date.today().isoformat(),
        commit=_commit(),
        versions=versions,
        tests=tests,
        smoke=smoke,
        elapsed_s=round(time.monotonic() - started),
    )


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


_ALL, _FEWER = (", ".join(f"`{test}`" for test in tests) for tests in (TESTS, FEWER_TESTS))
_INTRODUCTION = f"""# What it was run with

Every row is an environment of its own, made and removed by `python -m tools.matrix`, which writes this page.
*Tests* are those that tell most, on the row's Python: {_ALL}, that is every tensor and token of the reference
data and the bundled model; transformers itself is compared from 5.0 on, whose own drawing fails in 5.0.0,
since it leaves its defaults empty. Rows of ComfyUI, whose Python and
torch are those of the row `python-3.11`, run fewer: {_FEWER}.

*In ComfyUI* is a real server of the release with its page, on a CPU: it loads the pack without a word, draws
two pictures and answers about them (`tests/comfyui/test_smoke.py`).
"""
_SHOWN = {"python": "Python", "torch": "torch", "transformers": "transformers", "numpy": "numpy"}


def _line(row: Row, result: Result | None) -> str:
    if result is None:
        return (
            f"| {row.name} |"
            + " |" * len(_SHOWN)
            + f" {row.comfyui} | not run | {'not run' * bool(row.comfyui)} | |"
        )
    versions = " | ".join(result.versions.get(name, "") for name in _SHOWN)
    frontend = result.versions.get("comfyui-frontend-package", "")
    server = f"{row.comfyui}, page {frontend}" if row.comfyui and frontend else row.comfyui
    cells = [row.name, versions, server, result.tests, result.smoke, f"{result.day}, {result.commit}"]
    return f"| {' | '.join(cells)} |"


def page(results: Mapping[str, Result]) -> str:
    """Return the page: a table for each theme."""
    parts = [_INTRODUCTION]
    for theme in dict.fromkeys(row.theme for row in ROWS):
        rows = [_line(row, results.get(row.name)) for row in ROWS if row.theme == theme]
        titles = [
            "row",
            *_SHOWN.values(),
            "ComfyUI",
            "tests",
            "in ComfyUI",
            "when, commit",
        ]
        parts.append(
            f"## {theme}\n\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def read_results() -> dict[str, Result]:
    """Return what is known, by the name of the row."""
    if not RESULTS.exists():
        return {}
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {name: Result(**result) for name, result in content.items()}


def keep(results: Mapping[str, Result]) -> None:
    """Write results and page."""
    content = {name: asdict(result) for name, result in sorted(results.items())}
    RESULTS.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


def _pairs(values: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in values)}


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the pack in other environments, one after the other.")
    parser.add_argument("rows", nargs="*", choices=[[], *(row.name for row in ROWS)], metavar="ROW")
    parser.add_argument("--python", action="append", default=[], metavar="VERSION=PATH")
    parser.add_argument("--comfyui", action="append", default=[], metavar="RELEASE=FOLDER")
    parser.add_argument("--beneath", type=Path, help="site-packages of an environment to build upon")
    parser.add_argument("--libraries", type=Path, help="folder nvidia of an installed torch, to be shared")
    parser.add_argument("--uv", help="an installer that is faster than pip")
    parser.add_argument("--torch", nargs="+", default=_TORCHES, help="requirements of the torch family")
    return parser.parse_args()


def main() -> None:
    """Run the rows that the command line names, and keep each result as it comes."""
    given = _parsed()
    machine = Machine(
        interpreters={"{}.{}".format(*sys.version_info[:2]): sys.executable, **_pairs(given.python)},
        releases={name: Path(folder).resolve() for name, folder in _pairs(given.comfyui).items()},
        beneath=given.beneath,
        libraries=given.libraries,
        torch=tuple(given.torch),
        uv=given.uv,
    )
    results = read_results()
    for row in (row for row in ROWS if row.name in given.rows):
        results[row.name] = run_row(row, machine)
        print(f"{row.name}: {results[row.name].tests}; {results[row.name].smoke}")
        keep(results)
    keep(results)


if __name__ == "__main__":
    main()
