"""Load Janus: users choose a model by name; everything else follows from its files."""

from typing import Any

from comfy_api.latest import io

from .bridge import aliases, downloads, folders
from .bridge.hosting import Residency, host
from .compat import schema, widget
from .types import JanusSocket


class JanusLoad(io.ComfyNode):
    """Load a Janus model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusLoad",
            display_name="Load Janus",
            category="Janus",
            description="Loads a model that looks at pictures and draws them.",
            search_aliases=[
                "janus", "janus pro", "janusflow", "deepseek", "load model", "model loader", "vlm",
                "describe", "text to image", "image to text",
            ],
            inputs=[
                widget(
                    io.Combo.Input, "model", options=folders.model_choices(),
                    tooltip="A folder or .safetensors file in models/janus, such a file in "
                    "models/text_encoders, or a published model: one that is not installed is "
                    "downloaded when the node runs (Janus-1.3B and Janus-Pro-1B 4.2 GB, Janus-Pro-7B 14.8 "
                    "GB). Janus-Pro-1B needs about 5 GB of memory, Janus-Pro-7B 16 GB; both can also be "
                    "streamed with less. janus-shapes comes with the pack and is for trying things out: it "
                    "knows only coloured shapes.",
                ),
                widget(
                    io.Combo.Input, "dtype", options=["auto", "float32", "bfloat16", "float16"],
                    default="auto",
                    tooltip="The number format to compute in. auto takes what ComfyUI finds best for this "
                    "device.",
                ),
                widget(
                    io.Combo.Input, "residency", options=["auto", "fast", "offload"], default="auto",
                    tooltip="fast keeps the whole model on the device, offload streams it when memory is "
                    "short, auto decides by size.",
                ),
            ],
            outputs=[
                JanusSocket.Output("janus", display_name="janus", tooltip="The model, for all Janus nodes.")
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: str, dtype: str = "auto", residency: Residency = "auto") -> io.NodeOutput:
        """Fetch a published model that is not there yet, and read the model's files."""
        model = aliases.model_name(model)
        downloads.fetch_if_absent(model, cls.hidden.unique_id)
        return io.NodeOutput(host(folders.model_folder(model), dtype, residency))

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        """Take names that other packs have for a model, which are not in the list."""
        return aliases.check_model(model)

    @classmethod
    def fingerprint_inputs(cls, model: str | None, **_: Any) -> Any:
        """Return the state of the model's files, so that a replaced model is loaded again."""
        # None: the name comes from a link and is not known yet
        return None if model is None else folders.model_state(aliases.model_name(model))
