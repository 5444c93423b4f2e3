"""ComfyUI's door to the pack: it names the web folder and, when asked, hands over the nodes.

Nothing heavy is imported at module level, so that tools which import this file outside ComfyUI succeed
(pytest does).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import JanusExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> JanusExtension:
    """Return the extension with all nodes; a failure is logged with its traceback, ComfyUI shows one line."""
    try:
        from .nodes import JanusExtension
    except Exception:
        logging.getLogger("janus").exception("Janus: the nodes could not be loaded")
        raise
    return JanusExtension()
