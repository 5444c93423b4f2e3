"""Streamed weights give what whole ones give, evicted ones come back, and core is told what a task needs."""

import contextlib
import shutil
import sys
from pathlib import Path
from unittest import mock

import comfy.model_management as mm
import comfy.model_patcher as mp
import comfy.ops
import torch
from comfy.cli_args import args
from janus_pack.janus_core import (
    DrawOptions,
    TextOptions,
    Turn,
    answer_bytes,
    decode_bytes,
    draw_bytes,
)
from janus_pack.janus_core.generation.joining import Joiner
from janus_pack.janus_core.inputs.prompting import plan_drawing
from janus_pack.janus_core.residency import packing
from janus_pack.nodes.bridge import hosting
from torch import nn

_LEVEL = 1 / 255


def hosted(models, dtype, residency):
    """Return a model in the layers that it has on a GPU."""
    layers = comfy.ops.disable_weight_init if residency == "fast" else comfy.ops.manual_cast
    with mock.patch.object(hosting.devices, "layers", return_value=layers):
        return hosting.host(models / "janus-tiny", dtype, residency)


def drawn(model, num_images=3):
    return model.janus.draw("a red circle", num_images=num_images, seed=5)


def described(model, num_pictures=1):
    """Return captions of four tokens."""
    return model.janus.caption(pictures(num_pictures), options=TextOptions(max_new_tokens=4))


def pictures(count=3):
    return list(torch.rand(count, 64, 64, 3, generator=torch.Generator().manual_seed(0)))


def check_weights_stay_in_the_files_dtype_when_streamed(models: Path) -> None:
    model = hosted(models, "float32", "offload").janus.model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def check_weights_are_converted_once_when_whole(models: Path) -> None:
    model = hosted(models, "float32", "fast").janus.model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def check_streamed_weights_draw_the_same_tokens(models: Path) -> None:
    fast, offload = (drawn(hosted(models, "float32", residency)) for residency in ("fast", "offload"))
    assert torch.equal(fast.tokens.grid, offload.tokens.grid)


def check_streamed_weights_decode_the_same_picture(models: Path) -> None:
    fast, offload = (drawn(hosted(models, "float32", residency)) for residency in ("fast", "offload"))
    off = (fast.images - offload.images).abs().max().item()
    assert off < _LEVEL, f"pictures differ by {off * 255:.1f} levels"


def check_streamed_weights_encode_the_same_tokens(models: Path) -> None:
    many = pictures(48)
    fast, offload = (
        hosted(models, "float32", residency).janus.encode(many, batch_size=48)
        for residency in ("fast", "offload")
    )
    different = int((fast.grid != offload.grid).sum())
    assert different == 0, f"{different} of {fast.grid.numel()} tokens differ"


def check_streamed_weights_write_the_same_text(models: Path) -> None:
    options = TextOptions(max_new_tokens=60)
    fast, offload = (
        hosted(models, "float32", residency).janus.caption(pictures(), options=options)
        for residency in ("fast", "offload")
    )
    assert fast == offload


def check_half_precision_runs_streamed(models: Path) -> None:
    for dtype in ("bfloat16", "float16"):
        model = hosted(models, dtype, "offload")
        assert drawn(model).images.isfinite().all()
        answers = described(model, 3)
        assert len(answers) == 3


def check_a_model_is_known_by_its_patchers(models: Path) -> None:
    model = hosted(models, "float32", "auto")
    assert isinstance(model.patcher, mp.ModelPatcher)
    assert len(model.get_models()) == 4
    assert model.patcher in model.get_models()


def check_only_what_a_task_needs_is_loaded(models: Path) -> None:
    mm.unload_all_models()
    model = hosted(models, "float32", "fast")
    model.janus.encode(pictures(1))
    loaded = [entry.model for entry in mm.current_loaded_models]
    assert loaded == [model.parts["vq_tokenizer"]]
    mm.unload_all_models()


def check_a_model_evicted_under_pressure_draws_the_same_again(models: Path) -> None:
    """ComfyUI takes our memory, as for another pack's model, and loads us again when we are asked."""
    for residency in ("fast", "offload"):
        model = hosted(models, "float32", residency)
        expected = drawn(model).tokens.grid
        mm.free_memory(1e30, mm.get_torch_device())
        assert mm.current_loaded_models == []
        assert torch.equal(drawn(model).tokens.grid, expected)
        loaded = [entry.model for entry in mm.current_loaded_models]
        assert model.parts["language"] in loaded
        assert model.parts["vq_tokenizer"] in loaded
        assert model.parts["seeing"] not in loaded
        assert model.parts["words"] not in loaded


