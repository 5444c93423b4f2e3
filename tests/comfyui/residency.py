"""Where a model's weights are, inside ComfyUI on a GPU: what evicts them, and what graphs do then.

    COMFYUI/.venv/bin/python tests/comfyui/residency.py COMFYUI [--model FOLDER] [--dynamic on|off]

Runs ComfyUI's memory manager in this process: whole and partial loads, an eviction between two draws, graphs
dropped and captured again, too little memory for a batch, and dynamic VRAM on and off, each of which is a
process of its own. Pictures must come out the same every time, in float32. Without a GPU the same checks walk
through on a CPU, where steps are repeated without graphs, nothing is evicted and lack of memory is feigned.
"""

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

PACK = Path(__file__).parents[2]
TINY = PACK / "tests" / "parity" / "golden" / "janus-tiny-bin"
_MB = 1e6
_SEED = 5
_ANSWER_TOKENS = 24


def enter_comfyui(comfyui: Path, is_cpu: bool, dynamic: bool) -> bool:
    """Make `comfy` and the pack, as `janus_pack`, importable, in `main.py`'s order and with its allocator.

    Returns: whether there is no GPU, or none is wanted.
    """
    sys.argv = sys.argv[:1]
    sys.path.insert(0, str(comfyui))
    importlib.import_module("comfy.options")
    args = importlib.import_module("comfy.cli_args").args
    if not is_cpu:
        importlib.import_module("cuda_malloc")  # which says to torch, before it is there, how to allocate
    if dynamic:
        control = importlib.import_module("comfy_aimdo.control")
        control.init()
    import torch

    args.cpu = is_cpu = is_cpu or not torch.cuda.is_available()
    for name in ("utils.install_util", "nodes", "server"):
        importlib.import_module(name)
    mm, mp = (importlib.import_module(f"comfy.{name}") for name in ("model_management", "model_patcher"))
    if dynamic and not is_cpu:  # a CPU has none of it
        devices = [device.index for device in mm.get_all_torch_devices()]
        try:
            is_there = control.init_devices((index, 0) for index in devices)
        except TypeError:  # its older protocol
            is_there = control.init_devices(devices)
        if not is_there:
            raise SystemExit("Dynamic VRAM cannot be switched on here.")
        mp.CoreModelPatcher = mp.ModelPatcherDynamic
        importlib.import_module("comfy.memory_management").aimdo_enabled = True
    package = types.ModuleType("janus_pack")
    package.__path__ = [str(PACK)]
    sys.modules["janus_pack"] = package
    return is_cpu


