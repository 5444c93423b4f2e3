"""How the real page is started: the distribution's Chromium, settings that keep it quiet, a first page."""

import json
import shutil
import urllib.request

from page_actions import IS_READY

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_START_MS = 400_000  # a page of 30 MB of scripts, on cores shared with other work


def chromium() -> str | None:
    """Return the path of the distribution's Chromium, if there is one."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


def launched(session):
    """Start the distribution's Chromium."""
    return session.chromium.launch(executable_path=chromium(), args=_FLAGS)


def quiet_settings(server):
    """Let the page open without its tutorial, and draw no more than a test needs."""
    settings = {
        "Comfy.TutorialCompleted": True,
        "Comfy.Minimap.Visible": False,
        "LiteGraph.Canvas.MaximumFps": 10,  # drawing without a GPU takes the time that the page needs
    }
    request = urllib.request.Request(
        f"{server.url}/settings",
        data=json.dumps(settings).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()


def open_page(context, server):
    """Open the page of a server and wait until it can be used."""
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.goto(server.url, timeout=_START_MS)
    page.wait_for_function(IS_READY, timeout=_START_MS)
    return page
