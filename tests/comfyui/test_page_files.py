"""What the page gets beside the nodes, by the routes it uses: help, texts, workflows, thumbnails."""

import io
import json
import urllib.parse

import pytest
from comfy_client import Client
from comfy_server import PACK
from PIL import Image
from test_loading import NODES

WORKFLOWS = sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
_LARGEST_PX, _LARGEST_BYTES = 1200, 300_000


@pytest.mark.parametrize("name", NODES)
def test_every_node_has_its_help_page(client: Client, name: str) -> None:
    page = client.get_bytes(f"/extensions/janus-nodes/docs/{name}/en.md").decode()
    title = client.get(f"/object_info/{name}")[name]["display_name"]
    assert page.splitlines()[0] == f"# {title}"
    assert len(page) > 100


def test_every_help_page_belongs_to_a_node() -> None:
    assert {path.name for path in (PACK / "web" / "docs").iterdir()} == set(NODES)


def test_the_english_texts_reach_the_page(client: Client) -> None:
    texts = client.get("/i18n")["en"]["nodeDefs"]
    assert {name for name in texts if name.startswith("Janus")} == set(NODES)


def test_the_example_workflows_are_offered(client: Client) -> None:
    assert sorted(client.get("/workflow_templates")["janus-nodes"]) == WORKFLOWS


@pytest.mark.parametrize("name", WORKFLOWS)
def test_an_example_workflow_reaches_the_page(client: Client, name: str) -> None:
    path = f"/api/workflow_templates/janus-nodes/{urllib.parse.quote(name)}"
    sent = client.get(f"{path}.json")
    assert sent == json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    thumbnail = client.get_bytes(f"{path}.jpg")
    assert len(thumbnail) < _LARGEST_BYTES
    with Image.open(io.BytesIO(thumbnail)) as picture:
        assert picture.format == "JPEG"
        assert max(picture.size) <= _LARGEST_PX
