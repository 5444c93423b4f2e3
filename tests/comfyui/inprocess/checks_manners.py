"""The nodes leave alone what is not theirs: global random state, the tensors they are given, the console."""

import contextlib
import io
import logging
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from janus_pack.nodes.ask_caption import JanusAsk, JanusCaption
from janus_pack.nodes.bridge import hosting
from janus_pack.nodes.draw import JanusDraw
from janus_pack.nodes.keep_tokens import JanusDecodeTokens, JanusEncodeImage

_TEXT = {"seed": 3, "temperature": 1.0, "top_k": 0, "top_p": 0.95, "max_new_tokens": 8}
_DRAW = {"seed": 3, "batch_size": 2, "cfg_weight": 5.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


_HIDDEN = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)


def executed(node, *arguments, **inputs):
    """Execute a node as ComfyUI does, in inference mode and with an id, and return its outputs."""
    prepared = type(node.__name__, (node,), {"hidden": _HIDDEN})
    with torch.inference_mode():
        return prepared.execute(*arguments, **inputs).args


def everything(models, images):
    """Execute all nodes that compute; returns their outputs."""
    model = hosting.host(models / "janus-tiny", "float32", "auto")
    [captions] = executed(JanusCaption, model, images, "short", **_TEXT)
    answers, chats = executed(JanusAsk, model, "What?", image=images, **_TEXT)
    drawn, tokens = executed(JanusDraw, model, "a circle", "", **_DRAW)
    [encoded] = executed(JanusEncodeImage, model, images, "crop")
    [decoded] = executed(JanusDecodeTokens, model, encoded)
    return captions, answers, chats, drawn, tokens, encoded, decoded


def check_a_guidance_far_above_the_recommended_one_is_remarked(models: Path) -> None:
    model = hosting.host(models / "janus-tiny", "float32", "fast")
    for weight, is_far in ((10.0, False), (10.5, True)):
        with captured_log() as heard:
            executed(JanusDraw, model, "a circle", "", **{**_DRAW, "cfg_weight": weight})
        assert ("far above" in heard.getvalue()) == is_far, heard.getvalue()


@contextlib.contextmanager
def captured_log():
    """Collect what the nodes log."""
    heard = io.StringIO()
    handler, log = logging.StreamHandler(heard), logging.getLogger("janus.nodes")
    log.addHandler(handler)
    try:
        yield heard
    finally:
        log.removeHandler(handler)


def some_images():
    return torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1))


def check_global_random_state_is_left_alone(models: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002 - the global one
    everything(models, some_images())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002 - likewise
    assert random.getstate() == before[2]


def check_global_seed_does_not_matter(models: Path) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        captions, answers, _, drawn, *_ = everything(models, some_images())
        results.append((captions, answers, drawn))
    assert results[0][:2] == results[1][:2]
    assert torch.equal(results[0][2], results[1][2])


def check_pictures_are_not_modified(models: Path) -> None:
    images = some_images()
    before = images.clone()
    everything(models, images)
    assert torch.equal(images, before)


def check_tokens_are_not_modified(models: Path) -> None:
    model = hosting.host(models / "janus-tiny", "float32", "auto")
    _, tokens = executed(JanusDraw, model, "a circle", "", **_DRAW)
    before = tokens.grid.clone()
    executed(JanusDecodeTokens, model, tokens)
    assert torch.equal(tokens.grid, before)


def check_a_chat_given_is_not_modified(models: Path) -> None:
    *_, chats, _, _, _, _ = everything(models, some_images())
    model = hosting.host(models / "janus-tiny", "float32", "auto")
    _, further = executed(JanusAsk, model, "And?", chat=chats[0], **_TEXT)
    assert len(chats[0]) == 2
    assert len(further[0]) == 4


def check_outputs_are_pictures_as_comfyui_wants_them(models: Path) -> None:
    *_, drawn, tokens, encoded, decoded = everything(models, some_images())
    for images in (drawn, decoded):
        assert images.dtype == torch.float32
        assert images.device == torch.device("cpu")
        assert images.shape == (2, 64, 64, 3)
        assert 0 <= images.min() <= images.max() <= 1
    for kept in (tokens.grid, encoded.grid):
        assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


def check_pictures_with_alpha_or_grey_are_read(models: Path) -> None:
    images = some_images()
    opaque = torch.cat((images, torch.ones(2, 64, 64, 1)), dim=-1)
    *_, with_alpha, _ = everything(models, opaque)
    *_, without, _ = everything(models, images)
    assert torch.equal(with_alpha.grid, without.grid)
    *_, grey, _ = everything(models, images[..., :1])
    assert grey.grid.shape == without.grid.shape


def check_half_precision_pictures_are_read(models: Path) -> None:
    captions, *_ = everything(models, some_images().half())
    assert len(captions) == 2


def check_nothing_is_printed(models: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        everything(models, some_images())
    assert (out.getvalue(), err.getvalue()) == ("", "")
