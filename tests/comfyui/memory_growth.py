"""Does the server's memory grow run after run? `python memory_growth.py --runs 50` tells.

Every run loads two forms of one model, whose pictures have the published size, and another pack's module
between them, asks both and draws. With `--rough` it draws with the tiny model instead, which takes seconds
instead of minutes and would show the same leaks but those of the large VQ decoder.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from comfy_client import Client
from comfy_server import PACK, Server, find_comfyui, run_project_python
from graphs import Graph

_GOLDEN = PACK / "tests" / "parity" / "golden" / "janus-tiny-bin"


def furnish(base: Path) -> None:
    """Install the tiny and the random model."""
    shutil.copytree(_GOLDEN, base / "models" / "janus" / "janus-tiny")
    run_project_python(
        Path(__file__).with_name("write_random_model.py"), base / "models" / "janus" / "janus-random"
    )


def one_run(client: Client, index: int, is_rough: bool) -> int:
    """Do everything once, anew, and return the resident memory afterwards in KiB."""
    graph = Graph()
    first, second = graph.load(model="janus-random"), graph.load(model="janus-random", dtype="bfloat16")
    picture = [graph.add("JanusTestOtherModel", image=graph.made("pattern"), seed=index), 0]
    graph.add("JanusAsk", model=first, image=picture, seed=index, max_new_tokens=8)
    graph.add("JanusAsk", model=second, image=picture, seed=index, max_new_tokens=8)
    drawing = graph.load() if is_rough else first
    graph.saved([graph.add("JanusDraw", model=drawing, seed=index), 0])
    run = client.run(graph)
    assert run.error is None, run.error
    return int(client.get("/janus_test/memory")["resident"])


def measure(client: Client, runs: int, is_rough: bool) -> list[int]:
    """Return the resident memory in KiB after each run."""
    return [one_run(client, index, is_rough) for index in range(runs)]


def growth(resident: list[int]) -> float:
    """Return by what share the memory of the last runs exceeds that of run 5 and its neighbours."""
    return statistics.median(resident[-3:]) / statistics.median(resident[3:6]) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--rough", action="store_true")
    arguments = parser.parse_args()
    comfy = find_comfyui()
    assert comfy is not None
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        options = ["--cache-classic"]  # else ComfyUI keeps old outputs until memory is short
        server = Server(comfy, base, [PACK / "tests/comfyui/packs/janus-test-tools"], further_options=options)
        furnish(base)
        server.start()
        try:
            with Client(server.url) as client:
                resident = measure(client, arguments.runs, arguments.rough)
        finally:
            server.stop()
    print(f"ComfyUI {comfy.version}, resident MiB after each run:", [kib // 1024 for kib in resident])
    print(f"growth from run 5 to run {arguments.runs}: {growth(resident):+.2%}")


if __name__ == "__main__":
    main()
