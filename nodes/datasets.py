"""Training sets: caption whole folders of pictures, and save pictures with their texts beside them."""

from typing import Any

import torch
from comfy_api.latest import io

from ..janus_core import CaptionRun, CaptionTask, ImageError, TextOptions, read_picture, survey
from .bridge import datasets, presets
from .bridge.hosting import HostedJanus
from .bridge.images import to_pictures
from .bridge.remarks import KEY as REMARKS
from .bridge.remarks import on_caption
from .bridge.saving import png_bytes, png_notes, save_files, shown_file
from .compat import schema, widget
from .types import JanusSocket
from .widgets import caption_frame, caption_options, stop_texts, text_options


class JanusCaptionFolder(io.ComfyNode):
    """Caption the pictures of a folder, a text file beside each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusCaptionFolder",
            display_name="Janus Caption Folder",
            category="Janus",
            description="Captions every picture of a folder and writes a text file beside each, as trainers "
            "read them. What is done is kept when the run is cancelled, and skipped the next time.",
            search_aliases=[
                "caption", "folder", "batch", "dataset", "training", "lora", "tag", "describe", "vlm",
                "janus", "janus pro", "deepseek",
            ],
            is_output_node=True,
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                widget(
                    io.String.Input, "folder",
                    tooltip="A folder in ComfyUI's input or output folder, such as photos, or a whole path. "
                    "Folders elsewhere must be allowed: a line janus_datasets in extra_model_paths.yaml.",
                ),
                *caption_options(),
                *caption_frame(),
                widget(
                    io.Combo.Input, "existing", options=["skip", "append", "overwrite"], default="skip",
                    tooltip="What becomes of a picture that has a text: leave it alone, put the caption "
                    "behind the text, or replace the text.",
                ),
                widget(
                    io.Boolean.Input, "one_line", default=False,
                    tooltip="Whether line breaks become blanks. Many trainers read the first line only.",
                ),
                widget(
                    io.Boolean.Input, "recursive", default=False,
                    tooltip="Whether pictures in subfolders are captioned too.",
                ),
                *text_options(),
            ],
            outputs=[
                io.String.Output(
                    "counts", display_name="counts", tooltip="How many pictures were captioned, in words."
                ),
                io.String.Output(
                    "text", display_name="text", is_output_list=True,
                    tooltip="The text beside every picture, in order of the files' names; older ones too.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: HostedJanus,
        folder: str,
        style: str = "detailed",
        question: str = "",
        prefix: str = "",
        suffix: str = "",
        existing: Any = "skip",
        one_line: bool = False,
        recursive: bool = False,
        seed: int = 0,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 0.95,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        max_new_tokens: int = 512,
        stop: str = "",
    ) -> io.NodeOutput:
        """Caption the folder."""
        options = TextOptions(
            max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            repetition_penalty=repetition_penalty, stop=stop_texts(stop),
        )  # fmt: skip
        task = CaptionTask(
            request=presets.request(style, question), options=options, seed=seed, prefix=prefix,
            suffix=suffix, is_one_line=one_line,
        )  # fmt: skip
        store = datasets.sidecars(existing, one_line=one_line)
        place = str(datasets.dataset_folder(folder))
        seen = survey([place], store, recursive=recursive, recursive_name="recursive")
        watch = datasets.FolderProgress(cls.hidden.unique_id, len(seen.todo), options)
        run = CaptionRun(task, seen.todo, store, watch)
        datasets.caption_pictures(run, seen, model, watch)
        texts, counts = datasets.texts_of(seen, store, run), datasets.summary(run, seen)
        said = [*datasets.remarks(run, seen, store, watch), *presets.presets().problems]
        said += on_caption(model.world)
        return io.NodeOutput(counts, texts, ui={"text": [counts], REMARKS: said})

    @classmethod
    def validate_inputs(cls, style: str | None = None) -> bool | str:
        """Say of a style that is not there which ones are, and what is wrong with the file of one's own."""
        return presets.check_style(style)

    @classmethod
    def fingerprint_inputs(
        cls,
        folder: str | None = None,
        style: str | None = None,
        existing: Any = "skip",
        recursive: bool | None = False,
        **_: Any,
    ) -> Any:
        """Return what changes when the folder has something to do, or the style is rewritten in its file."""
        state = datasets.dataset_state(folder, bool(recursive), existing)
        return state + presets.style_state(style)


class JanusSaveCaptions(io.ComfyNode):
    """Save pictures, each with its text beside it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusSaveCaptions",
            display_name="Save Janus Captions",
            category="Janus",
            description="Saves every picture as a PNG with its text in a file of the same name, as trainers "
            "read them, into the output folder; never over an existing file.",
            search_aliases=[
                "save", "caption", "dataset", "training", "lora", "pairs", "txt", "janus", "janus pro",
                "deepseek",
            ],
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures: a batch, a list, or a list of batches."),
                io.String.Input(
                    "texts", force_input=True,
                    tooltip="One text for each picture, in order: from Janus Caption.",
                ),
                widget(
                    io.String.Input, "filename_prefix", default="janus/caption",
                    tooltip="Start of the files' names; a slash makes a subfolder of the output folder.",
                ),
            ],
            outputs=[],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, images: list[torch.Tensor], texts: list[str], filename_prefix: list[str] | None = None
    ) -> io.NodeOutput:
        """Save the pairs under the next free names."""
        [prefix, *_] = filename_prefix or ["janus/caption"]
        pictures = [picture for batch in images for picture in to_pictures(batch, "images")]
        if len(pictures) != len(texts):
            raise ImageError(
                f"There are {len(pictures)} pictures and {len(texts)} texts; each picture needs its own. "
                "Connect the pictures that Janus Caption has seen, and its text."
            )
        notes, saved = png_notes(cls.hidden.prompt, cls.hidden.extra_pnginfo), []
        for picture, text in zip(pictures, texts, strict=True):
            rgb = read_picture(picture)
            # the text first: what watches a folder for pictures then finds both
            contents = {".txt": f"{text}\n".encode("utf-8", "replace"), ".png": png_bytes(rgb, notes)}
            saved.append(save_files(prefix, contents, rgb.size)[-1])
        shown = [shown_file(path) for path in saved]
        return io.NodeOutput(ui={"images": shown, "text": list(texts)})
