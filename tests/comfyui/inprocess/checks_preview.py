"""What live previews cost: computing time of this thread, which other work on the machine leaves alone."""

import io
import time
from pathlib import Path

import torch
from janus_pack.janus_core import preview_image
from janus_pack.nodes.bridge import progress
from PIL import Image

_SIDE, _SIZE_PX, _CODES, _SHOWN_PX = 24, 384, 16384, 512
_SHARE = 0.05


def one_preview(tokens, colours):
    """Do what one preview takes: make it, and what core does to send it."""
    _, image, _ = progress._as_preview(preview_image(tokens, colours, _SIDE, _SIZE_PX))
    shown = image.resize((_SHOWN_PX, _SHOWN_PX), Image.Resampling.BILINEAR)
    shown.save(io.BytesIO(), "JPEG", quality=95)


def check_previews_take_a_twentieth_of_the_time_at_most(_: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(_CODES, (_SIDE * _SIDE // 2,), generator=generator)
    colours = torch.rand(_CODES, 3, generator=generator)
    one_preview(tokens, colours)
    started = time.thread_time()
    for _try in range(20):
        one_preview(tokens, colours)
    share = (time.thread_time() - started) / 20 / progress._PREVIEW_INTERVAL_S
    assert share < _SHARE, f"previews take {share:.1%}"
