"""What the page asks for: which models are installed, and what to say of each before it runs.

One route, which only reads. The texts are written here, so that the page's script knows nothing of models.
"""

import logging
from typing import Any

from aiohttp import web

from ...janus_core import PUBLISHED, CheckpointError
from . import aliases, folders
from .remarks import read_world

log = logging.getLogger("janus.page")

ROUTE = "/janus/models"


def register() -> None:
    """Answer the page's question; without a server, as in scripts, nobody asks it."""
    from server import PromptServer  # core imports the nodes before the server exists

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.get(ROUTE)(_models)


async def _models(_request: web.Request) -> web.Response:
    return web.json_response(notes())


def notes() -> dict[str, Any]:
    """Return what is to be said of every model that may be chosen and of any other name, and aliases."""
    models = {name: _note(name) for name in (*PUBLISHED, *folders.installed_models())}
    home = folders.shown_path(folders.search_folders()[0])
    unknown = f"This model is not installed. Put its folder into {home}, or choose one from the list."
    return {"models": models, "aliases": aliases.known_aliases(), "unknown": unknown}


def _note(name: str) -> dict[str, Any]:
    target = folders.folder_to_fill(name)
    if target is not None:
        text = (
            f"{name} is not installed. Run downloads {PUBLISHED[name].size_gb} GB into "
            f"{folders.shown_path(target)}."
        )
        return {"is_installed": False, "text": text}
    try:
        world = read_world(folders.model_folder(name))
    except CheckpointError as error:  # what is wrong with it is said when it is loaded, and before
        log.warning("Janus: %s", error)
        return {"is_installed": True, "text": str(error)}
    return {"is_installed": True, "text": "" if world is None else world.introduction()}
