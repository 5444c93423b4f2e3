"""Streamed weights give what whole ones give; little memory means smaller batches; Cancel goes through."""

import contextlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management as mm
import comfy.model_patcher as mp
import torch
from janus_pack.janus_core import DrawOptions, SamplingError, TextOptions
from janus_pack.nodes.bridge import memory, progress
from janus_pack.nodes.drawing import JanusDraw
from janus_pack.nodes.image_tokens import JanusDecodeTokens, JanusEncodeImage
from janus_pack.nodes.understanding import JanusAsk

_TORCH_OOM = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
_CPU_OOM = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"
)
_LEVEL = 1 / 255


def hosted(models, dtype, residency):
    return memory.host(models / "janus-tiny", dtype, residency)


def drawn(model, num_images=3):
    return model.ready_to_draw(num_images).draw("a red circle", num_images=num_images, seed=5)


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
        hosted(models, "float32", residency).ready_for_tokens(48).encode(many)
        for residency in ("fast", "offload")
    )
    different = int((fast.grid != offload.grid).sum())
    assert different == 0, f"{different} of {fast.grid.numel()} tokens differ"


def check_streamed_weights_write_the_same_text(models: Path) -> None:
    options = TextOptions(max_new_tokens=60)
    fast, offload = (
        hosted(models, "float32", residency).ready_to_answer(3, 1, 60).caption(pictures(), options=options)
        for residency in ("fast", "offload")
    )
    assert fast == offload


def check_half_precision_runs_streamed(models: Path) -> None:
    for dtype in ("bfloat16", "float16"):
        model = hosted(models, dtype, "offload")
        assert drawn(model).images.isfinite().all()
        answers = model.ready_to_answer(3, 1, 4).caption(pictures(), options=TextOptions(max_new_tokens=4))
        assert len(answers) == 3


def check_a_model_is_known_by_its_patchers(models: Path) -> None:
    model = hosted(models, "float32", "auto")
    assert isinstance(model.patcher, mp.ModelPatcher)
    assert len(model.get_models()) == 3
    assert model.patcher in model.get_models()


def check_only_what_a_task_needs_is_loaded(models: Path) -> None:
    mm.unload_all_models()
    model = hosted(models, "float32", "fast")
    model.ready_for_tokens(1)
    loaded = [entry.model for entry in mm.current_loaded_models]
    assert loaded == [model.parts["vq_tokenizer"]]
    mm.unload_all_models()


def tried_sizes(first, fits, error):
    """Return the batch sizes tried when anything above `fits` runs out of memory."""
    sizes = []

    def run(size):
        sizes.append(size)
        if size > fits:
            raise error
        return "done"

    assert memory.in_batches(run, first) == "done"
    return sizes


def check_out_of_memory_halves_the_batch(models: Path) -> None:
    assert tried_sizes(17, 2, _TORCH_OOM("CUDA out of memory")) == [17, 9, 5, 3, 2]


def check_out_of_memory_of_the_cpu_halves_the_batch(models: Path) -> None:
    assert tried_sizes(4, 1, _CPU_OOM) == [4, 2, 1]


def check_enough_memory_runs_once(models: Path) -> None:
    assert tried_sizes(17, 17, _CPU_OOM) == [17]


def raised(error):
    """Return what comes out where every batch size ends in `error`."""
    try:
        tried_sizes(4, 0, error)
    except BaseException as result:  # noqa: BLE001 - Cancel is one in newer releases
        return result
    raise AssertionError("nothing was raised")


def check_no_memory_for_one_says_so(models: Path) -> None:
    result = raised(_TORCH_OOM("CUDA out of memory"))
    assert isinstance(result, SamplingError)
    assert "out of memory even for one" in str(result)
    assert result.__context__ is None, "the failed run's tensors would stay pinned"


def check_cancel_is_not_taken_for_a_lack_of_memory(models: Path) -> None:
    cancel = mm.InterruptProcessingException()
    assert raised(cancel) is cancel


def check_other_errors_come_through(models: Path) -> None:
    error = RuntimeError("shapes cannot be multiplied")
    assert raised(error) is error


@contextlib.contextmanager
def refusing(module, most):
    """Let a module run out of memory with more than `most` rows; gives the numbers of rows tried."""
    rows = []

    def refuse(_, arguments):
        rows.append(len(arguments[0]))
        if rows[-1] > most:
            raise _TORCH_OOM("CUDA out of memory")

    handle = module.register_forward_pre_hook(refuse)
    yield rows
    handle.remove()


def executed(node, *arguments, **inputs):
    """Execute a node and return its outputs."""
    prepared = type(node.__name__, (node,), {"hidden": SimpleNamespace(unique_id="1")})
    return prepared.execute(*arguments, **inputs).args


