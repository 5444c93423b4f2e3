"""The page of compatibility says what was run, and says so of what was not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import matrix
from tools.environments import Environment
from tools.install_group import read_toml
from tools.matrix import PAGE, ROWS, Result, closing_line, page, read_results, requirements_of

ROOT = Path(__file__).parents[3]
DONE = Result(
    day="2026-01-02",
    commit="abc1234",
    versions={"python": "3.12.1", "torch": "2.11.0", "transformers": "5.1", "numpy": "2.3"},
    tests="7 passed, 1 skipped",
    smoke="3 passed",
    elapsed_s=9,
)


def line_of(name: str, text: str) -> str:
    [found] = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return found


def test_the_page_is_the_one_that_the_results_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read_results()), "run python -m tools.matrix"


def test_every_result_is_of_a_row() -> None:
    assert set(read_results()) <= {row.name for row in ROWS}


def test_every_python_that_is_promised_has_a_row() -> None:
    classifiers = read_toml(ROOT / "pyproject.toml")["project"]["classifiers"]
    promised = {text.rpartition(" ")[2] for text in classifiers if ":: Python :: 3" in text}
    assert promised <= {row.python for row in ROWS if row.theme == "Python"}


def test_the_oldest_comfyui_that_is_promised_has_a_row() -> None:
    promised = read_toml(ROOT / "pyproject.toml")["tool"]["comfy"]["requires-comfyui"]
    assert promised.removeprefix(">=") in {row.comfyui for row in ROWS}


def test_a_row_shows_its_versions_and_results() -> None:
    line = line_of("python-3.12", page({"python-3.12": DONE}))
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "python-3.12", "3.12.1", "2.11.0", "5.1", "2.3", "0.33.0", "7 passed, 1 skipped", "3 passed",
        "2026-01-02, abc1234",
    ]  # fmt: skip


def test_a_row_that_was_not_run_says_so_in_as_many_cells() -> None:
    text = page({"python-3.12": DONE})
    assert "not run" in line_of("python-3.13", text)
    assert line_of("python-3.13", text).count("|") == line_of("python-3.12", text).count("|")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("....\n7 passed, 1 skipped in 3.21s", "7 passed, 1 skipped"),
        ("==== 7 passed in 63.21s (0:01:03) ====", "7 passed"),
        ("E   ValueError: no\n1 failed, 6 passed in 3.21s", "failed: 1 failed, 6 passed ValueError: no"),
        ("E   ImportError: gone\n1 error in 0.21s", "failed: 1 error ImportError: gone"),
        ("", "failed: did not end"),
    ],
)
def test_a_run_is_told_by_its_closing_line(output: str, said: str) -> None:
    assert closing_line(output) == said


def test_the_torch_family_is_not_taken_from_a_release(tmp_path: Path) -> None:
    asked = "torch\ntorchvision\ntransformers>=4.50.3\n\n# not essential:\npydantic~=2.0\n"
    (tmp_path / "requirements.txt").write_text(asked, encoding="utf-8")
    assert requirements_of(tmp_path) == ["transformers>=4.50.3", "pydantic~=2.0"]


def test_an_environment_tells_what_is_in_it(tmp_path: Path) -> None:
    made = Environment(tmp_path / "venv", sys.executable)
    versions = made.versions(["pip", "torch"])
    assert set(versions) == {"python", "pip"}
    assert versions["python"].startswith("{}.{}.".format(*sys.version_info[:2]))
    assert made.site.is_relative_to(tmp_path)
    there = ["pip", f"pip=={versions['pip']}", "pip==0.1", "none-of-that-name", "pip>=1"]
    assert made.has(there) == [True, True, False, False, True]


def test_a_row_that_is_unknown_is_refused() -> None:
    command = [sys.executable, "-m", "tools.matrix", "python-2.7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "python-2.7" in done.stderr


def test_the_tests_that_are_run_are_there() -> None:
    named = [
        name
        for name in (*matrix.TESTS, *matrix.FEWER_TESTS, *matrix.SMOKE)
        if re.fullmatch(r"[\w/.]+", name) and "/" in name
    ]
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []
