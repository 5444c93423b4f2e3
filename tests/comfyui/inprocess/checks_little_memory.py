"""Little memory means smaller batches, then a clear error; Cancel and other errors go through."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management as mm
import torch
from janus_pack.janus_core import SamplingError
from janus_pack.nodes.ask_caption import JanusAsk
from janus_pack.nodes.bridge import batching, hosting, progress
from janus_pack.nodes.draw import JanusDraw
from janus_pack.nodes.keep_tokens import JanusDecodeTokens, JanusEncodeImage

_TORCH_OOM = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
_CPU_OOM = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"
)
_LEVEL = 1 / 255


def hosted(models):
    return hosting.host(models / "janus-tiny", "float32", "fast")


def pictures(count):
    return torch.rand(count, 64, 64, 3, generator=torch.Generator().manual_seed(0))


def tried_sizes(first, fits, error):
    """Return the batch sizes tried when anything above `fits` runs out of memory."""
    sizes = []

    def run(size):
        sizes.append(size)
        if size > fits:
            raise error
        return "done"

    assert batching.in_batches(run, first) == "done"
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


_HIDDEN = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)


def executed(node, *arguments, **inputs):
    """Execute a node and return its outputs."""
    prepared = type(node.__name__, (node,), {"hidden": _HIDDEN})
    return prepared.execute(*arguments, **inputs).args


def check_a_drawing_survives_a_lack_of_memory(models: Path) -> None:
    """The language model refuses more than four rows, two pictures and what they are guided away from."""
    model = hosted(models)
    expected = model.janus.draw("a red circle", num_images=5, seed=5, batch_size=5)
    with refusing(model.janus.model.language.language_model, 4) as rows:
        result = batching.in_batches(
            lambda size: model.janus.draw("a red circle", num_images=5, seed=5, batch_size=size),
            5,
        )
    assert max(rows) > 4
    assert torch.equal(result.tokens.grid, expected.tokens.grid)


def check_a_drawing_survives_a_lack_of_memory_for_its_decoding(models: Path) -> None:
    model = hosted(models)
    inputs = {"seed": 5, "batch_size": 3, "cfg_weight": 5.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    expected = executed(JanusDraw, model, "a circle", "", **inputs)[0]
    with refusing(model.janus.model.vq_tokenizer.decoder, 1) as rows:
        images = executed(JanusDraw, model, "a circle", "", **inputs)[0]
    assert rows == [3, 2, 1, 1, 1], rows
    assert (images - expected).abs().max() < _LEVEL


def check_image_tokens_survive_a_lack_of_memory(models: Path) -> None:
    model = hosted(models)
    images = pictures(5)
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
    model = hosted(models)
    inputs = {"seed": 0, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 4}
    with refusing(model.janus.model.language.language_model, 0) as rows:
        try:
            executed(JanusAsk, model, "What?", image=pictures(3), **inputs)
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
