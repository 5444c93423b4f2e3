"""Files in the output folder: under free names, PNGs with the workflow inside as core writes them."""

import io
import json
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...janus_core import TOKENS_NOTE, OutputError
from .folders import unused_files

_COMPRESSION = 4  # as core's Save Image


def save_files(filename_prefix: str, contents: dict[str, bytes], size: tuple[int, int]) -> list[Path]:
    """Write files of one stem, `<prefix>_00001_` and so on, all of them or none, over no other file.

    Args:
        filename_prefix: start of the name; a slash makes a subfolder of the output folder.
        contents: by ending.
        size: width and height, for %width% and %height% in the prefix.

    Raises:
        OutputError: the prefix leads out of the output folder, or a file cannot be written.
    """
    while True:
        paths, written = unused_files(filename_prefix, tuple(contents), size), list[Path]()
        try:
            for path, content in zip(paths, contents.values(), strict=True):
                with path.open("xb") as file:
                    written.append(path)
                    file.write(content)
            return paths
        except FileExistsError:  # another prompt was faster: take the next number
            _remove(written)
        except OSError as error:
            _remove(written)
            raise OutputError(f'Cannot write "{paths[0]}": {error}. Make room and run it again.') from error


def _remove(written: list[Path]) -> None:
    for path in written:
        path.unlink(missing_ok=True)


def png_notes(prompt: Any, extra_pnginfo: Any, tokens_note: str = "") -> PngInfo:
    """Return the text chunks of a PNG: graph and workflow unless ComfyUI leaves them out, and image tokens.

    Args:
        prompt: the graph as it runs, from the node's hidden inputs.
        extra_pnginfo: what the page sent, the workflow among it, or None.
        tokens_note: from `write_note`.
    """
    notes = PngInfo()
    if tokens_note:
        notes.add_text(TOKENS_NOTE, tokens_note, zip=True)
    if not args.disable_metadata:
        for key, value in {"prompt": prompt, **(extra_pnginfo or {})}.items():
            if value is not None:
                notes.add_text(key, json.dumps(value))
    return notes


def png_bytes(picture: Image.Image, notes: PngInfo) -> bytes:
    """Return a picture as the content of a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=notes, compress_level=_COMPRESSION)
    return buffer.getvalue()


def shown_file(path: Path) -> dict[str, str]:
    """Return a file of the output folder as the page finds it."""
    folder = path.parent.relative_to(Path(folder_paths.get_output_directory()).absolute())
    subfolder = "" if folder == Path() else folder.as_posix()
    return {"filename": path.name, "subfolder": subfolder, "type": "output"}
