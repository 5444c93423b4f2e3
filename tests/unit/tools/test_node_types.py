"""The nodes' types are checked against the engine's, in a pack of two files."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mypy")

from tools.node_types import check

ENGINE = """
def count(text: str) -> int:
    return len(text)
"""
NODE = """
from comfy_api.latest import io

from ..janus_core import count


class Node(io.ComfyNode):
    size: int = count({})
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    for name, source in (("", ""), ("janus_core", ENGINE), ("nodes", NODE.format('"four"'))):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "__init__.py").write_text(source, encoding="utf-8")
    return tmp_path


def test_nodes_that_use_the_engine_rightly_pass(pack: Path) -> None:
    code, said = check(pack)
    assert (code, said.split(" in ")[0]) == (0, "Success: no issues found")


def test_nodes_that_use_the_engine_wrongly_are_named_by_their_place_in_the_repository(pack: Path) -> None:
    (pack / "nodes" / "__init__.py").write_text(NODE.format(4), encoding="utf-8")
    code, said = check(pack)
    assert code == 1
    assert 'nodes/__init__.py:8: error: Argument 1 to "count" has incompatible type "int"' in said
