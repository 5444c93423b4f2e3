"""Janus Draw turns a prompt into pictures, one image token after the other, and shows them as they grow."""

import logging

from comfy_api.latest import io

from ..janus_core import Drawn, DrawOptions, ImageTokens
from .bridge.batching import in_batches
from .bridge.hosting import HostedJanus
from .bridge.images import pictures_named, to_image
from .bridge.progress import DrawProgress, show_text
from .bridge.remarks import KEY as REMARKS
from .bridge.remarks import on_drawing
from .compat import schema, widget
from .types import ImageTokensSocket, JanusSocket
from .widgets import drawing_options
from .widgets import prompt as prompt_input

log = logging.getLogger("janus.nodes")


class JanusDraw(io.ComfyNode):
    """Draw pictures from a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusDraw",
            display_name="Janus Draw (Text to Image)",
            category="Janus",
            description="Draws pictures from a prompt, at the size the model was trained for.",
            search_aliases=[
                "text to image", "txt2img", "generate", "draw", "janus", "janus pro", "deepseek",
            ],
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                ImageTokensSocket.Input(
                    "image_tokens", optional=True,
                    tooltip="Image tokens of a drawing that was cancelled, to go on from. Those of one "
                    "picture serve the whole batch.",
                ),
                prompt_input(),
                *drawing_options(),
                widget(
                    io.Int.Input, "keep_best", default=0, min=0, max=64,
                    tooltip="Return only so many of the batch, those that fit the prompt best, the best "
                    "first. The others are given up early, which takes half the time. 0 returns all.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The pictures."),
                ImageTokensSocket.Output(
                    "tokens", display_name="tokens",
                    tooltip="The image tokens that the pictures were decoded from.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: HostedJanus,
        prompt: str,
        negative_prompt: str = "",
        seed: int = 0,
        batch_size: int = 1,
        cfg_weight: float = 0.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = -1.0,
        keep_best: int = 0,
        image_tokens: ImageTokens | None = None,
    ) -> io.NodeOutput:
        """Draw the batch."""
        janus = model.autoregressive("Janus Draw")
        options = DrawOptions.from_numbers(
            cfg_weight=cfg_weight, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            keep_best=keep_best,
        )  # fmt: skip
        recommended = janus.guidance.cfg_weight
        # a weight that suits the large models, such as 5, spoils the pictures of one that recommends 2
        if cfg_weight > 2 * recommended:
            log.warning(
                "Janus: cfg_weight %g is far above what this model draws well with. Try %g in Janus Draw.",
                cfg_weight,
                recommended,
            )
        start = janus.begin(batch_size, image_tokens)
        progress = DrawProgress(cls.hidden.unique_id, model)

        def attempt(together: int) -> Drawn:
            with pictures_named("Picture", len(start)), progress.kept_on_cancel(start):
                return janus.resume(
                    start, prompt, seed=seed, negative_prompt=negative_prompt, options=options,
                    batch_size=together, on_step=progress.on_step, on_tokens=progress.on_tokens,
                )  # fmt: skip

        drawn = in_batches(attempt, len(start))
        progress.finish(drawn.images)
        if keep_best:
            seeds = ", ".join(map(str, drawn.seeds))
            show_text(f"Kept, the best first: seed {seeds}.", cls.hidden.unique_id)
        said = on_drawing(model.world, prompt, negative_prompt)
        return io.NodeOutput(to_image(drawn.images), drawn.tokens, ui={REMARKS: said})  # (b, h, w, 3)
