"""Every error message with its cure, from the source: `python -m tools.messages` writes docs/messages.md.

Messages are the first arguments of the error classes of `janus_core/errors.py`. Their first sentence says
what happened, the others what to do; where there is one sentence alone, the cure is that of its class.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "messages.md"
ROOMS = ("janus_core", "nodes")
ANY = "…"  # stands for a value

# In the order of the page: what a class of errors is about, and what helps where a message says no more.
CLASSES = {
    "ConfigError": (
        "A configuration file",
        "The model's `config.json` or a file of caption styles states something that cannot be.",
        "Fetch the model's files again; correct a file of your own where the message says.",
    ),
    "CheckpointError": (
        "A model folder",
        "Files, tensors or tokenizer of a model cannot be used.",
        "Fetch the file that is named again from where the weights come from.",
    ),
    "PromptError": (
        "A prompt or question",
        "It cannot be turned into tokens.",
        "Change the text as the message says.",
    ),
    "PromptTooLongError": (
        "A prompt that is too long",
        "It does not fit into the model's context, with its pictures and what is to be written.",
        "Shorten it, show fewer pictures, or lower max_new_tokens.",
    ),
    "ImageError": (
        "A picture, a mask or image tokens",
        "They cannot be used.",
        "Open the picture in an editor and save it again as PNG; tokens, make again.",
    ),
    "SamplingError": (
        "A setting",
        "An option for drawing or answering is out of its range, or a model's scores are no numbers.",
        "Choose a value in the range that the message states.",
    ),
    "DownloadError": (
        "A download",
        "A published model cannot be fetched, or its files are no longer as they came.",
        "Download again; it goes on where it stopped.",
    ),
    "OutputError": (
        "A result",
        "It cannot be written where it was asked for.",
        "Choose a place that you may write to and that has room.",
    ),
}
_INTRODUCTION = """# Every message

All messages of errors, in the words in which they appear; … stands for names and numbers of your own. What
goes wrong most often, and why, is explained in [Troubleshooting](troubleshooting.md). Written by `python -m
tools.messages` from the source; a test holds that none is left out.
"""


@dataclass(frozen=True, order=True)
class Message:
    """A message and its cure, which is empty where the message has one sentence alone."""

    kind: str
    what: str
    cure: str


def _constants(tree: ast.Module) -> dict[str, str]:
    """Return a module's own texts by their names."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = _text(node.value, {})
            if text is not None:
                found[node.targets[0].id] = text
    return found


def _text(node: ast.expr, constants: dict[str, str]) -> str | None:
    """Return an expression as text, values as `…`; None if it is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [_text(side, constants) for side in (node.left, node.right)]
        return None if None in sides else "".join(side or "" for side in sides)
    if isinstance(node, ast.JoinedStr):
        parts = []
        for part in node.values:
            value = part.value if isinstance(part, ast.FormattedValue) else part
            known = constants.get(value.id) if isinstance(value, ast.Name) else _text(value, constants)
            is_words = not isinstance(part, ast.FormattedValue) or isinstance(value, ast.Name)
            parts.append(known if known is not None and is_words else ANY)
        return "".join(parts)
    return None


def _split(kind: str, text: str) -> Message:
    """Part what happened from what to do, at the end of the first sentence."""
    plain = re.sub(r"(…[ ]?)+…", ANY, " ".join(text.split()))
    what, _, cure = (part.strip() for part in re.sub(r"\. (?=[A-Z…])", "\0", plain, count=1).partition("\0"))
    says_something = re.search(r"[a-z]", cure.replace(ANY, ""))
    return Message(kind, what.rstrip("."), cure if says_something else "")


def _in_file(path: Path, shared: dict[str, str]) -> Iterator[Message]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = shared | _constants(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        text = _text(node.args[0], constants) if node.func.id in CLASSES else None
        if text is not None and len(re.findall(r"[A-Za-z]{2,}", text)) > 2:
            yield _split(node.func.id, text)


def all_messages(root: Path = ROOT) -> list[Message]:
    """Return the messages of engine and nodes, each once, in the order of the page."""
    files = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
    shared: dict[str, str] = {}
    for path in files:  # public names that other files import
        own = _constants(ast.parse(path.read_text(encoding="utf-8")))
        shared |= {name: text for name, text in own.items() if not name.startswith("_")}
    found = {message for path in files for message in _in_file(path, shared)}
    order = list(CLASSES)
    return sorted(found, key=lambda message: (order.index(message.kind), message.what.lower(), message.cure))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def page(messages: list[Message]) -> str:
    """Return the page: a table for each class of errors."""
    parts = [_INTRODUCTION]
    for kind, (title, about, cure) in CLASSES.items():
        rows = [message for message in messages if message.kind == kind]
        if rows:
            parts.append(f"## {title}\n\n{about}\n\n| message | what to do |\n|---|---|")
            parts[-1] += (
                "".join(f"\n| {_cell(row.what)} | {_cell(row.cure or cure)} |" for row in rows) + "\n"
            )
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(all_messages()), encoding="utf-8")


if __name__ == "__main__":
    main()
