"""Janus Redraw draws the masked part of a picture anew, token by token, and keeps the rest as it is."""

from typing import Any

import torch
from comfy_api.latest import io

from ..janus_core import Drawn, DrawOptions, ImageError, ImageTokens, RedrawOptions
from .bridge.batching import in_batches
from .bridge.hosting import HostedJanus
from .bridge.images import pictures_named, to_image, to_pictures
from .bridge.progress import DrawProgress
from .bridge.remarks import KEY as REMARKS
from .bridge.remarks import on_drawing
from .compat import schema, widget
from .types import ImageTokensSocket, JanusSocket
from .widgets import drawing_options
from .widgets import prompt as prompt_input


class JanusRedraw(io.ComfyNode):
    """Redraw pictures under a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusRedraw",
            display_name="Janus Redraw (Inpaint)",
            category="Janus",
            description="Draws the masked part of a picture anew from a prompt, and keeps the rest.",
            search_aliases=[
                "inpaint", "outpaint", "image to image", "img2img", "edit", "redraw", "janus", "janus pro",
                "deepseek",
            ],
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                io.Image.Input("image", optional=True, tooltip="The pictures to change."),
                ImageTokensSocket.Input(
                    "image_tokens", optional=True, tooltip="Image tokens to change, instead of pictures."
                ),
                io.Mask.Input(
                    "mask",
                    tooltip="1 where to draw anew: one for all pictures or one for each. A cell of the "
                    "model's grid is drawn when the mask exceeds 0.5 anywhere in it; values between 0 and 1 "
                    "blend.",
                ),
                prompt_input("What the whole picture should show."),
                *drawing_options(),
                widget(
                    io.Float.Input, "strength", default=1.0, min=0.0, max=1.0, step=0.05, round=0.001,
                    tooltip="1 draws freely, less pulls towards what was there, 0 changes nothing.",
                ),
                widget(
                    io.Int.Input, "candidates", default=1, min=1, max=64,
                    tooltip="How many fills are drawn side by side, of which the one comes out that suits "
                    "best what is kept to the right and below. Takes as much longer.",
                ),
                widget(
                    io.Combo.Input, "fit", options=["crop", "pad", "stretch"], default="crop",
                    tooltip="How a picture of another size becomes a square, and its mask with it: cut the "
                    "middle, add grey, or distort.",
                ),
                widget(
                    io.Boolean.Input, "keep_original", default=True, label_on="original around the mask",
                    label_off="all decoded",
                    tooltip="Whether the pixels outside the redrawn cells are the picture's own, or come "
                    "from the decoder as the redrawn ones do.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The changed pictures."),
                ImageTokensSocket.Output(
                    "tokens", display_name="tokens", tooltip="Their image tokens, kept ones and new ones."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: HostedJanus,
        mask: torch.Tensor,
        prompt: str,
        image: torch.Tensor | None = None,
        image_tokens: ImageTokens | None = None,
        negative_prompt: str = "",
        seed: int = 0,
        batch_size: int = 1,
        cfg_weight: float = 0.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = -1.0,
        strength: float = 1.0,
        candidates: int = 1,
        fit: Any = "crop",
        keep_original: bool = True,
    ) -> io.NodeOutput:
        """Redraw the batch."""
        janus = model.autoregressive("Janus Redraw")
        source = _source(image, image_tokens)
        options = RedrawOptions(
            strength=strength, num_images=batch_size, candidates=candidates,
            negative_prompt=negative_prompt, fit=fit, keep_original=keep_original,
            drawing=DrawOptions.from_numbers(
                cfg_weight=cfg_weight, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
            ),
        )  # fmt: skip
        progress = DrawProgress(cls.hidden.unique_id, model)
        pictures = max(batch_size, len(source))

        def attempt(together: int) -> Drawn:
            with pictures_named("Picture", pictures):
                return janus.redraw(
                    source, mask, prompt, seed=seed, options=options, batch_size=together,
                    on_step=progress.on_step, on_tokens=progress.on_tokens,
                )  # fmt: skip

        drawn = in_batches(attempt, pictures)
        progress.finish(drawn.images)
        said = on_drawing(model.world, prompt, negative_prompt)
        return io.NodeOutput(to_image(drawn.images), drawn.tokens, ui={REMARKS: said})


def _source(image: torch.Tensor | None, image_tokens: ImageTokens | None) -> list[torch.Tensor] | ImageTokens:
    """Return what to change: pictures or tokens, exactly one of them.

    Raises:
        ImageError: none is connected, or both are.
    """
    if image_tokens is not None and image is None:
        return image_tokens
    if image is None or image_tokens is not None:
        found = "Neither is" if image is None else "Both are"
        raise ImageError(
            f'Janus Redraw changes a picture ("image") or image tokens ("image_tokens"). {found} connected. '
            "Connect one of them."
        )
    return to_pictures(image)