def check_words_are_loaded_to_answer_and_not_to_draw(models: Path) -> None:
    for residency in ("fast", "offload"):
        model = hosted(models, "float32", residency)
        mm.unload_all_models()
        drawn(model, 1)
        assert model.parts["words"] not in [entry.model for entry in mm.current_loaded_models]
        described(model)
        assert model.parts["words"] in [entry.model for entry in mm.current_loaded_models]


def check_the_layer_of_words_is_never_asked(models: Path) -> None:
    """Streamed, it would bring the whole table to the device for one row."""
    for residency in ("fast", "offload"):
        model = hosted(models, "float32", residency)
        table = model.janus.model.language.language_model.embed_tokens
        with mock.patch.object(table, "forward", side_effect=AssertionError("the layer was asked")):
            drawn(model, 1)
            described(model)


def check_paged_weights_keep_the_files_dtype(models: Path) -> None:
    """Core notes the dtype in which it pages; noted too early it would be that of layers still empty."""
    core = sys.modules.get("comfy.memory_management")
    if core is None:  # releases that page nothing
        return
    with mock.patch.object(core, "aimdo_enabled", True):
        for residency, dtype in (("fast", torch.float32), ("offload", torch.bfloat16)):
            model = hosted(models, "float32", residency).janus.model
            noted = {
                module.weight_comfy_model_dtype
                for module in model.modules()
                if getattr(module, "weight", None) is not None
            }
            assert noted == {dtype}, noted


def check_a_whole_model_on_a_cpu_is_packed(models: Path) -> None:
    """Nothing moves there, so its layers are torch's own, which the core repacks to be fast."""
    options = TextOptions(max_new_tokens=8)

    def said(model):
        return model.janus.caption(pictures(1), options=options)

    expected = hosted(models, "float32", "fast")
    grid, text = drawn(expected).tokens.grid, said(expected)
    with mock.patch.object(packing, "_LEAST", 0):
        for residency, is_packed in (("fast", True), ("offload", False)):
            model = hosting.host(models / "janus-tiny", "float32", residency)
            for _ in range(2):
                assert torch.equal(drawn(model).tokens.grid, grid)
                assert said(model) == text
                mm.unload_all_models()
            decoder = model.janus.model.language.language_model
            assert isinstance(decoder.lm_head, packing.PackedLinear) == is_packed
            assert has_text_head(model) != is_packed, "the unpacked text head is kept"


def has_text_head(model):
    """Tell whether a part of a hosted model holds a text head as it was loaded."""
    rows = model.janus.config.language.vocab_size
    held = [module for part in model.parts.values() for module in part.model.modules()]
    return any(isinstance(module, nn.Linear) and module.out_features == rows for module in held)


def check_layers_that_get_memory_only_with_their_weights_draw_the_same(models: Path) -> None:
    """So newer releases build layers on NVIDIA cards, where weights are paged in and out."""
    expected = drawn(hosted(models, "float32", "offload")).tokens.grid
    core = sys.modules.get("comfy.memory_management")
    with mock.patch.object(core, "aimdo_enabled", True) if core else contextlib.nullcontext():
        for residency in ("fast", "offload"):
            model = hosted(models, "float32", residency)
            assert torch.equal(drawn(model).tokens.grid, expected), residency
            assert described(model, 3)


def check_files_that_mix_dtypes_draw_the_same_however_resident(models: Path) -> None:
    """Some tensors in float32, some in float16, the rest in bfloat16: nothing may rely on one dtype."""
    folder = models / "janus-mixed"
    shutil.copytree(models / "janus-tiny", folder)
    for index, shard in enumerate(sorted(folder.glob("*.bin"))):
        tensors = torch.load(shard, weights_only=True)
        dtypes = (torch.float32, torch.float16, torch.bfloat16)
        mixed = {name: t.to(dtypes[(n + index) % 3]) for n, (name, t) in enumerate(tensors.items())}
        torch.save(mixed, shard)
    grids = {}
    for residency in ("fast", "offload"):
        model = hosting.host(folder, "float32", residency)
        kept = {parameter.dtype for parameter in model.janus.model.parameters()}
        assert len(kept) == (1 if residency == "fast" else 3), kept
        grids[residency] = drawn(model).tokens.grid
        assert described(model, 3)
        assert hosting.host(folder, "bfloat16", residency).janus.draw("a").images.isfinite().all()
    assert torch.equal(grids["fast"], grids["offload"])


