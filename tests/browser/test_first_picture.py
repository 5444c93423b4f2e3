"""Who has just installed the pack gets from the page's first dialog to a picture in three clicks."""

import pytest

pytestmark = pytest.mark.browser
TEMPLATE = "Draw four pictures with Janus"
_START_MS = 400_000
_HAS_DRAWING_NODES = "app.rootGraph.nodes.some(node => node.type === 'JanusDraw')"
# Finished pictures: those of the node that draws may be previews of what is half drawn.
_SHOWN = """() => app.rootGraph.nodes
    .filter(node => node.type === "PreviewImage")
    .flatMap(node => node.imgs ?? [])
    .filter(picture => picture.complete && picture.naturalWidth > 1).length"""


@pytest.fixture
def new_page(server, browser):
    """The page as somebody sees it who has never opened it before."""
    settings = server.base / "user" / "default" / "comfy.settings.json"
    usual = settings.read_text(encoding="utf-8")
    context = browser.new_context(viewport={"width": 1700, "height": 1000})
    try:
        settings.write_text("{}", encoding="utf-8")
        page = context.new_page()
        page.set_default_timeout(_START_MS)
        page.goto(server.url)
        yield page
    finally:
        context.close()
        settings.write_text(usual, encoding="utf-8")  # a new page writes its own


def test_three_clicks_lead_to_the_first_picture(new_page):
    new_page.get_by_text("janus-nodes", exact=True).first.click()
    new_page.locator(f'[data-testid="template-workflow-{TEMPLATE}"]').click()
    new_page.wait_for_function(_HAS_DRAWING_NODES)
    new_page.get_by_test_id("queue-button").first.click()
    new_page.wait_for_function(f"({_SHOWN})() > 0")
