"""What a person sees while a node works: progress, live preview, the text as it is written; and Cancel.

Every callback first asks ComfyUI whether the person cancelled, so a node ends within one token; answers on an
NVIDIA card, which are read from it in blocks, within sixteen.
"""

import time
from typing import Any

import comfy.latent_formats
import comfy.model_management as mm
import comfy.utils
import latent_preview
import numpy as np
import numpy.typing as npt
import torch
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image
from torch import Tensor

from ...janus_core import decoded_preview, preview_image, to_uint8
from .hosting import HostedJanus

_PREVIEW_INTERVAL_S = 0.25
_PREVIEW_SHARE = 0.02  # of the time, at most, for decoded ones
_TEXT_INTERVAL_S = 0.1


class Progress:
    """A node's progress bar; polls Cancel at every step."""

    def __init__(self, node_id: str | None) -> None:
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def on_step(self, done: int, total: int) -> None:
        """Show `done` of `total`; raises when the person cancelled."""
        mm.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(done, total)


class DrawProgress(Progress):
    """Progress of a drawing with a preview of its first picture, unless previews are switched off."""

    def __init__(self, node_id: str | None, hosted: HostedJanus) -> None:
        super().__init__(node_id)
        self._hosted = hosted
        self._is_shown = args.preview_method != LatentPreviewMethod.NoPreviews
        self._next_s = 0.0
        self._preview: tuple[str, Image.Image, int] | None = None

    def on_tokens(self, tokens: Tensor) -> None:
        """Prepare a preview of the first picture of the batch, at most four a second."""
        now = time.monotonic()
        if self._is_shown and now >= self._next_s:
            self._preview = _as_preview(self._samples(tokens[0]))
            shown = time.monotonic()
            # The first picture on a CPU also fits the colours, once; that is no reason to show the next late.
            is_decoded = tokens.device.type == "cuda"
            rest_s = (shown - now) / _PREVIEW_SHARE if is_decoded else 0
            self._next_s = shown + max(_PREVIEW_INTERVAL_S, rest_s)

    def _samples(self, tokens: Tensor) -> npt.NDArray[np.uint8]:
        """Return a picture (h, w, 3) of the cells so far: decoded on a GPU, a colour a cell elsewhere."""
        janus = self._hosted.autoregressive("Janus Draw")
        side, size_px = janus.config.grid_side, janus.config.vision.image_size
        if tokens.device.type == "cuda":
            return decoded_preview(janus.model.vq_tokenizer, tokens, side, janus.vq_dtype)
        return preview_image(tokens, self._hosted.code_colours(), side, size_px)

    def on_step(self, done: int, total: int) -> None:
        """Show progress, and the preview where there is a new one."""
        mm.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(done, total, self._preview)
        self._preview = None

    def finish(self, images: Tensor) -> None:
        """Show the finished first picture as the last preview."""
        if self._is_shown:
            self._bar.update_absolute(self._bar.total, self._bar.total, _as_preview(to_uint8(images[:1])[0]))


class FlowProgress(Progress):
    """Progress of a flow drawing, with core's preview of where its first picture is heading."""

    def __init__(self, node_id: str | None, device: torch.device) -> None:
        super().__init__(node_id)
        self._previewer = latent_preview.get_previewer(device, comfy.latent_formats.SDXL())
        self._next_s = 0.0
        self._before: Tensor | None = None

    def on_latents(self, done: int, total: int, latents: Tensor) -> None:
        """Show a step, and at most four times a second a preview; raises when the person cancelled."""
        mm.throw_exception_if_processing_interrupted()
        preview = None
        now = time.monotonic()
        if self._previewer is not None and (now >= self._next_s or done == total):
            self._next_s = now + _PREVIEW_INTERVAL_S
            preview = self._previewer.decode_latent_to_preview_image("JPEG", self._end(done, total, latents))
        self._before = latents
        self._bar.update_absolute(done, total, preview)

    def _end(self, done: int, total: int, latents: Tensor) -> Tensor:
        """Return where the first picture ends if it goes straight on as in the last step."""
        if self._before is None or self._before.shape != latents.shape:
            return latents[:1]
        return latents[:1] + (latents - self._before)[:1] * (total - done)


def _as_preview(samples: npt.NDArray[np.uint8]) -> tuple[str, Image.Image, int]:
    return "JPEG", Image.fromarray(samples), args.preview_size


class AnswerProgress(Progress):
    """Progress of answers, token by token, and their text on the node while it is written."""

    def __init__(self, node_id: str | None, answers: int, max_new_tokens: int) -> None:
        super().__init__(node_id)
        self._node_id = node_id
        self._total = answers * max_new_tokens
        self._next_s = 0.0
        self._done = 0
        self._texts: dict[int, str] = {}

    def restart(self) -> None:
        """Forget what an attempt wrote that ran out of memory."""
        self._done = 0
        self._texts = {}

    def on_text(self, row: int, text: str) -> None:
        """Take the text so far of answer `row`, one token longer; raises when the person cancelled."""
        self._done += 1
        self.on_step(self._done, self._total)
        self._texts[row] = text
        now = time.monotonic()
        if now >= self._next_s:
            self._send()
            self._next_s = now + _TEXT_INTERVAL_S

    def finish(self, texts: list[str]) -> None:
        """Show the final texts and a full bar."""
        self._texts = dict(enumerate(texts))
        self._send()
        self.on_step(self._total, self._total)

    def _send(self) -> None:
        server = _server()
        if server is not None and self._node_id is not None:
            text = "\n\n".join(self._texts[row] for row in sorted(self._texts))
            server.send_progress_text(text, self._node_id, sid=server.client_id)


def _server() -> Any:
    from server import PromptServer  # core imports the nodes before the server exists

    return getattr(PromptServer, "instance", None)
