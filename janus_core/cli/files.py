"""Files of pictures and results: found and checked before the model is loaded, written whole."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..errors import OutputError
from ..inputs.preprocessing import to_uint8
from ..outputs import partial, ready_folder

_SOFTWARE = "janus-nodes"


def ready_file(path: Path) -> Path:
    """Check that a file can be written, in a folder that is created if need be.

    Raises:
        OutputError: the folder cannot be written to, or a folder has the file's name.
    """
    ready_folder(path.parent)
    if path.is_dir():
        raise OutputError(f'Cannot write "{path}": it is a folder. Add a file name.')
    return path


def check_picture_name(path: Path) -> None:
    """Raise OutputError unless the name has the ending of a picture format that can be written."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise OutputError(
            f'Cannot write "{path}": its ending names no picture format. End it in .png, .jpg or .webp.'
        )


def save_picture(image: Tensor, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write one picture (h, w, 3) in 0..1, with text chunks where the format is PNG.

    Raises:
        OutputError: the file cannot be written, or its ending names no picture format.
    """
    chunks = PngInfo()
    for key, value in {**(notes or {}), "software": _SOFTWARE}.items():
        # A prompt from the command line may hold bytes that are not UTF-8.
        chunks.add_itxt(key, value.encode("utf-8", "replace").decode("utf-8"))
    picture = Image.fromarray(to_uint8(image[None])[0])
    try:
        with partial(path) as part:  # the ending stays: Pillow chooses the format by it
            if path.suffix.lower() == ".png":
                picture.save(part, pnginfo=chunks)
            else:
                picture.save(part)
            part.replace(path)
    except (OSError, ValueError) as error:
        raise OutputError(
            f'Cannot write "{path}": {error}. Choose another name, for example one in .png.'
        ) from error


def unused(path: Path) -> Path:
    """Return the path, with a counter if it exists."""
    free, count = path, 1
    while free.exists():
        count += 1
        free = path.with_name(f"{path.stem}_{count}{path.suffix}")
    return free
