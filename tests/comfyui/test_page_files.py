"""What the page gets beside the nodes, by the routes it uses: help, texts, workflows, thumbnails."""

import io
import json
import re
import urllib.parse

import pytest
from comfy_client import Client
from comfy_server import PACK
from PIL import Image
from test_loading import NODES

WORKFLOWS = sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
LOCALES = PACK / "locales"
LANGUAGES = sorted(path.name for path in LOCALES.iterdir())
_LARGEST_PX, _LARGEST_BYTES = 1200, 300_000


@pytest.mark.parametrize("name", NODES)
def test_every_node_has_its_help_page_and_picture(client: Client, name: str) -> None:
    docs = "/extensions/janus-nodes/docs"  # where the page looks for the language's, then for any
    title = client.get(f"/object_info/{name}")[name]["display_name"]
    page = client.get_bytes(f"{docs}/{name}/en.md").decode()
    assert page.splitlines()[0] == f"# {title}"
    assert client.get_bytes(f"{docs}/{name}.md").decode() == page
    for text in (page, client.get_bytes(f"{docs}/{name}/zh.md").decode()):
        [picture] = re.findall(r"!\[.+\]\((.+)\)", text)
        with Image.open(io.BytesIO(client.get_bytes(f"{docs}/{picture}"))) as shown:
            assert shown.format == "JPEG"


def test_every_help_page_belongs_to_a_node() -> None:
    assert {path.stem for path in (PACK / "web" / "docs").iterdir()} == set(NODES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_texts_of_every_language_reach_the_page(client: Client, language: str) -> None:
    sent = {
        name: texts
        for name, texts in client.get("/i18n")[language]["nodeDefs"].items()
        if name.startswith("Janus")
    }
    kept = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert list(sent) == list(kept)
    assert sent == kept


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_and_schemas_have_the_same_inputs_and_outputs(client: Client, language: str) -> None:
    texts, schemas = client.get("/i18n")[language]["nodeDefs"], client.get("/object_info")
    for name in NODES:
        node = schemas[name]
        inputs = {*node["input"].get("required", {}), *node["input"].get("optional", {})}
        assert set(texts[name]["inputs"]) == inputs, name
        assert list(texts[name]["outputs"]) == [str(place) for place in range(len(node["output"]))], name


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
