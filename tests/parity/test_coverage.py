"""Keeps golden data and tests together: a tensor that no test reads is no proof of anything."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from torch import Tensor

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


def keys_read(path: Path, table: str) -> set[str]:
    """Return a pattern for each `table["…"]` and `table[f"…"]` in a test file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == table:
            parts = node.slice.values if isinstance(node.slice, ast.JoinedStr) else [node.slice]
            found.add(
                "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else "[^.]+" for p in parts)
            )
    return found


def unread(golden: dict[str, Tensor], table: str) -> list[str]:
    patterns = [re.compile(key) for path in TESTS for key in keys_read(path, table)]
    return [key for key in golden if not any(p.fullmatch(key) for p in patterns)]


def test_every_golden_tensor_is_read_by_a_test(golden: dict[str, Tensor]) -> None:
    assert unread(golden, "golden") == []


def test_every_golden_tensor_of_janusflow_is_read_by_a_test(flow_golden: dict[str, Tensor]) -> None:
    assert unread(flow_golden, "flow_golden") == []
