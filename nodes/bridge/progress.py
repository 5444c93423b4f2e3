"""Progress bar, live preview, text while it is written; and Cancel.

Every callback first asks ComfyUI whether the user cancelled, so a node stops within one token; an answer on
an NVIDIA card, where tokens are read in blocks, within thirty-two.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

from ...janus_core import (
    Answer,
    ImageTokens,
    Janus,
    JanusError,
    JanusFlow,
    Sketch,
    TextOptions,
    TokenWatch,
    is_finished,
    preview_image,
    to_uint8,
)
from .folders import new_token_file
from .hosting import HostedJanus

log = logging.getLogger("janus.nodes")

_UNFINISHED = "janus/unfinished"  # what the files of cancelled drawings begin with, in the output folder
_PREVIEW_INTERVAL_S = 0.25
_TEXT_INTERVAL_S = 0.1  # a message for every token would flood the page


class Throttle:
    """Lets something happen at once, and then at most once in an interval."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next_s = 0.0

    def is_due(self) -> bool:
        """Tell whether it may happen now; if so, it counts as done."""
        now = time.monotonic()
        if now < self._next_s:
            return False
        self._next_s = now + self._interval_s
        return True


class Progress:
    """A node's progress bar; polls Cancel at every step."""

    def __init__(self, node_id: str | None) -> None:
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def on_step(self, done: int, total: int) -> None:
        """Show `done` of `total`; raises if the user cancelled."""
        mm.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(done, total)


class DrawProgress(Progress):
    """Progress of a drawing with a preview of its first picture, unless previews are switched off."""

    def __init__(self, node_id: str | None, hosted: HostedJanus) -> None:
        super().__init__(node_id)
        self._node_id = node_id
        self._sketch: Sketch | None = None
        self._hosted = hosted
        self._is_shown = args.preview_method != LatentPreviewMethod.NoPreviews
        self._previews = Throttle(_PREVIEW_INTERVAL_S)
        self._watch = TokenWatch()

    def on_tokens(self, tokens: Tensor, pictures: Sequence[int]) -> None:
        """Have the first picture's tokens copied for a preview, at most four times a second."""
        if self._sketch is not None:
            self._sketch.on_tokens(tokens, pictures)
        if self._is_shown and self._previews.is_due():
            self._watch.look(tokens[0])

    def on_step(self, done: int, total: int) -> None:
        """Show progress, and a preview if its tokens have arrived; raises if the user cancelled."""
        mm.throw_exception_if_processing_interrupted()
        tokens = self._watch.seen()  # None until the copy is there: previews never wait for the device
        self._bar.update_absolute(done, total, None if tokens is None else self._preview(tokens))

    @contextmanager
    def kept_on_cancel(self, start: ImageTokens) -> Iterator[None]:
        """Watch a drawing from `start`; if it is cancelled, save what is drawn so far."""
        self._sketch = sketch = Sketch(start)
        try:
            yield
        except mm.InterruptProcessingException:
            begun = sketch.tokens()
            if begun is not None:
                self._save(begun)
            raise

    def _save(self, begun: ImageTokens) -> None:
        """Write a drawing that is not finished into the output folder, and say where it is."""
        try:
            path = new_token_file(_UNFINISHED)
            begun.save(path)
        except JanusError as error:  # the person pressed Cancel, and nothing is to become of that but its end
            log.warning("Janus: the unfinished drawing could not be saved: %s", error)
            return
        said = (
            f"Cancelled. What was drawn is in {_UNFINISHED.rpartition('/')[0]}/{path.name} in the output "
            "folder: choose it in Load Janus Tokens and connect that to image_tokens of Janus Draw to go on."
        )
        log.info("Janus: %s", said)
        show_text(said, self._node_id)

    def _preview(self, tokens: Tensor) -> tuple[str, Image.Image, int]:
        """Return a rough picture of the cells so far (cells,)."""
        config = self._hosted.autoregressive("Janus Draw").config
        colours = self._hosted.code_colours()
        samples = preview_image(tokens, colours, config.grid_side, config.vision.image_size)
        return _as_preview(samples)

    def finish(self, images: Tensor) -> None:
        """Show the finished first picture as the last preview."""
        if self._is_shown:
            self._bar.update_absolute(self._bar.total, self._bar.total, _as_preview(to_uint8(images[:1])[0]))


