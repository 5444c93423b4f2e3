"""Runs every `check_…` beside this file by ComfyUI's own Python and writes what came of each as JSON.

    python run.py COMFYUI PACK MODELS RESULTS

The pack is imported as ComfyUI does it, as a package of another name; its root is never on the path.
"""

import importlib
import json
import sys
import traceback
import types
from pathlib import Path


def enter_comfyui(comfyui: Path, pack: Path) -> None:
    """Make `comfy`, core's `nodes` and the pack, as `janus_pack`, importable, on the CPU."""
    sys.argv = sys.argv[:1]
    sys.path.insert(0, str(comfyui))
    importlib.import_module("comfy.options")  # before the arguments are read
    importlib.import_module("comfy.cli_args").args.cpu = True
    # Core's nodes hide `utils` behind another module of that name, so the server's part comes first.
    for name in ("utils.install_util", "nodes", "server"):
        importlib.import_module(name)

    package = types.ModuleType("janus_pack")
    package.__path__ = [str(pack)]
    sys.modules["janus_pack"] = package


def imported_by_nodes() -> list[str]:
    """Return the packages that importing the nodes brings in where core is there already."""
    before = set(sys.modules)
    importlib.import_module("janus_pack.nodes")
    return sorted({name.partition(".")[0] for name in set(sys.modules) - before})


def run_checks(models: Path) -> dict[str, str | None]:
    """Return by check None or why it failed."""
    results: dict[str, str | None] = {}
    for file in sorted(Path(__file__).parent.glob("checks_*.py")):
        module = importlib.import_module(file.stem)
        for name in [name for name in vars(module) if name.startswith("check_")]:
            try:
                getattr(module, name)(models)
                results[name] = None
            except BaseException:  # noqa: BLE001 - an interrupt is one in newer releases
                results[name] = traceback.format_exc()
    return results


if __name__ == "__main__":
    comfyui, pack, models, out = (Path(argument) for argument in sys.argv[1:5])
    enter_comfyui(comfyui, pack)
    imported = imported_by_nodes()
    # as the pack does when ComfyUI loads it
    importlib.import_module("folder_paths").add_model_folder_path("janus", str(models))
    out.write_text(json.dumps({"imported": imported, "checks": run_checks(models)}), encoding="utf-8")
