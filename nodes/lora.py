"""Janus LoRA: an adapter on top of a loaded model, as strong as one likes; several stack."""

from typing import Any

from comfy_api.latest import io

from ..janus_core import Lora
from .bridge import adapters
from .compat import schema, widget
from .types import JanusSocket


class JanusLoRA(io.ComfyNode):
    """Put an adapter on a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusLoRA",
            display_name="Janus LoRA",
            category="Janus",
            description="Puts an adapter (LoRA) on a model. The model that comes in stays as it is; several "
            "of these nodes stack, in any order.",
            search_aliases=["janus", "lora", "adapter", "peft", "load lora", "fine-tune", "style"],
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus, or another Janus LoRA."),
                widget(
                    io.Combo.Input, "adapter", options=adapters.adapter_choices(),
                    tooltip="A .safetensors in the folder loras, or a folder that PEFT saved, there or in "
                    "models/janus. It has to be made for this model: those of other models are refused.",
                ),
                widget(
                    io.Float.Input, "strength", default=1.0, min=-100.0, max=100.0, step=0.01, round=0.001,
                    tooltip="How strongly it changes the model. 1 is as it was trained, 0 switches it off, "
                    "below 0 turns away from it.",
                ),
            ],
            outputs=[
                JanusSocket.Output("janus", display_name="janus", tooltip="The model with the adapter.")
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: Any, adapter: str, strength: float = 1.0) -> io.NodeOutput:
        """Read the adapter and put it on the model."""
        lora = Lora(path=adapters.adapter_path(adapter), strength=strength)
        return io.NodeOutput(adapters.with_lora(model, lora))

    @classmethod
    def fingerprint_inputs(cls, adapter: str | None, **_: Any) -> Any:
        """Return the state of the adapter's files, so that a replaced one is read again."""
        # None: the name comes from a link and is not known yet
        return None if adapter is None else adapters.adapter_state(adapter)