def check_a_drawing_survives_a_lack_of_memory(models: Path) -> None:
    """The language model refuses more than four rows, two pictures and what they are guided away from."""
    model = hosted(models, "float32", "fast")
    expected = drawn(model, 5)
    with refusing(model.janus.model.language.language_model, 4) as rows:
        result = memory.in_batches(
            lambda size: model.ready_to_draw(size).draw(
                "a red circle", num_images=5, seed=5, batch_size=size
            ),
            5,
        )
    assert max(rows) > 4
    assert torch.equal(result.tokens.grid, expected.tokens.grid)


def check_a_drawing_survives_a_lack_of_memory_for_its_decoding(models: Path) -> None:
    model = hosted(models, "float32", "fast")
    inputs = {"seed": 5, "batch_size": 3, "cfg_weight": 5.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    expected = executed(JanusDraw, model, "a circle", "", **inputs)[0]
    with refusing(model.janus.model.vq_tokenizer.decoder, 1) as rows:
        images = executed(JanusDraw, model, "a circle", "", **inputs)[0]
    assert rows == [3, 2, 1, 1, 1], rows
    assert (images - expected).abs().max() < _LEVEL


def check_image_tokens_survive_a_lack_of_memory(models: Path) -> None:
    model = hosted(models, "float32", "fast")
    images = torch.stack(pictures(5))
    [tokens] = executed(JanusEncodeImage, model, images, "crop")
    [decoded] = executed(JanusDecodeTokens, model, tokens)
    vq = model.janus.model.vq_tokenizer
    with refusing(vq.encoder, 2) as encoded_rows, refusing(vq.decoder, 2) as decoded_rows:
        [tokens_again] = executed(JanusEncodeImage, model, images, "crop")
        [decoded_again] = executed(JanusDecodeTokens, model, tokens)
    assert encoded_rows == decoded_rows == [4, 2, 2, 1], (encoded_rows, decoded_rows)
    assert torch.equal(tokens_again.grid, tokens.grid)
    assert (decoded_again - decoded).abs().max() < _LEVEL


def check_one_question_is_not_asked_again_for_lack_of_memory(models: Path) -> None:
    """There is no smaller batch than one, so nothing is tried twice."""
    model = hosted(models, "float32", "fast")
    inputs = {"seed": 0, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 4}
    with refusing(model.janus.model.language.language_model, 0) as rows:
        try:
            executed(JanusAsk, model, "What?", False, image=torch.stack(pictures(3)), **inputs)
        except SamplingError as error:
            message = str(error)
    assert "out of memory even for one" in message
    assert rows == [1], rows


def check_text_progress_starts_again_with_a_smaller_batch(models: Path) -> None:
    told = []
    bar = progress.AnswerProgress("1", answers=2, max_new_tokens=3)
    bar._bar = SimpleNamespace(update_absolute=lambda done, total: told.append((done, total)))
    bar.on_text(0, "a")
    bar.restart()
    bar.on_text(0, "a")
    assert told == [(1, 6), (1, 6)], told


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
        model = memory.host(folder, "float32", residency)
        kept = {parameter.dtype for parameter in model.janus.model.parameters()}
        assert len(kept) == (1 if residency == "fast" else 3), kept
        grids[residency] = drawn(model).tokens.grid
        assert model.ready_to_answer(3, 1, 4).caption(pictures(), options=TextOptions(max_new_tokens=4))
        assert memory.host(folder, "bfloat16", residency).ready_to_draw(1).draw("a").images.isfinite().all()
    assert torch.equal(grids["fast"], grids["offload"])


def check_estimates_grow_with_the_task(models: Path) -> None:
    """What ComfyUI is asked to keep free covers at least the largest tensor of the task."""
    asked = []
    model = hosted(models, "float32", "fast")
    load = mm.load_models_gpu
    mm.load_models_gpu = lambda patchers, memory_required=0: asked.append((len(patchers), memory_required))
    try:
        model.ready_to_draw(1)
        model.ready_to_draw(8)
        model.ready_to_answer(1, 0, 16)
        model.ready_to_answer(8, 1, 512)
        model.ready_for_tokens(1)
        model.ready_to_draw(1, "a circle " * 500)
        model.ready_to_answer(1, 0, 16, "a circle " * 500)
    finally:
        mm.load_models_gpu = load
    assert [parts for parts, _ in asked] == [2, 2, 1, 2, 1, 2, 1]
    sizes = [size for _, size in asked]
    assert sizes[1] > 4 * sizes[0] > 0
    assert sizes[3] > 4 * sizes[2] > 0
    assert sizes[5] > 2 * sizes[0]
    assert sizes[6] > 2 * sizes[2]


def check_drawing_options_reach_the_core(models: Path) -> None:
    model = hosted(models, "float32", "fast")
    greedy = DrawOptions(temperature=0.0)
    first, second = (
        model.ready_to_draw(1).draw("a red circle", seed=seed, options=greedy).tokens.grid for seed in (1, 2)
    )
    assert torch.equal(first, second)
