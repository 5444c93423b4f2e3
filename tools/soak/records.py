"""What a run has done, kept line by line, so that it goes on where it was cut off.

Remembers the results of every job by what was asked, and every finished file by its content: an equal job
must give equal results, and a finished file stays as it is. Knows nothing of servers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open

_TEXT_NODES = ("JanusAsk", "JanusCaption", "JanusChoose", "JanusScore")
_SAVING = ("SaveImage", "JanusSavePictures", "JanusSaveTokens", "JanusSaveCaptions")


@dataclass
class Records:
    """The lines of a run, and what follows from them.

    Attributes:
        path: of the lines.
        lines: all of them.
        results: digests by what was asked.
        files: digests by path below the output folder.
        repeated: how many results were compared with an earlier one.
    """

    path: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    repeated: int = 0

    @classmethod
    def open(cls, path: Path) -> Records:
        """Read what there is; a last line that was cut off is forgotten."""
        records = cls(path)
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        for line in whole.splitlines():
            records._take(json.loads(line))
        path.write_text(whole, encoding="utf-8")
        return records

    @property
    def elapsed_s(self) -> float:
        """How long the run has lasted, pauses between its parts left out."""
        return float(self.lines[-1]["at_s"]) if self.lines else 0.0

    @property
    def next_number(self) -> int:
        """The number of the next job."""
        return 1 + max((line["number"] for line in self.of("job")), default=-1)

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the lines about one kind of event."""
        return [line for line in self.lines if line["event"] == event]

    def add(self, event: str, at_s: float, **content: Any) -> None:
        """Keep a line."""
        line = {"event": event, "at_s": round(at_s, 2), **content}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        self.files |= line.get("files", {})
        for asked, digest in line.get("results", {}).items():
            self.repeated += asked in self.results
            self.results.setdefault(asked, digest)

    def differing(self, results: Mapping[str, str]) -> list[str]:
        """Return what was answered otherwise the first time."""
        return [asked for asked, digest in results.items() if self.results.get(asked, digest) != digest]

    def lost(self, output: Path) -> list[str]:
        """Return the finished files that are gone or changed."""
        return [name for name, digest in self.files.items() if digest_of(output / name) != digest]

    def saved(self, ending: str, prefix: str) -> list[str]:
        """Return finished files as ComfyUI names those of its output folder."""
        return [
            f"{name} [output]"
            for name in self.files
            if name.endswith(ending) and Path(name).name.startswith(prefix)
        ]


def digest_of(path: Path) -> str:
    """Return the digest of a file's content; empty without a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def is_whole(path: Path) -> bool:
    """Tell whether a picture, token file or text can be read to its end."""
    try:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                return bool(file.get_tensor("grid").size)
        else:
            return bool(path.read_text(encoding="utf-8").strip())
    except Exception:  # noqa: BLE001 - whatever its reader raises, it cannot be read
        return False
    return True


def output_files(outputs: Mapping[str, Any], graph: Mapping[str, Any]) -> list[str]:
    """Return the paths below the output folder of the files that a finished job tells of."""
    names = []
    for node, shown in outputs.items():
        names += [f"{one['subfolder']}/{one['filename']}" for one in shown.get("images", ())]
        if graph[node]["class_type"] == "JanusSaveTokens":
            folder = Path(graph[node]["inputs"]["filename_prefix"]).parent
            names += [str(folder / name) for name in shown["text"]]
    pictures = [name for name in names if "/caption_" in name]
    return [*names, *(str(Path(name).with_suffix(".txt")) for name in pictures)]


def results_of(outputs: Mapping[str, Any], graph: Mapping[str, Any], output: Path) -> dict[str, str]:
    """Return digests of the texts and pixels of a finished job, by what was asked and the node."""
    asked = hashlib.sha256(json.dumps(_without_prefixes(graph), sort_keys=True).encode()).hexdigest()[:16]
    found = {}
    for node, shown in outputs.items():
        if graph[node]["class_type"] in _TEXT_NODES:
            text = json.dumps(shown["text"], ensure_ascii=False).encode()
            found[f"{asked}/{node}"] = hashlib.sha256(text).hexdigest()[:16]
        for row, one in enumerate(shown.get("images", ())):
            with Image.open(output / one["subfolder"] / one["filename"]) as picture:
                pixels = f"{picture.size}".encode() + picture.convert("RGB").tobytes()
            found[f"{asked}/{node}/{row}"] = hashlib.sha256(pixels).hexdigest()[:16]
    return found


def _without_prefixes(graph: Mapping[str, Any]) -> dict[str, Any]:
    return {
        node: {"kind": entry["class_type"]}
        | {key: value for key, value in entry["inputs"].items() if key != "filename_prefix"}
        for node, entry in graph.items()
    }


def must_save(graph: Mapping[str, Any]) -> set[str]:
    """Return the nodes of a graph that write files."""
    return {node for node, entry in graph.items() if entry["class_type"] in _SAVING}
