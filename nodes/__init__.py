"""The extension: which nodes there are, in the order a person meets them."""

from comfy_api.latest import ComfyExtension, io

from .bridge import folders
from .drawing import JanusDraw
from .image_tokens import JanusDecodeTokens, JanusEncodeImage, JanusLoadTokens, JanusSaveTokens
from .loading import JanusLoad
from .understanding import JanusAsk, JanusCaption


class JanusExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Register the model folder and list the nodes; every release calls this, not every one `on_load`."""
        folders.register()
        return [
            JanusLoad,
            JanusCaption,
            JanusAsk,
            JanusDraw,
            JanusEncodeImage,
            JanusDecodeTokens,
            JanusSaveTokens,
            JanusLoadTokens,
        ]
