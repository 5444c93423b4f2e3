"""Makes the pictures of the help pages in a real page: `python tests/browser/help_pictures.py [NODE ...]`.

Each shows a node in use: a small graph is built and run on the bundled model, and the node is photographed
with its result above or below it, narrow enough for the panel that shows help. Nodes of JanusFlow, whose
model does not come with the pack, are shown connected and not run. Also writes `web/docs/<NODE>.md`, which
other languages fall back to, from the English pages.
"""

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "comfyui"), str(HERE)]

from comfy_server import PACK, Server, find_comfyui
from help_scenes import SCENES, Scene
from page_actions import build, crop, run
from page_start import launched, open_page, quiet_settings

DOCS = PACK / "web" / "docs"
PICTURE = "node.jpg"
_LARGEST_BYTES, _QUALITY = 45_000, 85
_VIEWPORT = {"width": 1100, "height": 1900}
_WIDTH_PX, _GAP_PX, _TITLE_PX, _FAR_PX = 420, 24, 44, 1600
_TOP_LEFT = (120, 140)

# Put rows of nodes under each other, all others far to the left; returns the size of all rows in pixels.
_STACK = """([ids, rows, width, gap, title, far, [left, top]]) => {
    const get = name => app.rootGraph.getNodeById(ids[name]);
    Object.keys(ids).forEach((name, i) => (get(name).pos = [-far, i * 900]));
    let y = 0;
    for (const row of rows) {
        const each = (width - gap * (row.length - 1)) / row.length;
        let end = 0;
        row.forEach(([name, height], i) => {
            const node = get(name);
            node.pos = [i * (each + gap), y + title];
            node.setSize([each, height || node.computeSize()[1]]);
            end = Math.max(end, node.size[1]);
        });
        y += end + title + gap;
    }
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [left, top];
    app.canvas.deselectAll?.();
    app.canvas.setDirty(true, true);
    return [width, y - gap];
}"""


def photograph(page, server, name: str, scene: Scene) -> None:
    """Build and run a scene and keep its picture."""
    if scene.prepare:
        scene.prepare(server)
        page.evaluate("app.refreshComboInNodes()")
        page.wait_for_timeout(1500)
    ids = build(page, scene.nodes, scene.links)
    if scene.is_run:
        done = run(page, server, timeout_s=400)
        if done["status"]["status_str"] != "success":
            raise RuntimeError(f"the graph of {name} ended with {done['status']}")
        page.wait_for_timeout(1500)
    rows = [[(one, scene.heights.get(one, 0)) for one in row] for row in scene.rows]
    layout = [ids, rows, _WIDTH_PX, _GAP_PX, _TITLE_PX, _FAR_PX, list(_TOP_LEFT)]
    for _ in range(2):  # texts take their height once the node has its width
        width, height = page.evaluate(_STACK, layout)
        page.wait_for_timeout(1500)
    picture = crop(page, _TOP_LEFT, (width, height))
    path = DOCS / name / PICTURE
    for quality in range(_QUALITY, 20, -10):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size < _LARGEST_BYTES:
            return


def main(chosen: list[str]) -> None:
    """Photograph the chosen nodes, or all."""
    from playwright.sync_api import sync_playwright

    comfy = find_comfyui()
    if comfy is None:
        raise SystemExit("no ComfyUI found: set COMFYUI_PATH")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as session:
        server = Server(comfy, Path(folder) / "base", packs=[], has_page=True)
        server.start()
        try:
            quiet_settings(server)
            browser = launched(session)
            page = open_page(browser.new_context(viewport=_VIEWPORT), server)
            for name in chosen or SCENES:
                photograph(page, server, name, SCENES[name])
            browser.close()
        finally:
            server.stop()
    for name in SCENES:
        shutil.copyfile(DOCS / name / "en.md", DOCS / f"{name}.md")


if __name__ == "__main__":
    main(sys.argv[1:])
