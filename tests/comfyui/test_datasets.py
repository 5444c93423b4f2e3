"""Training sets on a real server: folders that a person allows, pairs of files, styles of one's own."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comfy_client import Client, RefusedError, Run
from comfy_server import Server
from conftest import GOLDEN, CoreResults
from graphs import Graph
from PIL import Image

PICTURES = ("landscape.png", "portrait.png", "tiny.png")


@pytest.fixture
def folder(server: Server) -> Iterator[Path]:
    """A folder of three pictures in the input folder."""
    made = server.base / "input" / "set"
    made.mkdir()
    for name in PICTURES:
        shutil.copy(GOLDEN / "images" / name, made / name)
    yield made
    shutil.rmtree(made)


def captioned(client: Client, **inputs: object) -> tuple[Run, str]:
    graph = Graph()
    node = graph.add("JanusCaptionFolder", **{"model": graph.load(), "folder": "set", **inputs})
    return client.run(graph), node


def texts_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.txt"))}


def message(run: Run) -> str:
    assert run.error is not None
    assert run.error["node_type"].startswith("Janus")
    return str(run.error["exception_message"])


# folders


def test_every_picture_gets_the_text_that_the_command_line_writes(
    client: Client, folder: Path, core: CoreResults
) -> None:
    run, node = captioned(client)
    assert run.error is None, run.error
    texts = texts_in(folder)
    assert list(texts) == ["landscape.txt", "portrait.txt", "tiny.txt"]
    assert list(texts.values()) == [f"{text}\n" for text in core.texts["folder"]]
    assert run.shown(node) == ["3 captioned, 0 had a text already"]
    assert run.progress_of(node)[-1] == (3, 3)


def test_a_second_run_skips_what_is_there_and_a_third_is_not_made(client: Client, folder: Path) -> None:
    captioned(client)
    before = texts_in(folder)
    run, node = captioned(client)
    assert run.shown(node) == ["0 captioned, 3 had a text already"]
    assert texts_in(folder) == before
    assert node in captioned(client)[0].cached

    shutil.copy(folder / "tiny.png", folder / "new.png")
    run, node = captioned(client)
    assert run.shown(node) == ["1 captioned, 3 had a text already"]


def test_texts_of_all_pictures_come_out_old_ones_too(client: Client, folder: Path) -> None:
    (folder / "portrait.txt").write_text("mine\n", encoding="utf-8")
    graph = Graph()
    node = graph.add("JanusCaptionFolder", model=graph.load(), folder="set")
    shown = graph.add("PreviewAny", source=[node, 1])
    run = client.run(graph)
    assert run.error is None, run.error
    told = list(run.outputs[shown]["text"])
    texts = texts_in(folder)
    assert "mine" in texts["portrait.txt"]
    assert told == [text.strip() for text in texts.values()]


@pytest.mark.parametrize("existing", ["append", "overwrite"])
def test_texts_that_are_there_are_appended_to_or_replaced(
    client: Client, folder: Path, existing: str
) -> None:
    (folder / "tiny.txt").write_text("mine\n", encoding="utf-8")
    flags = {"existing": existing, "prefix": "a style,\n", "suffix": "\nend", "one_line": True}
    run, _ = captioned(client, **flags)
    assert run.error is None, run.error
    text = texts_in(folder)["tiny.txt"]
    assert text.startswith("mine, a style, " if existing == "append" else "a style, ")
    assert text.endswith(" end\n")
    assert text.count("\n") == 1


def test_subfolders_are_looked_into_on_request(client: Client, folder: Path) -> None:
    (folder / "more").mkdir()
    shutil.copy(folder / "tiny.png", folder / "more" / "deep.png")
    run, node = captioned(client)
    assert "passed over: 1 subfolder (recursive looks into them)" in run.outputs[node]["janus_remarks"]
    assert "deep.txt" not in texts_in(folder)
    captioned(client, recursive=True)
    assert "deep.txt" in texts_in(folder)


def test_cancel_keeps_finished_batches_and_the_next_run_goes_on(client: Client, folder: Path) -> None:
    for number in range(30):
        shutil.copy(folder / "tiny.png", folder / f"{number:02}.png")
    graph = Graph()
    flags = {"max_new_tokens": 200, "temperature": 1.0}
    node = graph.add("JanusCaptionFolder", model=graph.load(), folder="set", **flags)
    pressed: list[float] = []

    def cancel(run: Run) -> None:
        if not pressed and any(done >= 8 for done, _ in run.progress_of(node)):
            pressed.append(time.monotonic())
            client.interrupt()

    run = client.follow(client.submit(graph), cancel)
    assert run.interrupted
    assert pressed
    before = texts_in(folder)
    assert 8 <= len(before) < 33
    assert run.texts_of(node)[-1].startswith(
        f"Stopped at {len(before)} of 33 pictures. Their captions are kept"
    )

    run = client.run(graph)
    assert run.shown(node) == [f"{33 - len(before)} captioned, {len(before)} had a text already"]
    assert before.items() <= texts_in(folder).items()


def test_a_broken_picture_does_not_lose_the_others(client: Client, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    run, node = captioned(client)
    said = "\n".join(run.outputs[node]["janus_remarks"])
    assert run.shown(node) == ["3 captioned, 0 had a text already, 1 failed"]
    assert 'broken.png" is damaged' in said
    assert "passed over: 1 file of another kind (.pdf 1)" in said


def test_speed_and_cut_off_captions_are_told(client: Client, folder: Path) -> None:
    run, node = captioned(client, max_new_tokens=3)
    said = run.outputs[node]["janus_remarks"]
    assert "3 of 3 captions cut off at 3 tokens: raise max_new_tokens" in said
    assert any(remark.startswith("9 tokens in ") and remark.endswith(" a second") for remark in said)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"folder": ""}, "No folder is named"),
        ({"folder": "nothing-here"}, "There is no folder"),
        ({"folder": "~nobody-of-that-name/photos"}, "There is no folder"),
        ({"folder": ".."}, "lies outside ComfyUI's input and output folders"),
        ({"folder": "set/../../user"}, "lies outside ComfyUI's input and output folders"),
        ({"folder": "/etc"}, "janus_datasets: /etc"),
        ({"folder": "null\0"}, "No folder is named"),
        ({"folder": "set/empty"}, "has no pictures"),
        ({"folder": "set/broken"}, "None of the 1 pictures could be captioned"),
        ({"folder": "set/twins"}, "would share one .txt. Rename one of them"),
        ({"style": "custom"}, 'The caption style "custom" asks nothing by itself'),
    ],
)
def test_what_cannot_be_captioned_is_named(
    client: Client, folder: Path, inputs: dict[str, str], said: str
) -> None:
    for name in ("empty", "broken", "twins"):
        (folder / name).mkdir()
    (folder / "broken" / "a.png").write_bytes(b"no picture")
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (20, 20)).save(folder / "twins" / name)
    run, _ = captioned(client, **inputs)
    assert said in message(run)
    assert texts_in(folder) == {}


def test_a_way_to_treat_texts_that_came_along_a_link_is_checked(client: Client, folder: Path) -> None:
    (folder / "tiny.txt").write_text("mine\n", encoding="utf-8")
    graph = Graph()
    existing = graph.text("replace")
    graph.add("JanusCaptionFolder", model=graph.load(), folder="set", existing=existing)
    assert 'There is no way "replace"' in message(client.run(graph))
    assert texts_in(folder) == {"tiny.txt": "mine\n"}


def test_a_whole_path_inside_the_input_folder_is_taken(client: Client, folder: Path) -> None:
    assert captioned(client, folder=f'"{folder}"')[0].error is None
    assert len(texts_in(folder)) == 3


def test_a_folder_elsewhere_is_captioned_where_the_settings_allow_it(
    crowded_client: Client, crowded_server: Server
) -> None:
    allowed = crowded_server.base.parent / "elsewhere" / "photos"
    beside = allowed.with_name("photos-of-others")
    for place in (allowed, beside):
        place.mkdir(parents=True)
        shutil.copy(GOLDEN / "images" / "tiny.png", place)
    shutil.copytree(allowed, allowed / "holiday")
    for name in (str(allowed), "holiday"):  # a relative name is looked for there, too
        run, _ = captioned(crowded_client, folder=name)
        assert run.error is None, run.error
    run, _ = captioned(crowded_client, folder=str(beside))
    assert "lies outside" in message(run)
    assert [len(list(place.rglob("*.txt"))) for place in (allowed, beside)] == [2, 0]


# pairs


def test_pictures_and_texts_are_saved_in_pairs_over_no_other_file(
    client: Client, server: Server, folder: Path
) -> None:
    saved = server.base / "output" / "pairs"
    saved.mkdir()
    (saved / "a_00002_.txt").write_text("mine", encoding="utf-8")
    graph = Graph()
    pictures = graph.made("pattern", count=2)
    texts = [graph.add("JanusCaption", model=graph.load(), image=pictures), 0]
    node = graph.add("JanusSaveCaptions", images=pictures, texts=texts, filename_prefix="pairs/a")
    workflow = {"nodes": [], "version": 0.4}
    run = client.run(graph, extra_pnginfo={"workflow": workflow})
    assert run.error is None, run.error

    names = [image["filename"] for image in run.outputs[node]["images"]]
    assert sorted(path.name for path in saved.iterdir()) == sorted(
        [*names, *(name.replace(".png", ".txt") for name in names), "a_00002_.txt"]
    )
    assert len(set(names)) == 2
    assert (saved / "a_00002_.txt").read_text(encoding="utf-8") == "mine"
    for name, text in zip(names, run.outputs[node]["text"], strict=True):
        assert (saved / name).with_suffix(".txt").read_text(encoding="utf-8") == f"{text}\n"
        with Image.open(saved / name) as picture:
            assert json.loads(picture.text["workflow"]) == workflow
            assert json.loads(picture.text["prompt"])[node]["class_type"] == "JanusSaveCaptions"
    drawn = client.pictures(run, node)
    assert drawn.shape == (2, 64, 64, 3)
    assert np.ptp(drawn) > 0


def test_lists_of_pictures_of_different_sizes_are_saved(client: Client, server: Server) -> None:
    graph = Graph()
    pictures = [graph.add("JanusTestPictureList"), 0]  # batches of 1, 2 and 1
    texts = [graph.add("JanusCaption", model=graph.load(), image=pictures), 0]
    node = graph.add("JanusSaveCaptions", images=pictures, texts=texts, filename_prefix="lists/a")
    run = client.run(graph)
    assert run.error is None, run.error
    sizes = [picture.shape[:2] for picture in client.pictures_of_any_size(run, node)]
    assert sizes == [(64, 64), (40, 97), (40, 97), (120, 33)]


def test_pictures_without_a_text_each_are_refused(client: Client, server: Server) -> None:
    graph = Graph()
    graph.add(
        "JanusSaveCaptions", images=graph.made("pattern", count=2), texts=graph.text("one"),
        filename_prefix="few/a",
    )  # fmt: skip
    assert "There are 2 pictures and 1 texts; each picture needs its own" in message(client.run(graph))
    assert not (server.base / "output" / "few").exists()


# styles of one's own


@pytest.fixture
def styles(server: Server) -> Iterator[Path]:
    path = server.base / "user" / "janus" / "captions.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def choices(client: Client) -> list[str]:
    spec = client.get("/object_info/JanusCaption")["JanusCaption"]["input"]["optional"]["style"]
    return spec[0] if isinstance(spec[0], list) else spec[1]["options"]


def caption_with(client: Client, style: str, question: str = "") -> tuple[Run, str]:
    graph = Graph()
    picture = graph.picture("tiny.png")
    node = graph.add("JanusCaption", model=graph.load(), image=picture, style=style, question=question)
    return client.run(graph), node


def test_a_style_of_ones_own_is_offered_and_asked(client: Client, styles: Path) -> None:
    styles.write_text('shop = "Describe the product."\n', encoding="utf-8")
    assert choices(client) == ["short", "detailed", "tags", "text", "shop", "custom", "raw"]
    run, node = caption_with(client, "shop")
    assert run.error is None, run.error
    same, other = caption_with(client, "custom", "Describe the product.")
    assert run.answers(node) == same.answers(other)


def test_a_style_that_is_rewritten_is_asked_anew(client: Client, styles: Path) -> None:
    styles.write_text('shop = "Describe the product."\n', encoding="utf-8")
    before = caption_with(client, "shop")
    styles.write_text('shop = "Name the colours of the product."\n', encoding="utf-8")
    run, node = caption_with(client, "shop")
    assert node not in run.cached
    assert run.answers(node) != before[0].answers(before[1])


def test_how_fast_captions_were_written_is_told(client: Client) -> None:
    run, node = caption_with(client, "short", "How fast?")
    assert re.fullmatch(r"\d+ tokens in \d+\.\d s: \d+\.\d a second", run.outputs[node]["janus_remarks"][-1])


def test_a_raw_text_is_sent_without_the_template(client: Client, core: CoreResults) -> None:
    run, node = caption_with(client, "raw", "A picture of")
    assert run.answers(node) == core.texts["raw"]


def test_a_file_of_styles_with_an_error_is_named_and_does_not_stop_the_built_in_ones(
    client: Client, server: Server, styles: Path
) -> None:
    styles.write_text('shop = "Describe the product."\n[more]\nasking = "x"\n', encoding="utf-8")
    said = f'Line 3 of "{styles}": the style "more" has the key "asking"'
    assert choices(client) == ["short", "detailed", "tags", "text", "custom", "raw"]
    run, node = caption_with(client, "short")
    assert run.error is None
    assert any(remark.startswith(said) for remark in run.outputs[node]["janus_remarks"])
    with pytest.raises(RefusedError) as refused:
        caption_with(client, "shop")
    [error] = [each for found in refused.value.node_errors.values() for each in found["errors"]]
    assert 'There is no caption style "shop"' in error["details"]
    assert said in error["details"]
    assert server.log().count(f"Janus: {said}") == 1  # the combo is asked for its choices many times
