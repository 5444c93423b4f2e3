"""Which model folders are offered and in which order, on an installation laid out for the check."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import folder_paths
import torch
from janus_pack.janus_core import CheckpointError, convert
from janus_pack.nodes.bridge import folders, hosting
from safetensors.torch import save_file

PUBLISHED = ["Janus-Pro-1B", "Janus-Pro-7B", "Janus-1.3B", "JanusFlow-1.3B"]


@contextlib.contextmanager
def installation(**extra):
    """Give ComfyUI an empty models folder, no bundled model, and further folders of a person by key."""
    with (
        tempfile.TemporaryDirectory() as models,
        mock.patch.object(folder_paths, "models_dir", models),
        mock.patch.dict(folder_paths.folder_names_and_paths, clear=True),
        mock.patch.object(folders, "bundled_models", dict),
    ):
        for key, path in extra.items():
            folder_paths.add_model_folder_path(key, str(path))
        folders.register()
        yield Path(models)


def check_no_model_at_all_is_said_in_the_list(_: Path) -> None:
    with installation():
        assert folders.model_choices() == [folders.NOTHING_INSTALLED, *PUBLISHED]
        try:
            folders.model_folder(folders.NOTHING_INSTALLED)
        except CheckpointError as error:
            message = str(error)
    assert "There is no Janus model yet. Put one into" in message


def check_installed_models_come_before_published_ones(models: Path) -> None:
    with installation() as base:
        shutil.copytree(models / "janus-tiny", base / "janus" / "mine")
        assert folders.model_choices() == ["mine", *PUBLISHED]
        assert folders.model_folder("mine") == base / "janus" / "mine"


def check_a_published_model_that_is_installed_is_listed_once(models: Path) -> None:
    with installation() as base:
        shutil.copytree(models / "janus-tiny", base / "Janus-Pro" / "Janus-Pro-1B")
        assert folders.model_choices() == PUBLISHED
        assert folders.model_folder("Janus-Pro-1B") == base / "Janus-Pro" / "Janus-Pro-1B"


def check_a_persons_own_folder_comes_first(models: Path) -> None:
    with tempfile.TemporaryDirectory() as elsewhere, installation(janus=elsewhere) as base:
        for parent in (Path(elsewhere), base / "janus", base / "LLM"):
            shutil.copytree(models / "janus-tiny", parent / "mine")
        assert folders.model_choices() == ["mine", *PUBLISHED]
        assert folders.model_folder("mine") == Path(elsewhere) / "mine"


def check_models_that_lie_deeper_are_listed_by_their_own_name(models: Path) -> None:
    places = {
        "Janus-Pro/deepseek-ai/Janus-Pro-7B": "Janus-Pro-7B",
        "janus/doubled/doubled": "doubled",
        "LLM/models--me--Mine/snapshots/12ab": "Mine",
    }
    with installation() as base:
        for place in places:
            shutil.copytree(models / "janus-tiny", base / place)
        assert sorted(set(folders.model_choices()) - set(PUBLISHED)) == ["Mine", "doubled"]
        for place, name in places.items():
            assert folders.model_folder(name) == base / place


def check_models_put_right_into_a_search_folder_are_listed(models: Path) -> None:
    with installation() as base:
        shutil.copytree(models / "janus-tiny", base / "Janus-Pro")
        shutil.copytree(models / "janus-tiny", base / "Janus-Pro" / "another")
        assert folders.model_choices() == ["Janus-Pro", "another", *PUBLISHED]
        assert folders.model_folder("Janus-Pro") == base / "Janus-Pro"


def check_a_complete_model_comes_before_an_unfinished_one(models: Path) -> None:
    with installation() as base:
        for place in ("janus", "LLM"):
            shutil.copytree(models / "janus-tiny", base / place / "Janus-Pro-1B")
        for damage in ("tokenizer.json", "pytorch_model-00002-of-00002.bin"):
            (base / "janus" / "Janus-Pro-1B" / damage).unlink()
            assert folders.model_choices() == PUBLISHED
            assert folders.model_folder("Janus-Pro-1B") == base / "LLM" / "Janus-Pro-1B"


def check_a_complete_model_elsewhere_spares_a_download(models: Path) -> None:
    with installation() as base:
        shutil.copytree(models / "janus-tiny", base / "LLM" / "deepseek-ai" / "Janus-Pro-1B")
        assert folders.folder_to_fill("Janus-Pro-1B") is None
        with mock.patch.object(folders, "is_unfinished", return_value=True):
            assert folders.folder_to_fill("Janus-Pro-1B") is None


def check_an_unfinished_model_is_named_by_its_path_instead_of_a_download(models: Path) -> None:
    with installation() as base:
        folder = base / "LLM" / "deepseek-ai" / "Janus-Pro-1B"
        shutil.copytree(models / "janus-tiny", folder)
        (folder / "pytorch_model-00002-of-00002.bin").unlink()
        assert folders.model_folder("Janus-Pro-1B") == folder


def check_models_in_one_file_are_listed_by_their_names(models: Path) -> None:
    with installation() as base:
        encoders = base / "text_encoders"
        for folder in (base / "janus" / "deeper", encoders):
            folder.mkdir(parents=True)
        folder_paths.add_model_folder_path("text_encoders", str(encoders))
        convert(models / "janus-tiny", base / "janus" / "deeper" / "one.safetensors")
        convert(models / "janusflow-tiny", encoders / "flow.safetensors")
        save_file({"weight": torch.ones(1)}, encoders / "clip.safetensors")
        assert folders.model_choices() == ["one.safetensors", "flow.safetensors", *PUBLISHED]
        assert folders.model_folder("flow.safetensors") == encoders / "flow.safetensors"
        before = folders.model_state("one.safetensors")
        os.utime(base / "janus" / "deeper" / "one.safetensors", ns=(1, 1))
        assert folders.model_state("one.safetensors") != before
        loaded = hosting.host(folders.model_folder("one.safetensors"), "float32", "auto")
        assert str(loaded) == "one.safetensors, float32, CPU"


def check_the_case_of_letters_does_not_matter(models: Path) -> None:
    with installation() as base:
        shutil.copytree(models / "janus-tiny", base / "janus" / "janus-pro-1b")
        found = folders.model_folder("Janus-Pro-1B")
        assert found.name.lower() == "janus-pro-1b"
        assert (found / "config.json").exists()


def check_a_replaced_file_changes_the_state_of_a_folder(models: Path) -> None:
    with installation() as base:
        folder = base / "janus" / "mine"
        shutil.copytree(models / "janus-tiny", folder)
        before = folders.folder_state(folder)
        assert folders.folder_state(folder) == before
        (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
        assert folders.folder_state(folder) != before


def check_a_model_in_another_place_has_another_state(models: Path) -> None:
    with installation() as base:
        for name in ("one", "two"):
            shutil.copytree(models / "janus-tiny", base / "janus" / name)
        one, two = (folders.folder_state(base / "janus" / name) for name in ("one", "two"))
        assert [entry[1:] for entry in one] == [entry[1:] for entry in two]
        assert one != two


@contextlib.contextmanager
def pictures_folder():
    """Give ComfyUI an input folder of its own, whose last change lies back so far that it has settled."""
    with (
        tempfile.TemporaryDirectory() as inputs,
        mock.patch.object(folder_paths, "get_input_directory", return_value=inputs),
        mock.patch.object(folder_paths, "get_output_directory", return_value=inputs),
    ):
        base = Path(inputs)
        (base / "deep" / "er").mkdir(parents=True)
        (base / "deep" / "er" / f"old{folders.TOKENS_SUFFIX}").touch()
        (base / "picture.png").touch()
        for folder in (base, base / "deep", base / "deep" / "er"):
            os.utime(folder, (1, 1))
        yield base


def check_token_files_are_found_at_any_depth(_: Path) -> None:
    with pictures_folder():
        name = f"deep/er/old{folders.TOKENS_SUFFIX}"
        assert folders.token_choices() == [name, f"{name} [output]"]


def check_folders_that_did_not_change_are_not_read_again(_: Path) -> None:
    with pictures_folder():
        before = folders.token_choices()
        with mock.patch.object(os, "scandir", side_effect=AssertionError("read again")):
            assert folders.token_choices() == before


def check_new_token_files_are_noticed_at_once(_: Path) -> None:
    with pictures_folder() as base:
        folders.token_choices()
        for number in range(3):
            (base / "deep" / f"new{number}{folders.TOKENS_SUFFIX}").touch()
            assert f"deep/new{number}{folders.TOKENS_SUFFIX}" in folders.token_choices()
