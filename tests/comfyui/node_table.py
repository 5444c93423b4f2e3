"""Writes what a running ComfyUI says of the nodes: `python node_table.py http://127.0.0.1:8188`.

The page docs/nodes.md for people, and locales/en/nodeDefs.json, from which translations start.
"""

import json
import sys
import urllib.request
from pathlib import Path

_PACK = Path(__file__).parents[2]
DOCS = _PACK / "docs" / "nodes.md"
LOCALE = _PACK / "locales" / "en" / "nodeDefs.json"
HEAD = """# The nodes

Written by `tests/comfyui/node_table.py` from the nodes' own schemas, and held against them by a test. *Optional* inputs
may stay unconnected, and be left out of prompts sent by API; *advanced* ones hide behind "Show advanced inputs" on newer ComfyUI.
"""  # noqa: E501 - as wide as the page


def render(object_info: dict) -> str:
    """Return the page for `/object_info` of the pack's nodes."""
    parts = [HEAD]
    for name, node in object_info.items():
        parts.append(f"\n## {node['display_name']} (`{name}`)\n\n{node['description']}\n")
        rows = [
            _input_row(input_id, spec, kind)
            for kind in ("required", "optional")
            for input_id, spec in node["input"].get(kind, {}).items()
        ]
        parts.append("\n| input | type | default | range or choices | what it does |\n|---|---|---|---|---|")
        parts += rows
        if node["output"]:
            parts.append("\n| output | type | what it is |\n|---|---|---|")
            outputs = zip(
                node["output_name"],
                node["output"],
                node["output_is_list"],
                node["output_tooltips"],
                strict=True,
            )
            parts += [
                f"| {n} | {t}{', a list' if is_list else ''} | {tip} |" for n, t, is_list, tip in outputs
            ]
    return "\n".join(parts) + "\n"


def _input_row(input_id: str, spec: list, kind: str) -> str:
    options = spec[1] if len(spec) > 1 else {}
    marks = [
        mark
        for mark, is_set in (("optional", kind == "optional"), ("advanced", options.get("advanced")))
        if is_set
    ]
    named = f"`{input_id}`" + (f" ({', '.join(marks)})" if marks else "")
    choices = options.get("options") or (spec[0] if isinstance(spec[0], list) else None)
    if input_id in ("model", "adapter", "file") and choices:
        allowed, default = "what is installed", ""
    elif choices:
        allowed, default = (
            ", ".join(str(choice) for choice in choices),
            str(options.get("default", choices[0])),
        )
    elif "min" in options:
        step = f", step {options['step']}" if "step" in options else ""
        allowed, default = f"{options['min']} … {options['max']}{step}", str(options.get("default", ""))
    else:
        allowed, default = "", str(options.get("default", "")).replace("\n", " ")
    kind_name = "COMBO" if choices else spec[0]
    return f"| {named} | {kind_name} | {default} | {allowed} | {options.get('tooltip', '')} |"


def locale(object_info: dict) -> dict:
    """Return every text of the nodes that a page shows, in the shape of ComfyUI's locale files."""
    return {name: _texts(node) for name, node in object_info.items()}


def _texts(node: dict) -> dict:
    inputs = {
        input_id: {
            "name": spec[1].get("display_name") or input_id,
            "tooltip": spec[1]["tooltip"],
        }
        for kind in ("required", "optional")
        for input_id, spec in node["input"].get(kind, {}).items()
    }
    outputs = zip(node["output_name"], node["output_tooltips"], strict=True)
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": inputs,
        "outputs": {str(i): {"name": name, "tooltip": tip} for i, (name, tip) in enumerate(outputs)},
    }


def fetch(base: str) -> dict:
    """Return `/object_info` of the pack's nodes, in the order of the extension."""
    with urllib.request.urlopen(f"{base}/object_info") as reply:
        everything = json.load(reply)
    return {name: node for name, node in everything.items() if name.startswith("Janus")}


if __name__ == "__main__":
    nodes = fetch(sys.argv[1])
    DOCS.write_text(render(nodes), encoding="utf-8")
    LOCALE.write_text(json.dumps(locale(nodes), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