class Stage:
    """The model on a device, with what the checks need: draws, captures counted, memory filled."""

    def __init__(self, folder: Path, is_cpu: bool) -> None:
        import torch

        self.torch = torch
        self.is_cpu = is_cpu
        self.folder = folder
        self.mm = importlib.import_module("comfy.model_management")
        self.hosting = importlib.import_module("janus_pack.nodes.bridge.hosting")
        self.batching = importlib.import_module("janus_pack.nodes.bridge.batching")
        self.decoder = importlib.import_module("janus_pack.janus_core.generation.static_decoder")
        self.capturing = importlib.import_module("janus_pack.janus_core.generation.capturing")
        self.options = importlib.import_module("janus_pack.janus_core.options").TextOptions
        self.device = self.mm.get_torch_device()
        self.captures = 0
        self._count_captures()
        if is_cpu:
            self._take_the_way_of_a_gpu()

    def _take_the_way_of_a_gpu(self) -> None:
        """Have layers of ComfyUI, nothing packed, and steps with fixed buffers where the host allows it."""
        ops, devices = importlib.import_module("comfy.ops"), self.hosting.devices
        devices.layers = lambda is_fast, device: ops.disable_weight_init if is_fast else ops.manual_cast
        self.decoder.may_capture = lambda model, compute: compute.is_resident
        run, stepper = self.capturing.Stepper.run, self.capturing.Stepper

        def counted(stepping: Any, step: Any, key: int) -> None:
            if key and key not in vars(stepping).setdefault("seen", set()):
                stepping.seen.add(key)
                self.captures += 1
            run(stepping, step, key)

        stepper.run = counted

    def _count_captures(self) -> None:
        capture = self.capturing._Capturer._record

        def counted(capturer: Any, graph: Any, step: Any, pool: Any) -> None:
            capture(capturer, graph, step, pool)
            self.captures += 1

        self.capturing._Capturer._record = counted

    def host(self, residency: str, dtype: str = "float32") -> Any:
        """Load the model as the node does."""
        with self.torch.inference_mode():
            return self.hosting.host(self.folder, dtype, residency)

    def draw(self, model: Any, pictures: int = 1, together: int = 4) -> Any:
        """Draw and return the image tokens."""
        with self.torch.inference_mode():
            drawn = model.janus.draw("a red circle", num_images=pictures, seed=_SEED, batch_size=together)
        return drawn.tokens.grid

    def answer(self, model: Any) -> str:
        """Have a picture described in a set number of tokens, and return the text."""
        options = self.options(max_new_tokens=_ANSWER_TOKENS)
        picture = self.torch.linspace(0, 1, 64 * 64 * 3).view(64, 64, 3)
        with self.torch.inference_mode():
            [text] = model.janus.caption([picture], options=options)
        return str(text)

    def allocated(self) -> int:
        """Return the bytes that torch holds on the GPU; 0 on a CPU."""
        if self.is_cpu:
            return 0
        self.torch.cuda.synchronize()
        return self.torch.cuda.memory_allocated(self.device)

    @contextlib.contextmanager
    def filled(self, leave: int) -> Iterator[None]:
        """Fill the GPU but for some bytes while this lasts; on a CPU nothing is filled."""
        ballast = None
        if not self.is_cpu:
            self.mm.soft_empty_cache()
            free, _ = self.torch.cuda.mem_get_info(self.device)
            ballast = self.torch.empty(max(free - leave, 0), dtype=self.torch.uint8, device=self.device)
        try:
            yield
        finally:
            del ballast
            self.mm.soft_empty_cache()


def size_of(model: Any) -> int:
    """Return the bytes of the language part."""
    return int(model.patcher.model_size())


def check_whole_model_is_captured(stage: Stage) -> dict[str, Any]:
    """Fast draws with graphs, offload without, both the same picture."""
    fast, offload = stage.host("fast"), stage.host("offload")
    before = stage.captures
    started = time.perf_counter()
    expected = stage.draw(fast)
    seconds, captured = time.perf_counter() - started, stage.captures - before
    assert captured > 0, "nothing was captured"
    before = stage.captures
    assert stage.torch.equal(stage.draw(offload), expected)
    assert stage.captures == before, "streamed weights were captured"
    return {"captures": captured, "seconds": round(seconds, 3), "language_mb": size_of(fast) / _MB}


def check_graphs_are_dropped_and_captured_again(stage: Stage) -> dict[str, Any]:
    """Every execution captures anew, and none leaves memory behind."""
    model = stage.host("fast")
    first = stage.draw(model)
    held, captured = stage.allocated(), stage.captures
    for _ in range(3):
        assert stage.torch.equal(stage.draw(model), first)
    grown = stage.allocated() - held
    assert stage.captures > captured
    assert grown < 16 * _MB, f"{grown / _MB:.0f} MB are held after three further draws"
    return {"grown_mb": grown / _MB}


def check_eviction_between_two_draws(stage: Stage) -> dict[str, Any]:
    """ComfyUI unloads everything in between: the memory comes back, and so does the picture."""
    model = stage.host("fast")
    first = stage.draw(model)
    stage.mm.unload_all_models()
    left = stage.allocated()
    assert left < max(0.1 * size_of(model), 128 * _MB), f"{left / _MB:.0f} MB stayed on the device"
    assert stage.torch.equal(stage.draw(model), first)
    return {"left_mb": left / _MB}


