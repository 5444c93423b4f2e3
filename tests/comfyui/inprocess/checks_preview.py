"""What live previews cost beside what ComfyUI spends on showing any, in computing time of this thread."""

import io
import time
from pathlib import Path

import torch
from janus_pack.janus_core import preview_image
from janus_pack.nodes.bridge import progress
from PIL import Image

_SIDE, _SIZE_PX, _CODES, _SHOWN_PX = 24, 384, 16384, 512


def made(tokens, colours):
    """Make a preview."""
    _, image, _ = progress._as_preview(preview_image(tokens, colours, _SIDE, _SIZE_PX))
    return image


def shown(image):
    """Do what core does to send a preview."""
    image = image.resize((_SHOWN_PX, _SHOWN_PX), Image.Resampling.BILINEAR)
    image.save(io.BytesIO(), "JPEG", quality=95)


def check_making_a_preview_takes_less_than_showing_it(_: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(_CODES, (_SIDE * _SIDE // 2,), generator=generator)
    colours = torch.rand(_CODES, 3, generator=generator)
    shown(made(tokens, colours))
    making_s = showing_s = 0.0
    for _try in range(20):
        started = time.thread_time()
        image = made(tokens, colours)
        ready = time.thread_time()
        shown(image)
        making_s, showing_s = making_s + ready - started, showing_s + time.thread_time() - ready
    assert making_s < showing_s, f"{making_s / 20:.4f} s to make one, {showing_s / 20:.4f} s to show it"
