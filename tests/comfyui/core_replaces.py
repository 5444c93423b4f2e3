"""Has core's own code rewrite prompts by our mappings, under the hash seed that the process was started with.

python core_replaces.py COMFYUI PACK OUT          once: writes the mappings that the server is given
python core_replaces.py COMFYUI MAPPINGS < PROMPTS    rewrites a list of prompts and prints them as JSON
"""

import importlib
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace

_PARTS = ("new_node_id", "old_node_id", "old_widget_ids", "input_mapping", "output_mapping")


def write_mappings(comfyui: Path, pack: Path, out: Path) -> None:
    """Write what `register` hands to core; the page's part is left to the server, which sends it."""
    sys.path.insert(0, str(comfyui))
    # packages without their contents: the table needs none of the nodes
    for name in ("pack", "pack.nodes", "pack.nodes.bridge"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(pack.joinpath(*name.split(".")[1:]))]
    replacing = importlib.import_module("pack.nodes.bridge.replacing")
    table = importlib.import_module("pack.nodes.other_packs").REPLACEMENTS
    entries = [replacing._entry(one) for one in table]
    out.write_text(json.dumps([{part: getattr(one, part) for part in _PARTS} for one in entries]))


def rewrite(comfyui: Path, mappings: Path) -> None:
    """Rewrite prompts by core's manager, with no node installed but the new ones."""
    sys.path.insert(0, str(comfyui))
    entries = [SimpleNamespace(**entry) for entry in json.loads(mappings.read_text())]
    nodes = types.ModuleType("nodes")  # of all of core's nodes the manager asks for the ids alone
    nodes.NODE_CLASS_MAPPINGS = {one.new_node_id: None for one in entries}
    sys.modules["nodes"] = nodes
    manager = importlib.import_module("app.node_replace_manager").NodeReplaceManager()
    for one in entries:
        manager.register(one)
    prompts = json.load(sys.stdin)
    for prompt in prompts:
        manager.apply_replacements(prompt)
    json.dump(prompts, sys.stdout)


if __name__ == "__main__":
    places = [Path(argument) for argument in sys.argv[1:]]
    if len(places) > 2:
        write_mappings(*places)
    else:
        rewrite(*places)