def check_the_memory_asked_for_is_that_of_the_very_prompt(models: Path) -> None:
    """What ComfyUI is asked to keep free follows from the plan that is then computed, pictures included."""
    model = hosted(models, "float32", "fast")
    janus, config = model.janus, model.janus.config
    for prompt, count in (("a", 1), ("a", 8), ("a circle " * 50, 1)):
        tokens = len(plan_drawing(prompt, janus.tokenizer))
        expected = ["language", "vq_tokenizer"], draw_bytes(config, count, tokens, torch.float32)
        assert asked_for(model, janus.draw, prompt, num_images=count, batch_size=8) == expected
    for shown, question in ((0, "Who?"), (1, "Who?"), (2, "Who is it? " * 9)):
        turns = [Turn(role="user", text=question, images=tuple(pictures(shown)))]
        tokens = len(janus.plan_conversation(turns))
        parts = ["seeing", "language", "words"] if shown else ["language", "words"]
        options = TextOptions(max_new_tokens=16)
        found = asked_for(model, janus.answer, [turns] * 3, options=options)
        assert found == (parts, answer_bytes(config, 3, tokens, 16, torch.float32))
    kept = janus.encode(pictures(2))
    expected = ["vq_tokenizer"], decode_bytes(config, 2)
    assert asked_for(model, janus.decode, kept) == asked_for(model, janus.encode, pictures(2)) == expected


def asked_for(model, work, *arguments, **options):
    """Return which parts and how many bytes ComfyUI is asked for at the beginning of some work."""
    asked = []

    def load(patchers, memory_required):
        asked.append(([name for name, part in model.parts.items() if part in patchers], memory_required))
        raise InterruptedError  # before anything is computed

    with mock.patch.object(mm, "load_models_gpu", load), contextlib.suppress(InterruptedError):
        work(*arguments, **options)
    [first] = asked
    return first


def check_a_prompt_is_tokenised_once(models: Path) -> None:
    """What plans a prompt says how long it is; nobody encodes it again to find out."""
    janus = hosted(models, "float32", "fast").janus
    encode, seen = type(janus.tokenizer).encode, []

    def counted(self, text):
        seen.append(text)
        return encode(self, text)

    with mock.patch.object(type(janus.tokenizer), "encode", counted):
        janus.draw("a very odd circle")
        janus.ask("An odd question?", options=TextOptions(max_new_tokens=2))
    assert sum("a very odd circle" in text for text in seen) == 1
    assert sum("An odd question?" in text for text in seen) == 1


def resident(model, *tasks):
    """Tell whether steps of tasks, by default of a drawing, may be captured."""
    return model.janus.ready(*(tasks or ("draw", "decode")), memory_required=0).is_resident


def check_streamed_words_forbid_to_capture_answers_alone(models: Path) -> None:
    model = hosted(models, "float32", "fast")
    assert resident(model, "see", "answer")
    with mock.patch.object(mm, "load_models_gpu"):
        model.parts["words"].model.model_lowvram = True
        assert not resident(model, "see", "answer")
        assert not resident(model, "answer")
        assert resident(model)  # a drawing step meets no words


def check_only_a_whole_model_may_be_captured(models: Path) -> None:
    assert not resident(hosted(models, "float32", "offload"))
    model = hosted(models, "float32", "fast")
    assert resident(model)
    with mock.patch.object(mm, "load_models_gpu"):  # which would load the rest and take patches off
        language = model.patcher.model
        language.model_lowvram = True
        assert not resident(model)
        language.model_lowvram = False
        projection = language["layers"][1].mlp.up_proj
        projection.weight_function = [lambda weight: weight]
        assert not resident(model)
        projection.weight_function = []
        assert resident(model)


def check_a_person_may_forbid_graphs(models: Path) -> None:
    model = hosted(models, "float32", "fast")
    args.disable_cuda_graphs, before = True, getattr(args, "disable_cuda_graphs", False)
    try:
        assert not resident(model)
    finally:
        args.disable_cuda_graphs = before
    assert resident(model)


def check_weights_laid_side_by_side_can_be_evicted_and_come_back(models: Path) -> None:
    """What a captured drawing does to the weights, with ComfyUI unloading and loading round it."""
    model = hosted(models, "float32", "fast")
    expected = drawn(model, 1).tokens.grid
    decoder = model.janus.model.language.language_model
    for _ in range(2):
        with Joiner(decoder) as joiner:
            for layer in decoder.layers:
                joiner.join((layer.mlp.gate_proj, layer.mlp.up_proj))
        mm.unload_all_models()
        assert torch.equal(drawn(model, 1).tokens.grid, expected)


def check_drawing_options_reach_the_core(models: Path) -> None:
    model = hosted(models, "float32", "fast")
    greedy = DrawOptions(temperature=0.0)
    first, second = (
        model.janus.draw("a red circle", seed=seed, options=greedy).tokens.grid for seed in (1, 2)
    )
    assert torch.equal(first, second)
