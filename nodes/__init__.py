"""The extension: which nodes there are, in the order a person meets them."""

from comfy_api.latest import ComfyExtension, io

from .ask_caption import JanusAsk, JanusCaption
from .bridge import folders
from .draw import JanusDraw
from .keep_tokens import JanusDecodeTokens, JanusEncodeImage, JanusLoadTokens, JanusSaveTokens
from .load import JanusLoad
from .redraw import JanusRedraw


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
            JanusRedraw,
            JanusEncodeImage,
            JanusDecodeTokens,
            JanusSaveTokens,
            JanusLoadTokens,
        ]
