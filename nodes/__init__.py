"""The extension: the list of nodes, in the order users meet them."""

from comfy_api.latest import ComfyExtension, io

from .ask_caption import JanusAsk, JanusCaption
from .bridge import folders, page, replacing
from .datasets import JanusCaptionFolder, JanusSaveCaptions
from .draw import JanusDraw
from .draw_flow import JanusFlowDraw, JanusFlowModel
from .keep_tokens import (
    JanusDecodeTokens,
    JanusEncodeImage,
    JanusLoadTokens,
    JanusSavePictures,
    JanusSaveTokens,
)
from .load import JanusLoad
from .lora import JanusLoRA
from .other_packs import REPLACEMENTS
from .pick import JanusChoose, JanusScore
from .redraw import JanusRedraw


class JanusExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Register the model folder and the page's route, and list the nodes."""
        # here and not in `on_load`, which older releases do not call
        folders.register()
        page.register()
        return [
            JanusLoad,
            JanusLoRA,
            JanusCaption,
            JanusAsk,
            JanusCaptionFolder,
            JanusSaveCaptions,
            JanusDraw,
            JanusRedraw,
            JanusScore,
            JanusChoose,
            JanusFlowDraw,
            JanusFlowModel,
            JanusEncodeImage,
            JanusDecodeTokens,
            JanusSavePictures,
            JanusSaveTokens,
            JanusLoadTokens,
        ]

    async def on_load(self) -> None:
        """Offer our nodes in place of those of other packs that are not installed."""
        await replacing.register(REPLACEMENTS)