def check_part_of_it_evicted_between_two_draws(stage: Stage) -> dict[str, Any]:
    """Another model takes half of the room: what ComfyUI frees must really be free."""
    model = stage.host("fast")
    first = stage.draw(model)
    before = stage.allocated()
    if not stage.is_cpu:
        model.patcher.partially_unload(model.patcher.offload_device, size_of(model) // 2)
        freed = before - stage.allocated()
        assert freed > 0.4 * size_of(model), f"only {freed / _MB:.0f} MB were freed"
    assert stage.torch.equal(stage.draw(model), first)
    return {"held_mb": before / _MB}


def check_too_little_room_for_all_weights(stage: Stage) -> dict[str, Any]:
    """With half the room the model runs partly streamed and without a graph, and draws the same."""
    model = stage.host("fast")
    first = stage.draw(model)
    stage.mm.unload_all_models()
    room = size_of(model) // 2 + stage.mm.minimum_inference_memory()
    before = stage.captures
    with stage.filled(leave=room):
        assert stage.torch.equal(stage.draw(model), first)
        captured = stage.captures - before
    if not stage.is_cpu:
        assert captured == 0, "a partly streamed model was captured"
    stage.mm.unload_all_models()
    before = stage.captures
    assert stage.torch.equal(stage.draw(model), first)
    assert stage.captures > before, "with room again nothing was captured"
    return {"room_mb": room / _MB}


def check_answers_between_draws(stage: Stage) -> dict[str, Any]:
    """Answer, draw, answer, draw: each the same as alone, fast with graphs and streamed without."""
    results = {}
    for residency in ("fast", "offload"):
        model = stage.host(residency)
        results[residency] = [stage.answer(model), stage.draw(model), stage.answer(model), stage.draw(model)]
        stage.mm.unload_all_models()
    text, grid, *_ = results["fast"]
    for said, drawn, said_again, drawn_again in results.values():
        assert said == said_again == text
        assert stage.torch.equal(drawn, grid)
        assert stage.torch.equal(drawn_again, grid)
    model = stage.host("fast")
    before = stage.captures
    stage.answer(model)
    assert stage.captures > before, "nothing was captured of an answer"
    return {"characters": len(text)}


def check_drawing_leaves_words_away(stage: Stage) -> dict[str, Any]:
    """A drawing holds less of the device than an answer does, by the words."""
    model = stage.host("fast")
    words = model.parts["words"]
    stage.draw(model)
    assert words not in [entry.model for entry in stage.mm.current_loaded_models]
    drawn, size = stage.allocated(), int(words.model_size())
    with stage.torch.inference_mode():
        model.janus.ask("What?", options=stage.options(max_new_tokens=1))
    assert words in [entry.model for entry in stage.mm.current_loaded_models]
    answering = stage.allocated()
    if not stage.is_cpu:
        assert answering - drawn > 0.9 * size, f"only {(answering - drawn) / _MB:.0f} MB more to answer"
    return {"words_mb": size / _MB, "drawn_mb": drawn / _MB, "answering_mb": answering / _MB}


def check_streamed_words(stage: Stage) -> dict[str, Any]:
    """Words with too little room are streamed and without a graph, and say and draw the same."""
    model = stage.host("fast")
    text, grid = stage.answer(model), stage.draw(model)
    words = model.parts["words"]
    stage.mm.unload_all_models()
    stage.draw(model)
    before = stage.captures
    with streamed(words):
        assert stage.answer(model) == text
        captured = stage.captures - before
        assert stage.torch.equal(stage.draw(model), grid)
    assert captured == 0, "streamed words were captured"
    stage.mm.unload_all_models()
    assert stage.answer(model) == text
    return {"words_mb": words.model_size() / _MB}


@contextlib.contextmanager
def streamed(patcher: Any) -> Iterator[None]:
    """Let ComfyUI stream one part, as if there were room for half of it; on a CPU it never would."""
    load = patcher.load

    def half(*args: Any, **kwargs: Any) -> None:
        load(*args, **{**kwargs, "lowvram_model_memory": patcher.model_size() // 2, "full_load": False})
        assert patcher.model.model_lowvram

    with mock.patch.object(patcher, "load", half):
        yield


def check_too_little_memory_for_a_batch(stage: Stage) -> dict[str, Any]:
    """A batch that does not fit is halved until it does, with the same pictures."""
    model, pictures = stage.host("fast"), 8
    expected = stage.draw(model, pictures, together=1)
    tried: list[int] = []

    def run(together: int) -> Any:
        tried.append(together)
        return stage.draw(model, pictures, together)

    with contextlib.ExitStack() as stack:
        if stage.is_cpu:
            stack.enter_context(feigned_shortage(stage, rows=4))
        else:
            core = importlib.import_module("janus_pack.janus_core")
            needs = [core.draw_bytes(model.janus.config, count, 128, stage.torch.float32) for count in (2, 8)]
            stack.enter_context(stage.filled(leave=sum(needs) // 2))
            stack.enter_context(mock.patch.object(stage.mm, "load_models_gpu"))  # it would make room
        found = stage.batching.in_batches(run, pictures)
    assert stage.torch.equal(found, expected)
    assert len(tried) > 1, "everything fitted at once"
    return {"tried": tried}


@contextlib.contextmanager
def feigned_shortage(stage: Stage, rows: int) -> Iterator[None]:
    """Let a CPU run out of memory whenever a cache has more than some rows."""
    cache = importlib.import_module("janus_pack.janus_core.model.kv_cache").KVCache
    select = cache.select

    def refuse(self: Any, index: Any) -> Any:
        if len(index) > rows:
            raise stage.torch.OutOfMemoryError("CUDA out of memory")
        return select(self, index)

    with mock.patch.object(cache, "select", refuse):
        yield


def check_forbidden_graphs(stage: Stage) -> dict[str, Any]:
    """`--disable-cuda-graphs` is obeyed."""
    model = stage.host("fast")
    expected, before = stage.draw(model), stage.captures
    args = importlib.import_module("comfy.cli_args").args
    with mock.patch.object(args, "disable_cuda_graphs", True, create=True):
        assert stage.torch.equal(stage.draw(model), expected)
    assert stage.captures == before
    return {}


def run_checks(folder: Path, is_cpu: bool) -> int:
    """Run every check and print a line for each; returns how many failed."""
    failed = 0
    checks = [check for name, check in globals().items() if name.startswith("check_")]
    for check in checks:
        stage = Stage(folder, is_cpu)
        try:
            print(f"ok    {check.__name__} {json.dumps(check(stage))}", flush=True)
        except Exception:  # noqa: BLE001 - all checks are to be told
            failed += 1
            print(f"FAIL  {check.__name__}\n{traceback.format_exc()}", flush=True)
        stage.mm.unload_all_models()
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comfyui", type=Path)
    parser.add_argument(
        "--model", type=Path, help="a model folder; default: a random one of 1.9 GB, on a CPU the tiny one"
    )
    parser.add_argument("--dynamic", choices=("on", "off"), help="default: each in a process of its own")
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    arguments = parser.parse_args()
    if arguments.dynamic is None:
        codes = []
        for dynamic in ("off", "on"):
            print(f"dynamic VRAM {dynamic}", flush=True)
            command = [sys.executable, *sys.argv, "--dynamic", dynamic]
            codes.append(subprocess.run(command, check=False).returncode)
        return max(codes)
    is_cpu = enter_comfyui(arguments.comfyui, arguments.cpu, arguments.dynamic == "on")
    import torch

    torch.backends.cudnn.allow_tf32 = False  # the same pictures, not nearly
    if arguments.model is not None or is_cpu:
        return run_checks(arguments.model or TINY, is_cpu)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "wide"
        writer = Path(__file__).with_name("write_random_model.py")
        subprocess.run(
            [sys.executable, writer, model, "--wide"], check=True, env=os.environ | {"PYTHONPATH": str(PACK)}
        )
        return run_checks(model, is_cpu)


if __name__ == "__main__":
    sys.exit(main())
