"""Names that other packs have for models, and what is registered where ComfyUI replaces nodes or does not."""

import asyncio
import shutil
from pathlib import Path
from unittest import mock

import server
from checks_folders import installation
from comfy_api import latest
from janus_pack.nodes import JanusExtension
from janus_pack.nodes.bridge import aliases, downloads, page
from janus_pack.nodes.load import JanusLoad


def put(models: Path, *places: Path) -> None:
    for place in places:
        shutil.copytree(models / "janus-tiny", place)


def check_repositories_mean_the_published_model(_: Path) -> None:
    with installation():
        for name in ("Janus-Pro-1B", "Janus-Pro-7B", "Janus-1.3B"):
            assert aliases.model_name(f"deepseek-ai/{name}") == name
        assert aliases.model_name("deepseek-community/Janus-Pro-7B") == "Janus-Pro-7B"
        assert JanusLoad.validate_inputs(model="deepseek-ai/Janus-Pro-1B") is True


def check_a_path_means_only_what_is_installed(models: Path) -> None:
    paths = ["models/Janus-Pro/Janus-Pro-1B", "D:\\models\\Janus-Pro-1B\\", "/x/deepseek-ai/Janus-Pro-1B/"]
    with installation() as base:
        for path in paths:
            assert aliases.model_name(path) == path
            assert "is no name of a model folder" in JanusLoad.validate_inputs(model=path)
        put(models, base / "Janus-Pro" / "Janus-Pro-1B")
        assert [aliases.model_name(path) for path in paths] == ["Janus-Pro-1B"] * 3


def check_a_path_asks_for_no_download(_: Path) -> None:
    with installation(), mock.patch.object(downloads, "plan_download") as plan:
        for name in ("models/Janus-Pro/Janus-Pro-1B", "somebody/Janus-Pro-1B"):
            downloads.fetch_if_absent(aliases.model_name(name), None)
    assert not plan.called


def check_base_means_the_files_in_the_shared_folder_if_they_are_there(models: Path) -> None:
    with installation():
        assert aliases.model_name("base") == "Janus-Pro-7B"
    with installation() as base:
        put(models, base / "Janus-Pro")
        assert aliases.model_name("base") == "Janus-Pro"
    with installation() as base:
        put(models, base / "janus" / "base")
        assert aliases.model_name("base") == "base"


def check_installed_names_stay_and_unknown_ones_are_refused(models: Path) -> None:
    with installation() as base:
        put(models, base / "janus" / "mine")
        assert aliases.model_name("mine") == "mine"
        assert JanusLoad.validate_inputs(model="mine") is True
        assert JanusLoad.validate_inputs(model=None) is True  # along a link
        assert "There is no model folder" in JanusLoad.validate_inputs(model="somewhat")
        assert "is no name of a model folder" in JanusLoad.validate_inputs(model="deepseek-ai/other")


def check_the_page_is_told_what_models_are_called_elsewhere(_: Path) -> None:
    with installation():
        told = page.notes()["aliases"]
    assert told["deepseek-ai/Janus-Pro-1B"] == "Janus-Pro-1B"
    assert told["base"] == "Janus-Pro-7B"


def load() -> mock.Mock:
    """Load the extension with a server that notes what is registered."""
    noted = mock.Mock()
    with mock.patch.object(server.PromptServer, "instance", noted, create=True):
        asyncio.run(JanusExtension().on_load())
    return noted


def check_every_old_id_is_registered_once(_: Path) -> None:
    noted = load()
    old = [call.args[0].old_node_id for call in noted.node_replace_manager.register.call_args_list]
    assert len(old) == len(set(old)) == 29
    assert noted.add_on_prompt_handler.call_count == 1


def check_without_replacement_nothing_is_registered(_: Path) -> None:
    public = mock.Mock(spec=[name for name in vars(latest.io) if name != "NodeReplace"])
    with mock.patch.object(latest, "io", public):
        assert load().mock_calls == []
    with mock.patch.object(latest, "ComfyAPI", mock.Mock(return_value=object())):
        assert load().mock_calls == []


def check_without_a_server_nothing_is_registered(_: Path) -> None:
    with mock.patch.object(server.PromptServer, "instance", None, create=True):
        asyncio.run(JanusExtension().on_load())
