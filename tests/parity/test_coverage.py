"""Keeps golden data and tests together: a tensor that no test reads is no proof of anything."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from torch import Tensor

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


def keys_read(path: Path) -> set[str]:
    """Return a pattern for each `golden["…"]` and `golden[f"…"]` in a test file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "golden":
            parts = node.slice.values if isinstance(node.slice, ast.JoinedStr) else [node.slice]
            found.add(
                "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else "[^.]+" for p in parts)
            )
    return found


def test_every_golden_tensor_is_read_by_a_test(golden: dict[str, Tensor]) -> None:
    patterns = [re.compile(key) for path in TESTS for key in keys_read(path)]
    assert [key for key in golden if not any(p.fullmatch(key) for p in patterns)] == []