class FlowProgress(Progress):
    """Progress of a flow drawing, with core's preview of where its first picture is heading."""

    def __init__(self, node_id: str | None, device: torch.device) -> None:
        super().__init__(node_id)
        self._previewer = latent_preview.get_previewer(device, comfy.latent_formats.SDXL())
        self._previews = Throttle(_PREVIEW_INTERVAL_S)
        self._before: Tensor | None = None

    def on_latents(self, done: int, total: int, latents: Tensor) -> None:
        """Show a step, and at most four times a second a preview; raises when the person cancelled."""
        mm.throw_exception_if_processing_interrupted()
        preview = None
        if self._previewer is not None and (self._previews.is_due() or done == total):
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
        self._total = answers * max_new_tokens  # most answers end earlier, so `finish` fills the bar
        self._messages = Throttle(_TEXT_INTERVAL_S)
        self._done = 0
        self._texts: dict[int, str] = {}

    def restart(self) -> None:
        """Forget the texts of an attempt that was out of memory."""
        self._done = 0
        self._texts = {}

    def on_text(self, row: int, text: str) -> None:
        """Take the text so far of answer `row`, one token longer; raises if the user cancelled."""
        self._done += 1
        self.on_step(self._done, self._total)
        self._texts[row] = text
        if self._messages.is_due():
            self._send()

    def finish(self, texts: list[str]) -> None:
        """Show the final texts and a full bar."""
        self._texts = dict(enumerate(texts))
        self._send()
        self.on_step(self._total, self._total)

    def _send(self) -> None:
        show_text("\n\n".join(self._texts[row] for row in sorted(self._texts)), self._node_id)


def show_text(text: str, node_id: str | None) -> None:
    """Show a text on a node while it works."""
    server = _server()
    if server is not None and node_id is not None:
        server.send_progress_text(text, node_id, sid=server.client_id)


class Rate:
    """How fast texts were written, and how many of them were cut off at their longest."""

    def __init__(self, max_new_tokens: int) -> None:
        self._max_new_tokens = max_new_tokens
        self._begun_s = time.monotonic()
        self._tokens = 0
        self._texts = 0
        self._cut_off = 0

    def count(self, tokens: int, *, finished: bool) -> None:
        """Take a whole text of so many tokens."""
        self._tokens += tokens
        self._texts += 1
        self._cut_off += not finished

    def speed(self) -> str:
        """Say how many tokens were written a second, looking at pictures included; nothing without any."""
        elapsed_s = max(time.monotonic() - self._begun_s, 1e-3)
        per_second = self._tokens / elapsed_s
        return (
            f"{self._tokens} tokens in {elapsed_s:.1f} s: {per_second:.1f} a second" if self._tokens else ""
        )

    def cut_off(self) -> str:
        """Say how many texts were cut off, or nothing."""
        if not self._cut_off:
            return ""
        which = f"{self._cut_off} of {self._texts} captions"
        return f"{which} cut off at {self._max_new_tokens} tokens: raise max_new_tokens"


class Endings:
    """Notes which answers were cut off at their longest, and says so under their texts on the node."""

    def __init__(self, janus: Janus | JanusFlow, options: TextOptions) -> None:
        self._janus = janus
        self._options = options
        self._finished: dict[int, bool] = {}
        self._rate = Rate(options.max_new_tokens)

    def restart(self) -> None:
        """Forget the answers of an attempt that was out of memory."""
        self._finished = {}
        self._rate = Rate(self._options.max_new_tokens)

    def on_answer(self, row: int, answer: Answer) -> None:
        """Take a whole answer."""
        finished = is_finished(answer.token_ids, self._janus.tokenizer, self._options.stop)
        self._finished[row] = finished
        self._rate.count(len(answer.token_ids), finished=finished)

    def remarks(self) -> list[str]:
        """Return what is worth a remark on the node: how fast the answers were written."""
        return [self._rate.speed()]

    def shown(self, texts: list[str]) -> list[str]:
        """Return the texts as the node shows them; what leaves the node is not changed."""
        cut = f"\n(cut off at {self._options.max_new_tokens} tokens: raise max_new_tokens)"
        return [text + ("" if self._finished.get(row, True) else cut) for row, text in enumerate(texts)]


def _server() -> Any:
    from server import PromptServer  # core imports the nodes before the server exists

    return getattr(PromptServer, "instance", None)
