"""Image tokens: encode pictures, decode tokens, save them to files and load them."""

from typing import Any

import torch
from comfy_api.latest import io

from ..janus_core import VQ_TOGETHER, ImageError, ImageTokens, read_picture, write_note
from .bridge import folders
from .bridge.batching import in_batches
from .bridge.carried import carried_to, encode_or_read
from .bridge.hosting import HostedJanus
from .bridge.images import pictures_named, to_image, to_pictures
from .bridge.progress import Progress
from .bridge.remarks import KEY as REMARKS
from .bridge.saving import png_bytes, png_notes, save_files, shown_file
from .compat import schema, widget
from .types import ImageTokensSocket, JanusSocket


class JanusEncodeImage(io.ComfyNode):
    """Turn pictures into image tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusEncodeImage",
            display_name="Janus Encode Image (Image to Tokens)",
            category="Janus/tokens",
            description="Turns pictures into the image tokens that Janus draws with. A picture that Save "
            "Janus Pictures saved has them inside, and unchanged it gives them back exactly.",
            search_aliases=["encode", "tokenize", "vq", "janus", "janus pro", "deepseek"],
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                io.Image.Input(
                    "image", tooltip="The pictures. One of the model's own size is taken as it is."
                ),
                widget(
                    io.Combo.Input, "fit", options=["crop", "pad", "stretch"], default="crop",
                    tooltip="How a picture of another size becomes a square: cut the middle, add grey, or "
                    "distort.",
                ),
            ],
            outputs=[
                ImageTokensSocket.Output(
                    "tokens", display_name="tokens", tooltip="One grid of tokens per picture."
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: HostedJanus, image: torch.Tensor, fit: Any = "crop") -> io.NodeOutput:
        """Encode the batch."""
        pictures = to_pictures(image)
        janus = model.autoregressive("Janus Encode Image")
        progress = Progress(cls.hidden.unique_id)

        def encode(some: list[torch.Tensor]) -> ImageTokens:
            def attempt(together: int) -> ImageTokens:
                with pictures_named("Picture", len(some)):
                    return janus.encode(some, fit, batch_size=together, on_step=progress.on_step)

            return in_batches(attempt, min(VQ_TOGETHER, len(some)))

        carried = carried_to(cls.hidden.prompt, cls.hidden.unique_id, "image")
        tokens, said = encode_or_read(janus, pictures, carried, encode)
        return io.NodeOutput(tokens, ui={REMARKS: said})


class JanusDecodeTokens(io.ComfyNode):
    """Turn image tokens into pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusDecodeTokens",
            display_name="Janus Decode Tokens (Tokens to Image)",
            category="Janus/tokens",
            description="Turns image tokens back into pictures, with the model that made them.",
            search_aliases=["decode", "detokenize", "vq", "janus", "janus pro", "deepseek"],
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                ImageTokensSocket.Input(
                    "image_tokens", tooltip="From Janus Draw, Encode Image or Load Janus Tokens."
                ),
            ],
            outputs=[io.Image.Output("images", display_name="images", tooltip="The pictures.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: HostedJanus, image_tokens: ImageTokens) -> io.NodeOutput:
        """Decode the batch."""
        janus = model.autoregressive("Janus Decode Tokens")
        progress = Progress(cls.hidden.unique_id)

        def attempt(together: int) -> torch.Tensor:
            with pictures_named("Picture", len(image_tokens)):
                return janus.decode(image_tokens, batch_size=together, on_step=progress.on_step)

        return io.NodeOutput(to_image(in_batches(attempt, min(VQ_TOGETHER, len(image_tokens)))))


class JanusSavePictures(io.ComfyNode):
    """Save pictures with their image tokens inside."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusSavePictures",
            display_name="Save Janus Pictures",
            category="Janus/tokens",
            description="Saves drawn pictures as PNGs with the workflow and their image tokens inside, which "
            "Janus Encode Image gives back exactly; never over an existing file.",
            search_aliases=["save image", "export", "png", "tokens", "janus", "janus pro", "deepseek"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures as they were drawn."),
                ImageTokensSocket.Input(
                    "image_tokens", tooltip="Their image tokens, from the node that drew them."
                ),
                widget(
                    io.String.Input, "filename_prefix", default="janus/picture",
                    tooltip="Start of the files' names; a slash makes a subfolder of the output folder.",
                ),
            ],
            outputs=[],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, images: torch.Tensor, image_tokens: ImageTokens, filename_prefix: str = "janus/picture"
    ) -> io.NodeOutput:
        """Save each picture with its own tokens under the next free name."""
        pictures = [read_picture(picture) for picture in to_pictures(images, "images")]
        if len(pictures) != len(image_tokens):
            raise ImageError(
                f"There are {len(pictures)} pictures and image tokens of {len(image_tokens)}. Connect images "
                "and tokens of the same node."
            )
        hidden, shown = cls.hidden, []
        for row, picture in enumerate(pictures):
            notes = png_notes(hidden.prompt, hidden.extra_pnginfo, write_note(image_tokens, row, picture))
            paths = save_files(filename_prefix, {".png": png_bytes(picture, notes)}, picture.size)
            shown += [shown_file(path) for path in paths]
        return io.NodeOutput(ui={"images": shown})


class JanusSaveTokens(io.ComfyNode):
    """Save image tokens to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusSaveTokens",
            display_name="Save Janus Tokens",
            category="Janus/tokens",
            description="Saves image tokens into the output folder, never over an existing file.",
            search_aliases=["save", "tokens", "janus", "janus pro", "deepseek"],
            is_output_node=True,
            inputs=[
                ImageTokensSocket.Input("image_tokens", tooltip="What to save."),
                widget(
                    io.String.Input, "filename_prefix", default="janus/tokens",
                    tooltip="Start of the file's name; a slash makes a subfolder of the output folder.",
                ),
            ],
            outputs=[],
        )  # fmt: skip

    @classmethod
    def execute(cls, image_tokens: ImageTokens, filename_prefix: str = "janus/tokens") -> io.NodeOutput:
        """Save the tokens under the next free name."""
        path = folders.new_token_file(filename_prefix)
        image_tokens.save(path)
        return io.NodeOutput(ui={"text": [path.name]})


class JanusLoadTokens(io.ComfyNode):
    """Load image tokens from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusLoadTokens",
            display_name="Load Janus Tokens",
            category="Janus/tokens",
            description="Loads image tokens that Save Janus Tokens wrote.",
            search_aliases=["load", "tokens", "janus", "janus pro", "deepseek"],
            inputs=[
                widget(
                    io.Combo.Input, "file", options=folders.token_choices(),
                    tooltip="A file in the input folder, or one just saved in the output folder.",
                )
            ],
            outputs=[ImageTokensSocket.Output("tokens", display_name="tokens", tooltip="The saved tokens.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Load the tokens."""
        return io.NodeOutput(ImageTokens.load(folders.token_file(file)))

    @classmethod
    def fingerprint_inputs(cls, file: str | None, **_: Any) -> Any:
        """Return size and time of the file, so that a changed one is loaded again."""
        if file is None:  # the name comes from a link and is not known yet
            return None
        state = folders.token_file(file).stat()
        return state.st_size, state.st_mtime_ns
