"""Reads the rooms of docs/architecture.md and the imports of the source, and says which imports go up.

Of the files it knows their imports, nothing else.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path("docs") / "architecture.md"
PACKAGES = ("janus_core", "janus_training", "nodes")
_DOORS = ("__init__", "__main__")  # they hand names on and stand in no room


@dataclass(frozen=True, kw_only=True)
class Room:
    """A row of the table: a file, or a folder with its files from the lowest up."""

    level: int
    path: str
    files: tuple[str, ...]


def read_table(page: str) -> list[Room]:
    """Return the rooms that a page lists: rows of level, room, files and purpose."""
    rows = re.findall(r"^\| (\d+) \| `([\w/]+)` \|([\w ]*)\| .+\. \|$", page, flags=re.MULTILINE)
    return [Room(level=int(level), path=path, files=tuple(files.split())) for level, path, files in rows]


class Stairs:
    """The rooms of a tree and the imports between its modules; a module is its path without `.py`."""

    def __init__(self, rooms: Sequence[Room], root: Path = ROOT) -> None:
        self.rooms = rooms
        self.root = root

    def modules(self) -> list[Path]:
        """Return every module of the packages, below the root."""
        files = (path for package in PACKAGES for path in (self.root / package).rglob("*.py"))
        return sorted(path.relative_to(self.root).with_suffix("") for path in files)

    def inner_modules(self) -> list[Path]:
        """Return the modules that stand in rooms: all but the packages' doors."""
        return [module for module in self.modules() if module.name not in _DOORS]

    def syntax(self, module: Path) -> Iterator[ast.AST]:
        """Walk a module's syntax tree."""
        return ast.walk(ast.parse((self.root / module).with_suffix(".py").read_text(encoding="utf-8")))

    def imported(self, module: Path) -> set[Path]:
        """Return our own modules that one of them imports."""
        found = set()
        for node in self.syntax(module):
            if not isinstance(node, ast.ImportFrom):
                continue
            named = tuple(node.module.split(".")) if node.module else ()
            target = (*module.parts[: len(module.parts) - node.level], *named) if node.level else named
            if target and target[0] in PACKAGES and (node.level or target[0] != "nodes"):
                names = [Path(*target, alias.name) for alias in node.names]
                found |= {name if self._is_module(name) else Path(*target) for name in names}
        return found

    def _is_module(self, path: Path) -> bool:
        return (self.root / path).is_dir() or (self.root / path).with_suffix(".py").is_file()

    def room_of(self, module: Path) -> Room | None:
        """Return the room that a module stands in; doors stand in none."""
        places = (module.as_posix(), module.parent.as_posix())
        here = [room for room in self.rooms if room.path in places]
        return here[0] if here else None

    def upward(self, module: Path) -> list[str]:
        """Return what a module imports although it does not stand below it."""
        own = self.room_of(module)
        assert own is not None, module
        wrong = []
        for imported in self.imported(module):
            room = self.room_of(imported)
            if room is None:
                # A package itself: only nodes may take the engine's public names from its door.
                is_allowed = own.path.startswith("nodes") and imported == Path("janus_core")
            elif room == own:
                is_allowed = own.files.index(imported.name) < own.files.index(module.name)
            else:
                is_allowed = room.level < own.level
            if not is_allowed:
                wrong.append(imported.as_posix())
        return sorted(wrong)

    def arrows(self) -> set[tuple[Room, Room]]:
        """Return which room imports which other; doors, which only hand names on, are left out."""
        found = set()
        for module in self.inner_modules():
            own = self.room_of(module)
            rooms = (self.room_of(imported) for imported in self.imported(module))
            found |= {(own, room) for room in rooms if own is not None and room not in (None, own)}
        return {(upper, lower) for upper, lower in found if lower is not None}
