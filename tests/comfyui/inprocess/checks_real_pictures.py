"""What a node says of one bad picture among many, of answers cut off, and which dtype it computes in."""

from pathlib import Path
from unittest import mock

import comfy.model_management as mm
import torch
from comfy.cli_args import args
from janus_pack.janus_core import Answer, ImageError, SamplingError, TextOptions
from janus_pack.nodes.bridge import hosting
from janus_pack.nodes.bridge.images import pictures_named, to_pictures
from janus_pack.nodes.bridge.progress import Endings

FP8_FLAGS = ("fp8_e4m3fn_unet", "fp8_e5m2_unet", "fp8_e8m0fnu_unet")
COMPUTED = (torch.bfloat16, torch.float16, torch.float32)


def message_of(kind, call, *arguments):
    try:
        call(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError("nothing was raised")


def check_a_bad_picture_of_a_batch_is_named_before_any_work(_: Path) -> None:
    for bad in (float("nan"), 200.5, -0.9):
        batch = torch.rand(3, 8, 8, 3)
        batch[1, 2, 2, 0] = bad
        assert message_of(ImageError, to_pictures, batch).startswith('Picture 2 of 3 in "image": The float32')
        assert message_of(ImageError, to_pictures, batch[1:2]).startswith("The float32 tensor")


def check_good_pictures_are_left_as_they_are(_: Path) -> None:
    batch = torch.rand(3, 8, 8, 3) * 1.2 - 0.1
    assert torch.equal(torch.stack(to_pictures(batch)), batch)


def fail(rows):
    with pictures_named("Picture", 4):
        raise SamplingError("Number 3 cannot be made: float16.", rows)


def check_a_picture_whose_numbers_are_broken_is_named(_: Path) -> None:
    assert message_of(SamplingError, fail, (2,)) == "Picture 3 of 4: Number 3 cannot be made: float16."
    assert message_of(SamplingError, fail, (0, 2)).startswith("Picture 1, 3 of 4: ")
    assert message_of(SamplingError, fail, ()) == "Number 3 cannot be made: float16."


def check_an_answer_that_was_cut_off_says_so_on_the_node_alone(models: Path) -> None:
    janus = hosting.host(models / "janus-tiny", "float32", "fast").janus
    endings = Endings(janus, TextOptions(max_new_tokens=7))
    eos = janus.tokenizer.special.eos
    for row, ids in enumerate([(5, 6, eos), (5, 6)]):
        endings.on_answer(row, Answer(text="said", token_ids=ids, prompt_tokens=1))
    assert endings.shown(["a", "b"]) == ["a", "b\n(cut off at 7 tokens: raise max_new_tokens)"]


def check_flags_for_stored_weights_do_not_choose_the_arithmetic(models: Path) -> None:
    for flag in FP8_FLAGS:
        if not hasattr(args, flag):
            continue
        with mock.patch.object(args, flag, True):
            dtype = hosting.host(models / "janus-tiny", "auto", "offload").janus.compute.dtype
        assert dtype in COMPUTED, (flag, dtype)


def check_a_dtype_that_nothing_computes_in_gives_way(models: Path) -> None:
    with (
        mock.patch.object(mm, "unet_dtype", return_value=torch.float8_e4m3fn),
        mock.patch.object(mm, "should_use_bf16", return_value=False),
        mock.patch.object(mm, "should_use_fp16", return_value=True),
    ):
        assert hosting.host(models / "janus-tiny", "auto", "offload").janus.compute.dtype == torch.float16
