"""What saved workflows and prompts rely on: `python node_snapshot.py http://127.0.0.1:8188` freezes it anew.

Do so only after adding a node, or an optional input at the end of one; all else breaks what people saved.
"""

import json
import sys
from pathlib import Path

from node_table import fetch

SNAPSHOT = Path(__file__).with_name("snapshot.json")
_KEPT = (
    "default",
    "min",
    "max",
    "step",
    "round",
    "multiline",
    "control_after_generate",
    "advanced",
    "forceInput",
)
_INSTALLED = {
    ("JanusLoad", "model"),
    ("JanusLoRA", "adapter"),
    ("JanusLoadTokens", "file"),
}  # differ by place


def frozen(name: str, node: dict) -> dict:
    """Return what a saved workflow or prompt relies on."""
    inputs = []
    for kind in ("required", "optional"):
        for input_id, spec in node["input"].get(kind, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            choices = spec[0] if isinstance(spec[0], list) else options.get("options")
            entry = {"id": input_id, "type": "COMBO" if choices else spec[0], "optional": kind == "optional"}
            entry |= {key: options[key] for key in _KEPT if key in options}
            if choices and (name, input_id) not in _INSTALLED:
                entry["choices"] = choices
            inputs.append(entry)
    outputs = [
        {"name": output, "type": kind, "is_list": is_list}
        for output, kind, is_list in zip(
            node["output_name"], node["output"], node["output_is_list"], strict=True
        )
    ]
    return {"inputs": inputs, "outputs": outputs, "is_output_node": node["output_node"]}


if __name__ == "__main__":
    ours = {
        n: node for n, node in fetch(sys.argv[1]).items() if node["python_module"].endswith("janus-nodes")
    }
    SNAPSHOT.write_text(
        json.dumps({n: frozen(n, node) for n, node in ours.items()}, indent=1) + "\n", encoding="utf-8"
    )
