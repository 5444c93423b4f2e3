"""Writes the templates anew, as `python -m tools.templates http://127.0.0.1:8188` with a running ComfyUI.

Once a node's inputs change, this brings all templates, and what the browser tests expect of them, up to date.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

from .graph import page_file, prompt
from .known import ALL

_PACK = Path(__file__).parents[2]
_WORKFLOWS = _PACK / "workflows"
_SENT = _PACK / "tests" / "browser" / "golden"


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Write every template and what the page sends for it; remove those that are no more."""
    with urllib.request.urlopen(f"{sys.argv[1]}/object_info") as reply:
        schemas = json.load(reply)
    for name, template in ALL.items():
        _write(_WORKFLOWS / f"{name}.json", page_file(template, schemas))
        _write(_SENT / f"{name}.json", prompt(template, schemas))
    for folder in (_WORKFLOWS, _SENT):
        for path in folder.glob("*.json"):
            if path.stem not in ALL:
                path.unlink()


if __name__ == "__main__":
    main()
