"""What quantising costs and gains: `python -m benchmarks.quantised quality MODEL`, or `… steps`.

*quality* converts a model to every kind and prints, for each, how near its scores stay to the source's, after
how many greedy tokens text and picture differ, and, for a model of the small world, how many drawings and
answers are right. *steps* times one decoder step at the size of the 1B model on this CPU, the kinds in turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from janus_core import Janus, convert, has_model_text, load_janus
from janus_core.checkpoints.folders import resolve_model
from janus_core.comparing import compare
from janus_core.converting.quantising import KINDS, QuantisedKind, quantised_parts
from janus_core.model.kv_cache import KVCache
from janus_core.model.language_model import DecoderLayer
from janus_core.model.model import TextLanguage
from janus_core.options import DrawOptions
from janus_core.quantised.linear import QuantisedLinear
from janus_core.quantised.markers import take_quantised
from janus_core.residency.packing import pack_for_answering
from janus_training.measuring import measure_answers, measure_drawings, unseen_scenes, wishes
from janus_training.world.vocabulary import KINDS as SCENES

from .sizes import SIZES

_PROMPTS = (
    ("What is a picture?", "a red circle above a blue square"),
    ("Name three colours.", "a yellow star on a black background"),
    ("How many things are there?", "three green triangles"),
)
_CACHED, _ROWS = 400, 2  # in the middle of a picture, with guidance
_SMALL_VOCABULARY = 32
Step = Callable[[], Tensor]


def quality(model: str, scenes: int, kinds: list[str], workdir: Path) -> None:
    """Print a row for the source and for each kind."""
    has_world = has_model_text(resolve_model(model) / "world.json")
    source = load_janus(model, dtype="float32", device="cpu")
    assert isinstance(source, Janus)
    print("kind | text: cosine, same tokens | picture: cosine, same tokens | drawings | answers")
    print(f"source | | | {_world(source, scenes) if has_world else '| '}", flush=True)
    for kind in kinds:
        path = workdir / f"{kind}.safetensors"
        convert(model, path, quantise=kind)
        made = load_janus(path, dtype="float32", device="cpu")
        assert isinstance(made, Janus)
        found = [compare(source, made, prompts=prompts) for prompts in _PROMPTS]
        columns = [
            f"{min(one[side].cosine for one in found):.5f}, {' '.join(str(one[side].same) for one in found)}"
            for side in ("text", "picture")
        ]
        right = _world(made, scenes) if has_world else "| "
        print(f"{kind} | {columns[0]} | {columns[1]} | {right}", flush=True)
        path.unlink()


def _world(janus: Janus, scenes: int) -> str:
    """Return the shares of right drawings and answers on unseen scenes, the same for every model."""
    options = DrawOptions(cfg_weight=janus.guidance.cfg_weight)
    wished = wishes(unseen_scenes(scenes, ("pair",), "relation"), "relation")
    drawn = [one.is_right for one in measure_drawings(janus, wished, options)]
    answered = [one.is_right for one in measure_answers(janus, unseen_scenes(scenes, SCENES), "test")]
    return " | ".join(f"{100 * statistics.fmean(some):.1f} % of {len(some)}" for some in (drawn, answered))


def steps(layers: int, rounds: int) -> None:
    """Print processor milliseconds of a step by kind and their ratio to float32, all in turns in one run."""
    torch.set_num_threads(1)
    contenders: dict[str, Step] = {
        "float32": _step(layers, torch.float32, None),
        "bfloat16": _step(layers, torch.bfloat16, None),
        "int8 in float32": _step(layers, torch.float32, KINDS["int8"]),
        "int8_convrot in float32": _step(layers, torch.float32, KINDS["int8_convrot"]),
        "int8 in bfloat16": _step(layers, torch.bfloat16, KINDS["int8"]),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.inference_mode():
        for _ in range(rounds + 1):  # the first warms up
            for name, step in contenders.items():
                started = time.process_time()
                step()
                taken[name].append(time.process_time() - started)
    first = taken["float32"][1:]
    print(f"one step of {layers} layers of the 1B, {_ROWS} rows, one thread, processor time")
    for name, times in taken.items():
        ratios = [mine / theirs for mine, theirs in zip(times[1:], first, strict=True)]
        taken_ms, ratio = 1000 * statistics.median(times[1:]), statistics.median(ratios)
        print(f"{name:<24} {taken_ms:8.1f} ms  {ratio:.2f} of float32")


def _step(layers: int, dtype: torch.dtype, kind: QuantisedKind | None) -> Step:
    config = replace(SIZES["1b"].config.language, num_hidden_layers=layers, vocab_size=_SMALL_VOCABULARY)
    with torch.device("meta"):
        language = TextLanguage(config, nn).eval().requires_grad_(False)
    language.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in language.parameters():
        parameter.normal_(0, 0.02, generator=generator)
    for block in language.language_model.layers:
        assert isinstance(block, DecoderLayer)
        for part in (block.self_attn, block.mlp) if kind is not None else ():
            for name, linear in list(part.named_children()):
                setattr(part, name, _quantised(linear, kind))
        block.to(dtype)
    language.to(dtype)
    if kind is None:
        pack_for_answering(language)
    cache = KVCache(config, rows=_ROWS, capacity=_CACHED + 1, dtype=torch.float32, device=torch.device("cpu"))
    cache.both.normal_(generator=generator)
    x = torch.randn(_ROWS, 1, config.hidden_size, generator=generator).to(dtype)
    positions = torch.full((_ROWS, 1), _CACHED)

    def step() -> Tensor:
        cache.length = _CACHED
        hidden: Tensor = language.language_model(x, positions, cache=cache)
        return hidden

    return step


def _quantised(linear: nn.Module, kind: QuantisedKind | None) -> QuantisedLinear:
    assert isinstance(linear, nn.Linear)
    assert kind is not None
    tensors = quantised_parts(kind, "layer.weight", linear.weight.detach())
    return QuantisedLinear(take_quantised(tensors, {})["layer"])


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantised", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    made = commands.add_parser("quality")
    made.add_argument("model", help="a folder, a file, or a bundled model's name")
    made.add_argument("--scenes", type=int, default=40, help="of the world (default: 40)")
    made.add_argument("--kinds", default=",".join(KINDS), help="some of the kinds (default: all)")
    timed = commands.add_parser("steps")
    timed.add_argument("--layers", type=int, default=24, help="of 24 (default: all)")
    timed.add_argument("--rounds", type=int, default=10, help="how often (default: 10)")
    arguments = parser.parse_args()
    if arguments.command == "steps":
        steps(arguments.layers, arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as workdir:
        quality(arguments.model, arguments.scenes, arguments.kinds.split(","), Path(workdir))


if __name__ == "__main__":
    main()
