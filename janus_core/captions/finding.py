"""Which pictures are meant: files, folders and patterns become a list, and what is passed over is counted."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from PIL import Image

from ..errors import ImageError

# Formats that Pillow knows by name and cannot decode, pages without pixels, and data of other trades.
_NO_PICTURES = {"EPS", "PDF", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS", "IPTC", "PCD"}
# What reads formats that Pillow cannot: the module and how it is switched on, and its name for pip.
_PLUGINS = {
    (".heic", ".heif", ".hif"): ("pillow_heif", "register_heif_opener", "pillow-heif"),
    (".jxl",): ("pillow_jxl", "", "pillow-jxl-plugin"),
    (".avif",): ("pillow_avif", "", "pillow-avif-plugin"),
}


@dataclass(kw_only=True)
class Found:
    """What was found.

    Attributes:
        pictures: in order, each once.
        other: how many files of another kind, by their ending.
        hidden: how many files and folders whose names begin with a dot.
        subfolders: how many folders that were not looked into.
        recursive_name: what a person calls the choice to look into them.
    """

    pictures: list[Path] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    subfolders: int = 0
    recursive_name: str = "--recursive"

    def passed_over(self) -> str:
        """Say what was passed over and why, or nothing."""
        said = []
        if self.subfolders:
            said.append(f"{_count(self.subfolders, 'subfolder')} ({self.recursive_name} looks into them)")
        if self.other:
            kinds = ", ".join(f"{ending or 'no ending'} {n}" for ending, n in self.other.most_common(6))
            said.append(f"{_count(self.other.total(), 'file')} of another kind ({kinds})")
        if self.hidden:
            said.append(f"{self.hidden} hidden")
        for endings, (_, _, package) in _PLUGINS.items():
            if any(self.other[ending] for ending in endings):
                said.append(f"{endings[0]} needs {package}: pip install {package}")
        return f"passed over: {'; '.join(said)}" if said else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def picture_endings() -> frozenset[str]:
    """Return every ending of a file that can be opened as a picture."""
    formats = Image.registered_extensions()
    return frozenset(
        ending
        for ending, kind in formats.items()
        if (kind in Image.OPEN or kind == "MPO") and kind not in _NO_PICTURES
    )


def _load_plugins() -> None:
    """Switch on whatever is installed for formats that Pillow itself cannot read."""
    for endings, (module, switch, _) in _PLUGINS.items():
        if endings[0] not in picture_endings():
            with suppress(ImportError):
                plugin = import_module(module)
                if switch:
                    getattr(plugin, switch)()


def find_pictures(
    paths: Sequence[str], *, recursive: bool = False, beside: str = "", recursive_name: str = "--recursive"
) -> Found:
    """List pictures: files as given, folders by the pictures in them, patterns by what they match.

    Args:
        paths: as a person gave them.
        recursive: whether folders are looked into at any depth.
        beside: ending of the text files that belong to pictures and are not worth a word.
        recursive_name: what the person who gave the paths calls the choice `recursive`.

    Raises:
        ImageError: a path that does not exist, or a folder without pictures.
    """
    _load_plugins()
    looking = _Looking(picture_endings(), recursive, beside)
    looking.found.recursive_name = recursive_name
    for path in paths:
        try:
            looking.at(path)
        except OSError as error:
            raise ImageError(f'Cannot look at "{path}": {error.strerror}. Check the path.') from error
    return looking.found


def expanded(given: str) -> list[str]:
    """Return what a pattern matches, where no shell has expanded it; anything else as it is."""
    _load_plugins()  # a picture that is named directly may need them as well
    if not glob.has_magic(given) or Path(given).exists():
        return [given]
    return [str(path) for path in find_pictures([given]).pictures]


class _Looking:
    """Goes through paths and notes what is there."""

    def __init__(self, endings: frozenset[str], recursive: bool, beside: str) -> None:
        self.found = Found()
        self._endings = endings
        self._recursive = recursive
        self._beside = beside
        self._seen: set[str] = set()

    def at(self, given: str) -> None:
        """Take what one path means."""
        path = Path(given)
        if path.is_dir():
            if not self._consider(list(self._files(path))):
                hint = (
                    f"{self.found.recursive_name} looks into its subfolders"
                    if self.found.subfolders
                    else "Choose another one"
                )
                raise ImageError(
                    f'The folder "{path}" has no pictures (.png, .jpg and all that Pillow opens). {hint}.'
                )
        elif path.exists():
            self._take(path)
        elif glob.has_magic(given):  # a shell expands patterns, the one of Windows does not
            matches = [Path(match) for match in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207
            if not self._consider([path for path in matches if not path.is_dir()]):
                raise ImageError(f'No picture matches "{path}". Check the path.')
        else:
            raise ImageError(f'There is no picture or folder at "{path}". Check the path.')

    def _files(self, folder: Path) -> Iterator[Path]:
        """List files of a folder in order, and at any depth if that is wanted; no folder twice."""
        folders, known = [folder], set[str]()
        while folders:
            current = folders.pop(0)
            real = os.path.realpath(current)
            if real in known:  # a link that leads back
                continue
            known.add(real)
            entries = sorted(current.iterdir())
            inner = [path for path in entries if path.is_dir()]
            yield from (path for path in entries if not path.is_dir())
            visible = [path for path in inner if not path.name.startswith(".")]
            self.found.hidden += len(inner) - len(visible)
            if self._recursive:
                folders = visible + folders
            else:
                self.found.subfolders += len(visible)

    def _consider(self, files: list[Path]) -> int:
        """Take pictures and count anything else; returns how many pictures there were.

        Hidden files are what other programs leave, such as ._photo.jpg.
        """
        visible = [path for path in files if not path.name.startswith(".")]
        self.found.hidden += len(files) - len(visible)
        pictures = [path for path in visible if path.suffix.lower() in self._endings and path.is_file()]
        texts = {path.with_suffix(self._beside) for path in pictures} if self._beside else set()
        self.found.other.update(path.suffix.lower() for path in set(visible) - set(pictures) - texts)
        for path in pictures:
            self._take(path)
        return len(pictures)

    def _take(self, path: Path) -> None:
        key = same_place(path)
        if key not in self._seen:
            self._seen.add(key)
            self.found.pictures.append(path)


def same_place(path: Path) -> str:
    """Return what two paths to one place have in common; links count as places of their own."""
    return os.path.normcase(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
